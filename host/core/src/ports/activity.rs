//! The port through which attempts of activities are run.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::{
    failure::Failure,
    ids::{ExecutionKey, Namespace},
    json::Json,
    trace::TraceParent,
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
    /// The attempt's own span, for whom it calls.
    pub trace: TraceParent,
    /// How long the attempt may take, from the call on: its future is dropped then. `None`: nobody watches.
    pub timeout: Option<Duration>,
    /// By which the attempt may be answered from elsewhere. `None`: nobody takes such an answer, so the attempt has to
    /// end with its call.
    pub token: Option<AnswerToken>,
}

/// The right to answer for one attempt, whoever shows it. A secret.
#[derive(Clone)]
pub struct AnswerToken(Arc<str>);

impl AnswerToken {
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text.into())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Without its text, so that logs do not give it away.
impl fmt::Debug for AnswerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnswerToken")
    }
}

impl ActivityTask {
    /// The same for all attempts of the step.
    #[must_use]
    pub fn idempotency_key(&self) -> String {
        self.execution.idempotency_key(self.command_no)
    }
}

/// How a call ended that did not fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptEnd {
    Completed(Json),
    /// The attempt goes on elsewhere: its answer comes by the task's token. `by` is who took it on, for people.
    Accepted {
        by: Arc<str>,
    },
}

/// What an attempt's call came to. A failure's `retryable` says whether the policy may ask for another attempt.
pub type AttemptResult = Result<AttemptEnd, Failure>;

/// Runs attempts. The engine decides about retries and deadlines; dropping the future asks the attempt to stop.
pub trait ActivityRunner: Send + Sync {
    /// Runs one attempt. An activity of an unknown name is a `rejected` failure with the code `unknown-activity`,
    /// retryable, because a deployment may bring it.
    fn run(&self, task: ActivityTask) -> BoxFuture<'static, AttemptResult>;

    /// Whether the host runs activities of this name itself; those that it does not go to workers. Asked for every
    /// activity that is scheduled, on a thread that may block.
    fn hosts(&self, namespace: &Namespace, name: &str) -> bool;
}
