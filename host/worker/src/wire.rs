//! The protocol's shapes, as `docs/workers.md` has them. What a host of a later version adds is ignored.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::failure::Failure;

#[derive(Serialize)]
pub struct Register<'a> {
    pub identity: &'a str,
    pub task_queues: [&'a str; 1],
    pub activities: Vec<&'a str>,
    pub sdk: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaces: Option<&'a str>,
    /// Tokens of what it really has under that id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holds: Option<Vec<String>>,
}

#[derive(Deserialize)]
pub struct Registered {
    pub worker_id: String,
    pub beat_every_ms: u64,
}

#[derive(Serialize)]
pub struct Poll<'a> {
    pub worker_id: &'a str,
    pub max_tasks: usize,
    pub wait_ms: u64,
    pub activities: Vec<&'a str>,
}

#[derive(Deserialize)]
pub struct Polled {
    pub tasks: Vec<TaskForm>,
}

/// A task, as the host gives it.
#[derive(Debug, Deserialize)]
pub struct TaskForm {
    pub token: String,
    pub workflow_id: String,
    pub run_id: String,
    pub workflow: String,
    pub attempt: u32,
    #[serde(default)]
    pub maximum_attempts: u32,
    pub activity: String,
    pub input: Box<RawValue>,
    pub idempotency_key: String,
    pub correlation_id: Option<String>,
    pub traceparent: Option<String>,
    pub start_to_close_ms: u64,
    pub heartbeat_timeout_ms: Option<u64>,
    pub heartbeat_details: Option<Box<RawValue>>,
}

/// An answer of several.
#[derive(Serialize)]
pub struct Answer {
    pub token: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub canceled: bool,
}

#[derive(Serialize)]
pub struct Answers<'a> {
    pub answers: &'a [Answer],
}

#[derive(Deserialize)]
pub struct Outcome {
    pub accepted: bool,
    #[serde(default)]
    pub code: String,
    #[serde(default)]
    pub detail: String,
}

#[derive(Deserialize)]
pub struct Outcomes {
    pub outcomes: Vec<Outcome>,
}

#[derive(Serialize)]
pub struct BeatForm<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub struct Beaten {
    pub cancel_requested: bool,
    pub gone: bool,
}

/// A problem document (RFC 9457).
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Problem {
    pub code: String,
    pub detail: String,
}
