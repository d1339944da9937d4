//! The activity side: what the host knows of the attempt that an activity runs.

use crate::bindings::handler;

/// One attempt of one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// The activity's name, as the workflow asked for it.
    pub name: String,
    /// `namespace:workflow_id:run_id:command_no`: the same for all attempts of this step. An effect that is keyed by
    /// it happens once.
    pub idempotency_key: String,
    /// From 1.
    pub attempt: u32,
    /// The caller's key of the execution.
    pub workflow_id: String,
    /// The run of the execution.
    pub run_id: String,
    /// Travels from the start request through every task and log line.
    pub correlation_id: Option<String>,
}

impl Task {
    /// The task and its input.
    pub(crate) fn split(task: handler::Task) -> (Self, String) {
        let this = Self {
            name: task.name,
            idempotency_key: task.idempotency_key,
            attempt: task.attempt,
            workflow_id: task.workflow_id,
            run_id: task.run_id,
            correlation_id: task.correlation_id,
        };
        (this, task.input)
    }
}
