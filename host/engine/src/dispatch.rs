//! Dispatch of in-process activities onto the async runtime: delays, deadlines, stopping. Retries are the owner's.

use std::{
    sync::{Arc, OnceLock, Weak, atomic::Ordering},
    time::{Duration, Instant},
};

use relive_core::{
    Failure, FailureKind, Namespace, RunKey, Timestamp,
    event::TimeoutType,
    ports::{ActivityRunner, ActivityTask, AnswerToken, AttemptEnd},
};
use tokio::{runtime::Handle, task::AbortHandle};

use crate::{
    context::Context,
    ids,
    message::{AttemptError, Message},
    metrics::Metrics,
    remote::{DEFAULT_QUEUE, TaskRef, TaskToken},
};

/// An attempt that is due or running.
pub(crate) struct Attempt {
    handle: AbortHandle,
    /// Who knows it may answer for the attempt, from elsewhere.
    pub secret: u64,
    /// When it began, or will begin.
    pub begins: Timestamp,
}

impl Attempt {
    /// Drops the attempt's future: it is asked to stop, and its result is of no interest any more.
    pub fn stop(&self) {
        self.handle.abort();
    }
}

pub(crate) struct Dispatcher {
    runtime: Handle,
    runner: Arc<dyn ActivityRunner>,
    metrics: Arc<Metrics>,
    context: OnceLock<Weak<Context>>,
}

impl Dispatcher {
    pub fn new(runtime: Handle, runner: Arc<dyn ActivityRunner>, metrics: Arc<Metrics>) -> Self {
        Self { runtime, runner, metrics, context: OnceLock::new() }
    }

    /// Where results go.
    pub fn attach(&self, context: &Arc<Context>) {
        let _ = self.context.set(Arc::downgrade(context));
    }

    /// Where attempts run.
    pub fn runner(&self) -> Arc<dyn ActivityRunner> {
        self.runner.clone()
    }

    pub fn hosts(&self, namespace: &Namespace, name: &str) -> bool {
        self.runner.hosts(namespace, name)
    }

    /// See [`route`].
    pub fn route(&self, namespace: &Namespace, name: &str, asked: Option<&Arc<str>>) -> Option<Arc<str>> {
        route(&*self.runner, namespace, name, asked)
    }

    /// Attempts that are running now.
    pub fn running(&self) -> usize {
        self.metrics.running.load(Ordering::Relaxed)
    }

    /// Runs an attempt after `delay`, which is at `begins`, for at most `timeout`; its end comes back as a message. `late`
    /// says for how long it has been due. The task gets the token by which it may be answered from elsewhere.
    pub fn launch(
        &self,
        run: RunKey,
        mut task: ActivityTask,
        (begins, delay): (Timestamp, Duration),
        late: Duration,
        timeout: (Duration, TimeoutType),
    ) -> Attempt {
        let (runner, metrics) = (self.runner.clone(), self.metrics.clone());
        let launched = Instant::now();
        let context = self.context.get().cloned().unwrap_or_default();
        let (command_no, attempt, secret) = (task.command_no, task.attempt, ids::secret());
        let token = TaskToken { task: TaskRef { run, command_no, attempt }, secret };
        task.token = Some(AnswerToken::new(token.to_string()));
        let handle = self.runtime.spawn(async move {
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            let guard = Running::new(metrics, late + launched.elapsed().saturating_sub(delay));
            let ended = tokio::time::timeout(timeout.0, runner.run(task)).await;
            drop(guard);
            let Some(context) = context.upgrade() else { return };
            let result = match ended {
                Ok(Ok(AttemptEnd::Accepted { by })) => {
                    return context.registry.post(run, Message::Accepted { command_no, attempt, by });
                }
                Ok(Ok(AttemptEnd::Completed(result))) => bounded(&context, result),
                Ok(Err(failure)) => Err(AttemptError::Failed(failure)),
                Err(_) => Err(AttemptError::TimedOut(timeout.1)),
            };
            context.registry.post(run, Message::Attempt { command_no, attempt, result });
        });
        Attempt { handle: handle.abort_handle(), secret, begins }
    }

    /// Posts a message after a while.
    pub fn later(&self, run: RunKey, delay: Duration, message: Message) {
        let context = self.context.get().cloned().unwrap_or_default();
        self.runtime.spawn(async move {
            tokio::time::sleep(delay).await;
            if let Some(context) = context.upgrade() {
                context.registry.post(run, message);
            }
        });
    }
}

/// The queue from which workers take an activity; `None`: the host runs it itself. The deployment decides, and a queue
/// that the guest names only says which workers.
pub(crate) fn route(
    runner: &dyn ActivityRunner,
    namespace: &Namespace,
    name: &str,
    asked: Option<&Arc<str>>,
) -> Option<Arc<str>> {
    (!runner.hosts(namespace, name)).then(|| asked.cloned().unwrap_or_else(|| DEFAULT_QUEUE.into()))
}

/// A result larger than a payload may be is a failure that trying again would not mend.
fn bounded(context: &Context, result: relive_core::Json) -> Result<relive_core::Json, AttemptError> {
    let limit = context.config.run_limits.payload_bytes as usize;
    if result.len() <= limit {
        return Ok(result);
    }
    let message = format!("the result has {} bytes; at most {limit} are allowed", result.len());
    Err(AttemptError::Failed(Failure::new(FailureKind::Rejected, "result-too-large", message).permanent()))
}

/// Counts an attempt for as long as it runs, however it ends.
struct Running {
    metrics: Arc<Metrics>,
    began: Instant,
}

impl Running {
    fn new(metrics: Arc<Metrics>, late: Duration) -> Self {
        metrics.running.fetch_add(1, Ordering::Relaxed);
        metrics.schedule_to_start.took(late);
        Self { metrics, began: Instant::now() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.metrics.attempts.took(self.began.elapsed());
        self.metrics.running.fetch_sub(1, Ordering::Relaxed);
    }
}
