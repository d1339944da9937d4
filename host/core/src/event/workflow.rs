//! Events of the execution itself.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    failure::Failure,
    ids::{Digest, ExecutionKey, RunId},
    json::Json,
    limits::RunLimits,
};

/// A message that the run before had received and not consumed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CarriedMessage {
    pub channel: Arc<str>,
    pub message_id: Arc<str>,
    pub payload: Json,
}

/// The request that a run was started by, for retries of it: the same key and digest is the same request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartKey {
    /// The caller's idempotency key.
    pub request_id: Arc<str>,
    /// The run that the request started. A run that continues it carries the key on.
    pub run_id: RunId,
    /// SHA-256 of the workflow's name, a zero byte, and the input in its canonical form.
    pub request: Digest,
}

impl StartKey {
    #[must_use]
    pub fn new(request_id: &str, run_id: RunId, workflow: &str, input: &Json) -> Self {
        let request = [workflow.as_bytes(), &[0], &input.canonical()].concat();
        Self { request_id: request_id.into(), run_id, request: Digest::of(&request) }
    }
}

/// The run began. Event 1 of every history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExecutionStarted {
    pub execution: ExecutionKey,
    /// The name under which it was started.
    pub workflow: Arc<str>,
    /// The name under which the component exports it.
    pub export: Arc<str>,
    /// The component that the run is pinned to.
    pub digest: Digest,
    pub input: Json,
    /// Seeds the random streams.
    pub seed: [u8; 32],
    pub limits: RunLimits,
    /// The run that this one continues.
    pub continued_from: Option<RunId>,
    /// Received again before anything else, in this order.
    pub carried_messages: Vec<CarriedMessage>,
    /// A cancel request that the run before did not get to see: delivered right after the start.
    pub carried_cancel: bool,
    /// The request that started it, if that had an idempotency key. Since version 2.
    pub start_key: Option<Arc<StartKey>>,
}

/// The events before were copied from another execution, which this one left there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExecutionForked {
    pub from: ExecutionKey,
    /// The last event that was copied.
    pub through: u64,
}

/// The guest returned a result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExecutionCompleted {
    pub result: Json,
}

/// The guest returned a failure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExecutionFailed {
    pub failure: Failure,
}

/// The guest ended with a `canceled` failure after it was asked to cancel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExecutionCanceled {
    pub failure: Failure,
}

/// An operator ended the run; the guest was not asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExecutionTerminated {
    pub reason: String,
}

/// The guest goes on as a new run of the same workflow id; recorded in one transaction with that run's start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExecutionContinuedAsNew {
    pub new_run_id: RunId,
    pub input: Json,
    /// What the guest said that it had not consumed.
    pub unread_messages: Vec<Arc<str>>,
}

/// Somebody asked the execution to cancel. Delivered to the guest once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CancelRequested {
    pub reason: String,
}

/// Why an execution stands still until somebody acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BlockReason {
    /// The code does not agree with the history.
    NonDeterminism,
    /// The guest trapped, in every try.
    Trap,
    /// The guest used up its fuel, in every try.
    OutOfFuel,
    /// The guest asked for more memory than it may have, in every try.
    OutOfMemory,
    /// The guest waits with nothing open.
    Deadlock,
    /// The guest took the host process down, three times.
    Quarantined,
    /// The component or the history cannot be used: missing, corrupt, or no longer admissible.
    Unusable,
    /// The run has no room for more events.
    HistoryLimit,
}

impl BlockReason {
    pub const ALL: [Self; 8] = [
        Self::NonDeterminism,
        Self::Trap,
        Self::OutOfFuel,
        Self::OutOfMemory,
        Self::Deadlock,
        Self::Quarantined,
        Self::Unusable,
        Self::HistoryLimit,
    ];
}

impl std::fmt::Display for BlockReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NonDeterminism => "non-determinism",
            Self::Trap => "trap",
            Self::OutOfFuel => "out-of-fuel",
            Self::OutOfMemory => "out-of-memory",
            Self::Deadlock => "deadlock",
            Self::Quarantined => "quarantined",
            Self::Unusable => "unusable",
            Self::HistoryLimit => "history-limit",
        })
    }
}

/// The execution needs an operator or other code; it goes on recording what arrives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExecutionBlocked {
    pub reason: BlockReason,
    /// The whole report for people.
    pub report: String,
}

/// The run goes on on another component, which was shown to agree with everything before this event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VersionChanged {
    pub from: Digest,
    pub digest: Digest,
    /// The number of the workflow's version.
    pub version: u32,
    /// What `version(change-id, ..)` answered the new code when it relived the history: so it does whenever it is relived.
    pub answers: BTreeMap<String, u32>,
    pub author: Option<Arc<str>>,
    pub reason: String,
}

/// An operator lets the execution try again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExecutionUnblocked {
    pub reason: String,
}
