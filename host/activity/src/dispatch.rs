//! The tower stack that every attempt passes: trace span, circuit breaker (of deployed activities), concurrency limit,
//! panics caught, the activity.
//!
//! The stack is monomorphic for each activity and boxed once, at its outer end. Deadlines and retries are not in it:
//! they are decisions of the engine, which records them. Must not know: what kinds of activities there are.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, CatchUnwind, Map};
use relive_core::{
    failure::Failure,
    ports::{ActivityTask, AttemptEnd, AttemptResult},
    trace::SpanId,
};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower::{Layer, Service, ServiceBuilder, ServiceExt};
use tracing::Instrument;
use tracing::instrument::Instrumented;

use crate::breaker::{Breaker, BreakerLayer};
use crate::failures::{code, infrastructure, panicked};

/// Native attempts at once: each costs its future, and whatever its code holds open.
pub const MAX_NATIVE_ATTEMPTS: usize = 1_000;

/// Wasm attempts at once: each may hold a linear memory.
pub const MAX_WASM_ATTEMPTS: usize = 64;

/// Http attempts at once: each holds a socket.
pub const MAX_HTTP_ATTEMPTS: usize = 1_000;

/// How many attempts run at once, by kind; more wait for their turn, in order, while their deadlines run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DispatchLimits {
    pub native: usize,
    pub wasm: usize,
    pub http: usize,
}

impl Default for DispatchLimits {
    fn default() -> Self {
        Self { native: MAX_NATIVE_ATTEMPTS, wasm: MAX_WASM_ATTEMPTS, http: MAX_HTTP_ATTEMPTS }
    }
}

/// An activity, ready to run.
pub(crate) type Run = Arc<dyn Fn(ActivityTask) -> BoxFuture<'static, AttemptResult> + Send + Sync>;

/// An activity whose attempts run where their future is polled.
pub(crate) fn in_place<F, Fut>(limit: &GlobalConcurrencyLimitLayer, attempt: F) -> Run
where
    F: Fn(ActivityTask) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = AttemptResult> + Send + 'static,
{
    let service = ServiceBuilder::new().layer(SpanLayer).service(stack(limit.clone(), attempt));
    Arc::new(move |task| Box::pin(service.clone().oneshot(task)))
}

/// The limits that an attempt of a deployed activity passes: its own first, so that those which wait for their turn
/// there take no place among all.
#[derive(Clone)]
pub(crate) struct Limits {
    own: GlobalConcurrencyLimitLayer,
    all: GlobalConcurrencyLimitLayer,
}

impl Limits {
    /// `own`: attempts of the activity at once; `None`: as many as `all` of its kind.
    pub(crate) fn new(own: Option<usize>, all: &GlobalConcurrencyLimitLayer) -> Self {
        let own = own.unwrap_or(Semaphore::MAX_PERMITS).clamp(1, Semaphore::MAX_PERMITS);
        Self { own: GlobalConcurrencyLimitLayer::new(own), all: all.clone() }
    }
}

/// The same behind a circuit breaker.
pub(crate) fn guarded<F, Fut>(limits: &Limits, breaker: &Breaker, attempt: F) -> Run
where
    F: Fn(ActivityTask) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = AttemptResult> + Send + 'static,
{
    let (guard, limits) = (BreakerLayer(breaker.clone()), limits.clone());
    let stack = stack(limits.all, attempt);
    let service = ServiceBuilder::new().layer(SpanLayer).layer(guard).layer(limits.own).service(stack);
    Arc::new(move |task| Box::pin(service.clone().oneshot(task)))
}

/// The same, with attempts that are tasks of another runtime. The whole stack goes there, so that a place in the limit
/// is free once the attempt has really ended, not when its caller has lost interest.
pub(crate) fn spawned<F, Fut>(limits: &Limits, breaker: &Breaker, runtime: Handle, attempt: F) -> Run
where
    F: Fn(ActivityTask) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = AttemptResult> + Send + 'static,
{
    let (guard, limits) = (BreakerLayer(breaker.clone()), limits.clone());
    let stack = stack(limits.all, attempt);
    let service = ServiceBuilder::new().layer(SpanLayer).layer(guard).layer(limits.own).service(stack);
    Arc::new(move |task| {
        let attempt = AbortOnDrop(runtime.spawn(service.clone().oneshot(task)));
        Box::pin(async move { attempt.join().await })
    })
}

/// What is the same for all: the limit, and panics caught.
fn stack<F, Fut>(
    limit: GlobalConcurrencyLimitLayer,
    attempt: F,
) -> impl Service<ActivityTask, Response = AttemptEnd, Error = Failure, Future = impl Future<Output = AttemptResult> + Send>
+ Clone
+ Send
+ Sync
+ 'static
where
    F: Fn(ActivityTask) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = AttemptResult> + Send + 'static,
{
    ServiceBuilder::new().layer(limit).layer(CatchPanicLayer).service_fn(attempt)
}

/// A task of another runtime that ends with its owner.
struct AbortOnDrop(tokio::task::JoinHandle<AttemptResult>);

impl AbortOnDrop {
    async fn join(mut self) -> AttemptResult {
        match (&mut self.0).await {
            Ok(result) => result,
            Err(error) if error.is_panic() => Err(panicked(&*error.into_panic())),
            Err(_) => Err(infrastructure(code::STOPPED, "the host is shutting down")),
        }
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Puts a span around each attempt, with everything that finds it again.
#[derive(Clone, Copy)]
struct SpanLayer;

impl<S> Layer<S> for SpanLayer {
    type Service = InSpan<S>;

    fn layer(&self, inner: S) -> InSpan<S> {
        InSpan(inner)
    }
}

#[derive(Clone)]
struct InSpan<S>(S);

impl<S: Service<ActivityTask>> Service<ActivityTask> for InSpan<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = Instrumented<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, task: ActivityTask) -> Self::Future {
        let span = tracing::info_span!(
            "activity",
            otel.name = %format_args!("activity {}", task.name),
            name = %task.name,
            execution = %task.execution,
            command = task.command_no,
            attempt = task.attempt,
            correlation_id = task.correlation_id.as_deref(),
            trace_id = %task.trace.trace,
            span_id = %task.trace.span,
            parent_span_id = %SpanId::of_run(task.execution.run_id),
            error = tracing::field::Empty,
        );
        self.0.call(task).instrument(span)
    }
}

/// Makes a failure of a panic, so that it costs an attempt and not the engine's task.
#[derive(Clone, Copy)]
struct CatchPanicLayer;

impl<S> Layer<S> for CatchPanicLayer {
    type Service = CatchPanic<S>;

    fn layer(&self, inner: S) -> CatchPanic<S> {
        CatchPanic(inner)
    }
}

#[derive(Clone)]
struct CatchPanic<S>(S);

type Caught = Result<AttemptResult, Box<dyn Any + Send>>;

impl<S> Service<ActivityTask> for CatchPanic<S>
where
    S: Service<ActivityTask, Response = AttemptEnd, Error = Failure>,
{
    type Response = AttemptEnd;
    type Error = Failure;
    type Future = Map<CatchUnwind<AssertUnwindSafe<S::Future>>, fn(Caught) -> AttemptResult>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, task: ActivityTask) -> Self::Future {
        // The future is dropped after a panic and never polled again: nothing of it is seen half-done, unless the
        // activity shares state, whose poisoning is then its own.
        AssertUnwindSafe(self.0.call(task)).catch_unwind().map(settle)
    }
}

/// Polled within the attempt's span.
fn settle(caught: Caught) -> AttemptResult {
    let result = caught.unwrap_or_else(|payload| {
        let failure = panicked(&*payload);
        tracing::error!(%failure, "an activity panicked");
        Err(failure)
    });
    if let Err(failure) = &result {
        tracing::Span::current().record("error", tracing::field::display(failure));
    }
    result
}
