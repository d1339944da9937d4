//! The breaker as a tower layer: who is let through, what an end means, and the failure that the others get.
//!
//! It stands outside of the concurrency limit: while it is open, attempts fail at once and wait for no turn.

use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use relive_core::{
    Timestamp,
    failure::{Failure, FailureKind},
    json::Json,
    ports::{ActivityTask, AttemptEnd, AttemptResult},
};
use serde::Serialize;
use tower::{Layer, Service};

use super::machine::{BreakerPolicy, BreakerView, Machine, Outcome, Refused, Ticket};
use crate::failures::{code, infrastructure};

/// One activity's breaker. Cheap to clone; clones share the state.
#[derive(Clone)]
pub struct Breaker(Arc<Inner>);

struct Inner {
    target: String,
    policy: BreakerPolicy,
    machine: Mutex<Machine>,
    began: Instant,
}

impl Breaker {
    #[must_use]
    pub fn new(target: String, policy: BreakerPolicy) -> Self {
        let machine = Mutex::new(Machine::new(policy, Duration::ZERO));
        Self(Arc::new(Inner { target, policy, machine, began: Instant::now() }))
    }

    /// Whom it watches: `host:port`, or the digest of a component.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.0.target
    }

    /// When it opens and closes.
    #[must_use]
    pub fn policy(&self) -> BreakerPolicy {
        self.0.policy
    }

    /// Its state. Times count from [`Breaker::epoch`].
    #[must_use]
    pub fn view(&self) -> BreakerView {
        self.0.machine.lock().view(self.now())
    }

    /// A time of the view on this machine's clock.
    #[must_use]
    pub fn timestamp(&self, at: Duration) -> Timestamp {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let began = wall.saturating_sub(self.now());
        Timestamp(u64::try_from(began.saturating_add(at).as_nanos()).unwrap_or(u64::MAX))
    }

    fn now(&self) -> Duration {
        self.0.began.elapsed()
    }

    fn refuses(&self) -> bool {
        self.0.machine.lock().refuses(self.now()).is_some()
    }

    fn admit(&self) -> Result<Ticket, Refused> {
        self.0.machine.lock().admit(self.now())
    }

    fn settle(&self, ticket: Ticket, outcome: Outcome) {
        let mut machine = self.0.machine.lock();
        let before = machine.view(self.now()).state;
        machine.settle(ticket, outcome, self.now());
        let view = machine.view(self.now());
        drop(machine);
        if view.state != before {
            let (target, state) = (self.target(), view.state.as_str());
            tracing::warn!(target, state, view.calls, view.faults, "a circuit breaker changed its state");
        }
    }

    /// What an attempt gets instead of being made.
    fn refusal(&self, refused: Refused) -> Failure {
        #[derive(Serialize)]
        struct Details<'a> {
            target: &'a str,
            next_probe: Option<Timestamp>,
            retry_after_ms: u64,
        }
        let wait = refused.until.map_or(Duration::ZERO, |until| until.saturating_sub(self.now()));
        // Rounded up: whoever waits that long is not early.
        let retry_after_ms = u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        let next_probe = refused.until.map(|until| self.timestamp(until));
        let when = match next_probe {
            Some(at) => format!("it is tried again from {at}, in {retry_after_ms} ms"),
            None => "probes are under way".to_owned(),
        };
        let message = format!("the circuit breaker of {} is open after failures: {when}", self.target());
        let details = Json::of(&Details { target: self.target(), next_probe, retry_after_ms }).ok();
        Failure { details, ..infrastructure(code::CIRCUIT_OPEN, message) }
    }
}

/// Puts a breaker around attempts.
#[derive(Clone)]
pub(crate) struct BreakerLayer(pub(crate) Breaker);

impl<S> Layer<S> for BreakerLayer {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        let (breaker, begun) = (self.0.clone(), self.0.now());
        Guarded { inner, breaker, begun, ready: false }
    }
}

/// One attempt's way through the breaker: it is cloned for each, when the attempt comes.
pub(crate) struct Guarded<S> {
    inner: S,
    breaker: Breaker,
    /// When the attempt came. Whoever drops it at its deadline began to count no earlier than this.
    begun: Duration,
    ready: bool,
}

impl<S: Clone> Clone for Guarded<S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), breaker: self.breaker.clone(), begun: self.breaker.now(), ready: false }
    }
}

impl<S> Service<ActivityTask> for Guarded<S>
where
    S: Service<ActivityTask, Response = AttemptEnd, Error = Failure>,
    S::Future: Send + 'static,
{
    type Response = AttemptEnd;
    type Error = Failure;
    type Future = BoxFuture<'static, AttemptResult>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        // What will be refused waits for no turn.
        if !self.ready && !self.breaker.refuses() {
            ready!(self.inner.poll_ready(cx))?;
            self.ready = true;
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, task: ActivityTask) -> Self::Future {
        let admitted = match std::mem::take(&mut self.ready) {
            true => self.breaker.admit(),
            false => Err(self.breaker.0.machine.lock().refuses(self.breaker.now()).unwrap_or(Refused { until: None })),
        };
        match admitted {
            Err(refused) => Box::pin(std::future::ready(Err(self.breaker.refusal(refused)))),
            Ok(ticket) => {
                // An activity that had to be loaded first came after its time began to run: the last quarter counts.
                let deadline = task.timeout.map(|timeout| self.begun.saturating_add(timeout / 4 * 3));
                let mut watch = Watch { breaker: self.breaker.clone(), ticket: Some(ticket), deadline };
                let attempt = self.inner.call(task);
                Box::pin(async move {
                    let result = attempt.await;
                    watch.settle(outcome(&result));
                    result
                })
            }
        }
    }
}

/// Failures of the machinery are the target's; those that the activity reports are an answer.
fn outcome(result: &AttemptResult) -> Outcome {
    match result {
        Ok(_) => Outcome::Answered,
        Err(failure) => match failure.kind {
            FailureKind::Infrastructure | FailureKind::Timeout => Outcome::Fault,
            FailureKind::Application => Outcome::Answered,
            FailureKind::Rejected | FailureKind::Canceled | FailureKind::Terminated => Outcome::Nothing,
        },
    }
}

/// Settles the call however it ends: an attempt that is dropped near its deadline was too slow, one that is dropped
/// before was canceled.
struct Watch {
    breaker: Breaker,
    ticket: Option<Ticket>,
    deadline: Option<Duration>,
}

impl Watch {
    fn settle(&mut self, outcome: Outcome) {
        if let Some(ticket) = self.ticket.take() {
            self.breaker.settle(ticket, outcome);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let late = |deadline| self.breaker.now() >= deadline;
        let outcome = if self.deadline.is_some_and(late) { Outcome::Fault } else { Outcome::Nothing };
        self.settle(outcome);
    }
}
