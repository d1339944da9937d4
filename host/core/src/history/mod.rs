//! Checks of whole histories: the chain and the invariants of the design's section 14. The store's suite,
//! `relive verify` and the crash tests call the same functions.

mod chain;
pub mod file;
mod rules;

pub use chain::{check_chain, decode_all};
pub use rules::{Rows, validate, validate_rows};

use crate::codec::CodecError;

/// Something in a history that must not be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("I2: event {found} stands where {expected} should")]
    Gap { expected: u64, found: u64 },
    #[error("I2: the hash of event {0} does not chain to the one before: the stored bytes were changed")]
    BrokenChain(u64),
    #[error("I2: event {0} is older than the event before it")]
    TimeRunsBack(u64),
    #[error("event {event}: {error}")]
    Undecodable { event: u64, error: CodecError },
    #[error("I4: {0}")]
    Lifecycle(String),
    #[error("I5: command numbers do not increase at event {0}")]
    CommandOrder(u64),
    #[error("I6: event {event} resolves command {command_no}, {why}")]
    Resolution { event: u64, command_no: u64, why: &'static str },
    #[error("I6: event {event} is about an attempt of command {command_no}, {why}")]
    Attempt { event: u64, command_no: u64, why: &'static str },
    #[error("I6: event {event} repeats the inbound key {key}")]
    RepeatedInbound { event: u64, key: String },
    #[error("I9: the timer of command {command_no} fired {early_nanos} ns early, at event {event}")]
    EarlyTimer { event: u64, command_no: u64, early_nanos: u64 },
    #[error("I7: {0}")]
    Rows(String),
}
