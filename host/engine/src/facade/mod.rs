//! What callers can do with an engine, one file a subject. Nothing here decides: requests become messages to owners,
//! questions are answered from the store.

mod control;
pub(crate) mod deep;
mod deploy;
mod fork;
mod lookup;
mod reads;
mod relive;
mod results;
mod starts;
mod steps;
mod verify;
