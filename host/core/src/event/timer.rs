//! Events of timers.

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// The guest asked for a timer; the event's `command_no` is its promise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimerCreated {
    /// In ns; compared on replay.
    pub duration: u64,
    /// The guest's `now()` + duration.
    pub deadline: Timestamp,
}

/// The deadline passed; the event is never earlier than it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimerFired {}

/// The guest gave the timer up (a command of its own).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimerCanceled {
    /// The timer's promise.
    pub target: u64,
}
