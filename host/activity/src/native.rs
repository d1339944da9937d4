//! Native activities: async closures of whoever embeds the engine.
//!
//! Owns the two forms, raw (JSON in, JSON out, nothing decoded) and typed (serde). Must not know: how they are found.

use std::sync::Arc;

use relive_core::{
    failure::Failure,
    ids::ExecutionKey,
    json::Json,
    ports::{ActivityTask, AttemptEnd, AttemptResult},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::failures::{bounded, code, permanent};

/// What a native activity is told about its attempt, beside the input.
#[derive(Clone, Debug)]
pub struct NativeTask {
    pub execution: ExecutionKey,
    /// The promise that the result resolves.
    pub command_no: u64,
    pub name: Arc<str>,
    /// From 1.
    pub attempt: u32,
    pub task_queue: Option<Arc<str>>,
    pub correlation_id: Option<Arc<str>>,
}

impl NativeTask {
    fn split(task: ActivityTask) -> (Self, Json) {
        let ActivityTask { execution, command_no, name, input, attempt, task_queue, correlation_id, .. } = task;
        (Self { execution, command_no, name, attempt, task_queue, correlation_id }, input)
    }

    /// The same for all attempts of the step: an effect that is keyed by it happens once.
    #[must_use]
    pub fn idempotency_key(&self) -> String {
        self.execution.idempotency_key(self.command_no)
    }
}

/// The hot path: the closure, a check of the result's length, nothing else.
pub(crate) async fn raw<F, Fut, E>(function: Arc<F>, task: ActivityTask) -> AttemptResult
where
    F: Fn(NativeTask, Json) -> Fut,
    Fut: Future<Output = Result<Json, E>>,
    E: Into<Failure>,
{
    let (task, input) = NativeTask::split(task);
    bounded(function(task, input).await.map_err(Into::into)?).map(AttemptEnd::Completed)
}

pub(crate) async fn typed<F, Fut, I, O, E>(function: Arc<F>, task: ActivityTask) -> AttemptResult
where
    F: Fn(NativeTask, I) -> Fut,
    Fut: Future<Output = Result<O, E>>,
    I: DeserializeOwned,
    O: Serialize,
    E: Into<Failure>,
{
    let (task, input) = NativeTask::split(task);
    let input = serde_json::from_str(input.as_str())
        .map_err(|e| permanent(code::INVALID_INPUT, format!("read the input of `{}`: {e}", task.name)))?;
    let name = Arc::clone(&task.name);
    let output = function(task, input).await.map_err(Into::into)?;
    let output =
        Json::of(&output).map_err(|e| permanent(code::INVALID_RESULT, format!("write the result of `{name}`: {e}")))?;
    bounded(output).map(AttemptEnd::Completed)
}
