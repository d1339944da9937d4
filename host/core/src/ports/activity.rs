//! The port through which attempts of activities are run.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::{
    failure::Failure,
    ids::{ExecutionKey, Namespace},
    json::Json,
};

/// One attempt of an activity.
#[derive(Clone, Debug)]
pub struct ActivityTask {
    pub execution: ExecutionKey,
    /// The promise that the result resolves.
    pub command_no: u64,
    pub name: Arc<str>,
    pub input: Json,
    /// From 1.
    pub attempt: u32,
    pub task_queue: Option<Arc<str>>,
    pub correlation_id: Option<Arc<str>>,
    /// How long the attempt may take, from the call on: its future is dropped then. `None`: nobody watches.
    pub timeout: Option<Duration>,
}

impl ActivityTask {
    /// The same for all attempts of the step.
    #[must_use]
    pub fn idempotency_key(&self) -> String {
        self.execution.idempotency_key(self.command_no)
    }
}

/// What an attempt came to. A failure's `retryable` says whether the policy may ask for another.
pub type AttemptResult = Result<Json, Failure>;

/// Runs attempts. The engine decides about retries and deadlines; dropping the future asks the attempt to stop.
pub trait ActivityRunner: Send + Sync {
    /// Runs one attempt. An activity of an unknown name is a `rejected` failure with the code `unknown-activity`,
    /// retryable, because a deployment may bring it.
    fn run(&self, task: ActivityTask) -> BoxFuture<'static, AttemptResult>;

    /// Whether the host runs activities of this name itself; those that it does not go to workers. Asked for every
    /// activity that is scheduled, on a thread that may block.
    fn hosts(&self, namespace: &Namespace, name: &str) -> bool;
}
