//! What a guest may ask of an activity (`activity-options` in `wit/durable.wit`). Recorded, never compared on replay.

use serde::{Deserialize, Serialize};

use crate::{limits::DEFAULT_START_TO_CLOSE_NANOS, retry::RetryPolicy};

/// What `cancel-promise` means for an activity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CancellationType {
    /// Ask the activity to stop; the promise is spent at once.
    #[default]
    Try,
    /// Do not even ask; the promise is spent at once.
    Abandon,
    /// Ask; the promise resolves with what the activity answers.
    Wait,
}

/// Options of an activity; durations in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ActivityOptions {
    pub task_queue: Option<String>,
    pub retry: Option<RetryPolicy>,
    pub schedule_to_close: Option<u64>,
    pub schedule_to_start: Option<u64>,
    pub start_to_close: Option<u64>,
    pub heartbeat_timeout: Option<u64>,
    pub cancellation: CancellationType,
    pub summary: Option<String>,
}

impl ActivityOptions {
    /// Longest time of one attempt, in ns.
    #[must_use]
    pub fn attempt_nanos(&self) -> u64 {
        self.start_to_close.unwrap_or(DEFAULT_START_TO_CLOSE_NANOS)
    }

    /// The policy in force.
    #[must_use]
    pub fn policy(&self) -> RetryPolicy {
        self.retry.clone().unwrap_or_default()
    }
}
