//! Events of activities.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    failure::Failure,
    json::Json,
    options::{ActivityOptions, CancellationType},
    time::Timestamp,
};

/// The guest asked for an activity; the event's `command_no` is its promise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskScheduled {
    pub name: Arc<str>,
    pub input: Json,
    pub options: Arc<ActivityOptions>,
}

/// A worker claimed an attempt. Rides on the commit of the claim.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskStarted {
    /// From 1.
    pub attempt: u32,
    /// What the worker calls itself.
    pub worker: Arc<str>,
}

/// The activity answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskCompleted {
    /// From 1.
    pub attempt: u32,
    pub result: Json,
}

/// The activity failed for good.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskFailed {
    pub attempt: u32,
    pub failure: Failure,
}

/// Which of an activity's deadlines passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimeoutType {
    ScheduleToClose,
    ScheduleToStart,
    StartToClose,
    Heartbeat,
}

impl TimeoutType {
    /// The failure code that guests see.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::ScheduleToClose => "schedule-to-close",
            Self::ScheduleToStart => "schedule-to-start",
            Self::StartToClose => "start-to-close",
            Self::Heartbeat => "heartbeat",
        }
    }
}

/// The activity ran out of time for good.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskTimedOut {
    pub attempt: u32,
    pub timeout: TimeoutType,
    /// What the last attempt that failed had to say.
    pub last_failure: Option<Failure>,
}

/// The guest gave the activity up (a command of its own).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskCancelRequested {
    /// The activity's promise.
    pub target: u64,
    pub cancellation: CancellationType,
}

/// The activity stopped because it was asked to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskCanceled {
    pub attempt: u32,
    pub failure: Failure,
}

/// An attempt failed and another will follow. Rides on the next commit and never causes one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskRetryScheduled {
    /// The attempt that failed.
    pub attempt: u32,
    pub failure: Failure,
    /// When the next one is due.
    pub next_at: Timestamp,
}

/// The last attempt that the retry policy allows ended without an answer: whoever ran it was lost. The promise stays
/// open, the guest is not told, and no attempt begins until an operator has it begun again or given up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskExhausted {
    /// Attempts made.
    pub attempts: u32,
    /// The deadline that passed, where it was one.
    pub timeout: Option<TimeoutType>,
    /// How the last attempt ended.
    pub last_failure: Failure,
}
