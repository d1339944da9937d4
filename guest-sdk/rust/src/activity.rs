//! Calls of activities: what is to run, with which input and options.

use crate::bindings::durable;
use crate::host;
use crate::promise::Pending;
use crate::runtime::{self, OnCancel};
use crate::timer::nanos;
use crate::Failure;
use serde::de::DeserializeOwned;
use serde::Serialize;
use std::future::IntoFuture;
use std::marker::PhantomData;
use std::time::Duration;

/// How the attempts of an activity follow each other.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// The pause after the first failed attempt.
    pub initial_interval: Duration,
    /// Each pause is the last one times this; at least 1.
    pub backoff: f64,
    /// The longest pause.
    pub maximum_interval: Duration,
    /// The first attempt included; 0 means no maximum.
    pub maximum_attempts: u32,
    /// Share of the pause, 0 to 1, that is drawn at random and taken off.
    pub jitter: f64,
    /// Failures with one of these codes are final.
    pub non_retryable_codes: Vec<String>,
}

impl Default for RetryPolicy {
    /// The host's: 1 s, backoff 2, at most 100 s, no maximum of attempts, jitter 0.1.
    fn default() -> Self {
        Self {
            initial_interval: Duration::from_secs(1),
            backoff: 2.0,
            maximum_interval: Duration::from_secs(100),
            maximum_attempts: 0,
            jitter: 0.1,
            non_retryable_codes: Vec::new(),
        }
    }
}

/// What canceling means for an activity that has not resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CancellationType {
    /// Ask the activity to stop; the await answers `canceled` at once.
    #[default]
    Try,
    /// Do not even ask; the await answers `canceled` at once.
    Abandon,
    /// Ask, and wait for what the activity answers.
    Wait,
}

/// An activity that is not started yet. Made by [`activity`]; `.await` starts it and waits for a `T`.
#[must_use = "an activity does nothing unless started or awaited"]
pub struct Activity<T> {
    name: String,
    input: Result<String, Failure>,
    options: durable::ActivityOptions,
    output: PhantomData<fn() -> T>,
}

/// The activity `name` with `input` (sent as JSON). Its result is a `T`, or a [`Failure`]: its own after the last
/// attempt, a timeout, a cancellation, `decode-error` if the result is not a `T`, or rejected if the host refuses it.
pub fn activity<T: DeserializeOwned>(name: impl Into<String>, input: &(impl Serialize + ?Sized)) -> Activity<T> {
    let options = durable::ActivityOptions {
        task_queue: None,
        retry: None,
        schedule_to_close: None,
        schedule_to_start: None,
        start_to_close: None,
        heartbeat_timeout: None,
        cancellation: durable::CancellationType::Try,
        summary: None,
    };
    let name = name.into();
    let input = serde_json::to_string(input).map_err(|error| Failure::encode(&name, &error));
    Activity { name, input, options, output: PhantomData }
}

impl<T: DeserializeOwned> Activity<T> {
    /// How it is retried; [`RetryPolicy::default`] if not given.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.options.retry = Some(durable::RetryPolicy {
            initial_interval: nanos(policy.initial_interval),
            backoff: policy.backoff,
            maximum_interval: nanos(policy.maximum_interval),
            maximum_attempts: policy.maximum_attempts,
            jitter: policy.jitter,
            non_retryable_codes: policy.non_retryable_codes,
        });
        self
    }

    /// At most this many attempts, the first included; 0 means no maximum.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        if self.options.retry.is_none() {
            self = self.retry(RetryPolicy::default());
        }
        if let Some(policy) = &mut self.options.retry {
            policy.maximum_attempts = attempts;
        }
        self
    }

    /// The longest time of one attempt from start to result; 300 s if not given.
    pub fn start_to_close(mut self, limit: Duration) -> Self {
        self.options.start_to_close = Some(nanos(limit));
        self
    }

    /// The longest time from the call to the final result, over all attempts; no limit if not given.
    pub fn schedule_to_close(mut self, limit: Duration) -> Self {
        self.options.schedule_to_close = Some(nanos(limit));
        self
    }

    /// The longest time from the moment an attempt is due to its start; no limit if not given.
    pub fn schedule_to_start(mut self, limit: Duration) -> Self {
        self.options.schedule_to_start = Some(nanos(limit));
        self
    }

    /// The longest silence between two heartbeats of an attempt; none are expected if not given.
    pub fn heartbeat_timeout(mut self, limit: Duration) -> Self {
        self.options.heartbeat_timeout = Some(nanos(limit));
        self
    }

    /// Where it is to run; the default queue if not given.
    pub fn task_queue(mut self, queue: impl Into<String>) -> Self {
        self.options.task_queue = Some(queue.into());
        self
    }

    /// What canceling means for it; [`CancellationType::Try`] if not given.
    pub fn cancellation(mut self, cancellation: CancellationType) -> Self {
        self.options.cancellation = match cancellation {
            CancellationType::Try => durable::CancellationType::Try,
            CancellationType::Abandon => durable::CancellationType::Abandon,
            CancellationType::Wait => durable::CancellationType::Wait,
        };
        self
    }

    /// A line for people, shown beside the step.
    pub fn summary(mut self, summary: impl Into<String>) -> Self {
        self.options.summary = Some(summary.into());
        self
    }

    /// Start it now, to be awaited later.
    pub fn start(self) -> Pending<T> {
        let Activity { name, input, options, .. } = self;
        let input = match input {
            Ok(input) => input,
            Err(failure) => return Pending::refused(failure, decode),
        };
        let started = runtime::with(|runtime| {
            runtime.flush();
            host::start_activity(&name, &input, &options)
        });
        let on_cancel = match options.cancellation {
            durable::CancellationType::Wait => OnCancel::StaysOpen,
            durable::CancellationType::Try | durable::CancellationType::Abandon => OnCancel::Spent,
        };
        match started {
            Ok(promise) => Pending::issued(promise, on_cancel, decode),
            Err(refused) => Pending::refused(refused.into(), decode),
        }
    }
}

impl<T: DeserializeOwned> IntoFuture for Activity<T> {
    type Output = Result<T, Failure>;
    type IntoFuture = Pending<T>;

    fn into_future(self) -> Self::IntoFuture {
        self.start()
    }
}

fn decode<T: DeserializeOwned>(text: String) -> Result<T, Failure> {
    serde_json::from_str(&text).map_err(|error| Failure::decode("activity result", &error))
}
