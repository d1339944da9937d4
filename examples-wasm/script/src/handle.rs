//! Things that were started and are waited for later, by name.

use relive_sdk::{activity, Activity, CancellationType, Failure, Message, Pending, RetryPolicy};
use serde_json::Value;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::program::{ActivityStep, Cancellation, Options};

/// What a handle stands for.
pub enum Handle {
    Activity(Pending<Value>),
    Timer(Pending<()>),
    Message(Message<Value>),
}

impl Handle {
    /// Ask for it to be canceled. True if it can still be waited for.
    pub fn cancel(&mut self) -> bool {
        match self {
            Handle::Activity(pending) => pending.cancel(),
            Handle::Timer(pending) => pending.cancel(),
            Handle::Message(_) => return false,
        }
        true
    }

    pub fn detach(self) {
        match self {
            Handle::Activity(pending) => pending.detach(),
            Handle::Timer(pending) => pending.detach(),
            Handle::Message(_) => {}
        }
    }
}

impl Future for Handle {
    type Output = Result<Value, Failure>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Handle::Activity(pending) => Pin::new(pending).poll(context),
            Handle::Timer(pending) => Pin::new(pending).poll(context).map_ok(|()| Value::Null),
            Handle::Message(message) => Pin::new(message).poll(context),
        }
    }
}

/// The call that a step describes.
pub fn call(step: &ActivityStep) -> Activity<Value> {
    let options = &step.options;
    let mut call = activity::<Value>(step.name.as_str(), &step.input).cancellation(match options.cancellation {
        Cancellation::Try => CancellationType::Try,
        Cancellation::Abandon => CancellationType::Abandon,
        Cancellation::Wait => CancellationType::Wait,
    });
    if let Some(policy) = policy(options) {
        call = call.retry(policy);
    }
    if let Some(ms) = options.start_to_close_ms {
        call = call.start_to_close(Duration::from_millis(ms));
    }
    if let Some(ms) = options.schedule_to_close_ms {
        call = call.schedule_to_close(Duration::from_millis(ms));
    }
    if let Some(ms) = options.schedule_to_start_ms {
        call = call.schedule_to_start(Duration::from_millis(ms));
    }
    if let Some(ms) = options.heartbeat_timeout_ms {
        call = call.heartbeat_timeout(Duration::from_millis(ms));
    }
    if let Some(queue) = &options.task_queue {
        call = call.task_queue(queue.as_str());
    }
    if let Some(summary) = &options.summary {
        call = call.summary(summary.as_str());
    }
    call
}

/// None if the step says nothing of retries.
fn policy(options: &Options) -> Option<RetryPolicy> {
    let given = options.max_attempts.is_some()
        || options.initial_interval_ms.is_some()
        || options.backoff.is_some()
        || options.maximum_interval_ms.is_some()
        || options.jitter.is_some()
        || !options.non_retryable_codes.is_empty();
    let usual = RetryPolicy::default();
    given.then(|| RetryPolicy {
        initial_interval: options.initial_interval_ms.map_or(usual.initial_interval, Duration::from_millis),
        backoff: options.backoff.unwrap_or(usual.backoff),
        maximum_interval: options.maximum_interval_ms.map_or(usual.maximum_interval, Duration::from_millis),
        maximum_attempts: options.max_attempts.unwrap_or(usual.maximum_attempts),
        jitter: options.jitter.unwrap_or(usual.jitter),
        non_retryable_codes: options.non_retryable_codes.clone(),
    })
}
