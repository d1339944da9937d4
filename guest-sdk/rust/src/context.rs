//! What a workflow can learn about itself and tell the world without waiting. Every answer comes from the history.

use crate::{host, runtime, Failure};
use serde::Serialize;
use std::future::pending;
use std::time::Duration;

/// Who and where this run is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// The namespace that it runs in.
    pub namespace: String,
    /// The caller's key; at most one open run each.
    pub workflow_id: String,
    /// The host's key of this run.
    pub run_id: String,
    /// The name under which the workflow was started.
    pub workflow: String,
    /// SHA-256 of the component that runs, in hexadecimal.
    pub digest: String,
    /// When the run started, since the Unix epoch.
    pub started_at: Duration,
    /// The run that this one continues.
    pub continued_from: Option<String>,
    /// Travels from the start request through every task and log line.
    pub correlation_id: Option<String>,
    /// Events applied and commands issued so far.
    pub history_length: u64,
    /// Whether the history is long enough that [`continue_as_new`] is advised.
    pub continue_as_new_advised: bool,
}

/// Who and where this run is.
pub fn info() -> Info {
    let info = host::info();
    Info {
        namespace: info.namespace,
        workflow_id: info.workflow_id,
        run_id: info.run_id,
        workflow: info.workflow,
        digest: info.digest,
        started_at: Duration::from_nanos(info.started_at),
        continued_from: info.continued_from,
        correlation_id: info.correlation_id,
        history_length: info.history_length,
        continue_as_new_advised: info.continue_as_new_advised,
    }
}

/// The time of the last event that was applied, since the Unix epoch.
pub fn now() -> Duration {
    Duration::from_nanos(host::now())
}

/// 64 bits of the run's own random stream.
pub fn random_u64() -> u64 {
    host::random_u64()
}

/// Bytes of the run's own random stream, at most 65,536 a call; more traps.
pub fn random_bytes(length: u32) -> Vec<u8> {
    host::random_bytes(length)
}

/// A version 4 UUID from the run's own random stream.
pub fn uuid() -> String {
    host::uuid()
}

/// Set a value that queries read without waking the workflow. Fails if the value does not serialise, or is over the
/// host's limit.
pub fn publish(key: &str, value: &(impl Serialize + ?Sized)) -> Result<(), Failure> {
    let value = serde_json::to_string(value).map_err(|error| Failure::encode(key, &error))?;
    host::publish(key, &value).map_err(Failure::from)
}

/// Which side of a change this run is on: `min` in a run that passed here before the change existed, else `max`. The
/// first answer for a change id holds for the run.
pub fn version(change_id: &str, min: u32, max: u32) -> u32 {
    runtime::with(|runtime| {
        runtime.flush();
        host::version(change_id, min, max)
    })
}

/// Whether this run takes the new side of a change that has two: false in a run that passed here before the change
/// existed. The same as `version(change_id, 0, 1) == 1`; a change that is changed again goes on with [`version`].
pub fn patched(change_id: &str) -> bool {
    version(change_id, 0, 1) == 1
}

/// Whether the execution was asked to cancel.
pub fn cancel_requested() -> bool {
    runtime::with(|runtime| runtime.cancel_requested())
}

/// Go on as a new run of the same workflow with a fresh history: `return continue_as_new(&next).await;`.
///
/// Never resolves, so it takes any type. Messages that were handed over but not received by the code are received by
/// the next run. An input that does not serialise ends the workflow as failed with code `encode-error`.
pub async fn continue_as_new<T>(input: &(impl Serialize + ?Sized)) -> T {
    let input = serde_json::to_string(input).map_err(|error| Failure::encode("continue-as-new input", &error));
    runtime::with(|runtime| runtime.continue_with(input));
    pending().await
}
