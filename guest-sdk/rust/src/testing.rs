//! Workflows under test, natively and without a host: a [`Run`] records what the workflow asks for, and the test
//! plays what happens. Owns the fake host; time and randomness are fixed until the test sets them.
//!
//! ```
//! use relive_sdk::testing::{Call, Run, State};
//!
//! let mut run = Run::start(async { relive_sdk::activity::<String>("greet", "Ada").await });
//! assert_eq!(run.calls(), [Call::activity(1, "greet", "Ada")]);
//! assert_eq!(run.resolve(1, "hello, Ada"), &State::Done(Ok("\"hello, Ada\"".to_owned())));
//! ```

use crate::bindings::{durable, types};
use crate::export::{root, IntoResult};
use crate::runtime::{self, Event};
use crate::Failure;
use serde::Serialize;
use serde_json::Value;
use std::cell::RefCell;
use std::future::Future;
use std::time::Duration;

pub use crate::runtime::State;

/// Something that the workflow asked of the host. The first number is the promise.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    /// An activity: promise, name, input.
    Activity(u64, String, Value),
    /// A timer.
    Timer(u64, Duration),
    /// The next message of a channel.
    NextMessage(u64, String),
    /// A promise was given up.
    Cancel(u64),
    /// State for queries.
    Publish(String, Value),
    /// A log line without its fields.
    Log(String),
    /// A change id was asked for.
    Version(String),
}

impl Call {
    /// An activity call, to compare with.
    pub fn activity(promise: u64, name: &str, input: impl Serialize) -> Self {
        Self::Activity(promise, name.to_owned(), json(&input))
    }

    /// A message call, to compare with.
    pub fn next_message(promise: u64, channel: &str) -> Self {
        Self::NextMessage(promise, channel.to_owned())
    }
}

#[derive(Default)]
struct Fake {
    calls: Vec<Call>,
    promises: u64,
    now: u64,
    drawn: u64,
    refuse: Option<types::CallError>,
}

impl Fake {
    /// Number a command, or refuse it as the test wants.
    fn command(&mut self, call: impl FnOnce(u64) -> Call) -> Result<u64, types::CallError> {
        if let Some(refusal) = self.refuse.take() {
            return Err(refusal);
        }
        self.promises += 1;
        self.calls.push(call(self.promises));
        Ok(self.promises)
    }
}

thread_local! {
    static FAKE: RefCell<Fake> = RefCell::default();
}

fn fake<R>(f: impl FnOnce(&mut Fake) -> R) -> R {
    FAKE.with(|fake| f(&mut fake.borrow_mut()))
}

/// A run of a workflow. One at a time in a thread.
pub struct Run {
    state: State,
}

impl Run {
    /// Start it.
    pub fn start<R: IntoResult<Failure> + 'static>(workflow: impl Future<Output = R> + 'static) -> Self {
        fake(|fake| *fake = Fake::default());
        Self { state: runtime::start(root(workflow)) }
    }

    /// Where it stands.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What it asked for since this was last called.
    pub fn calls(&mut self) -> Vec<Call> {
        fake(|fake| std::mem::take(&mut fake.calls))
    }

    /// A promise resolves with a value.
    pub fn resolve(&mut self, promise: u64, value: impl Serialize) -> &State {
        self.apply(Event::Resolved(promise, None, Ok(json(&value).to_string())))
    }

    /// A promise resolves with a failure.
    pub fn fail(&mut self, promise: u64, failure: Failure) -> &State {
        self.apply(Event::Resolved(promise, None, Err(failure)))
    }

    /// A message arrives for a `next-message` promise.
    pub fn message(&mut self, promise: u64, id: &str, value: impl Serialize) -> &State {
        self.apply(Event::Resolved(promise, Some(id.to_owned()), Ok(json(&value).to_string())))
    }

    /// Somebody asks the execution to cancel.
    pub fn request_cancel(&mut self) -> &State {
        self.apply(Event::CancelRequested)
    }

    /// Set the time that the workflow sees.
    pub fn set_now(&mut self, now: Duration) {
        fake(|fake| fake.now = crate::timer::nanos(now));
    }

    /// Refuse the next command as over a limit.
    pub fn refuse_next(&mut self, limit: &str) {
        fake(|fake| fake.refuse = Some(types::CallError::LimitExceeded(limit.to_owned())));
    }

    fn apply(&mut self, event: Event) -> &State {
        self.state = runtime::resume(event);
        &self.state
    }
}

fn json(value: &(impl Serialize + ?Sized)) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or(Value::Null)
}

/// The calls of `relive:workflow/durable` on the fake host.
pub(crate) mod calls {
    use super::{durable, fake, parse, types, Call, Duration};

    pub(crate) fn info() -> durable::ExecutionInfo {
        durable::ExecutionInfo {
            namespace: "default".to_owned(),
            workflow_id: "test".to_owned(),
            run_id: "00000000-0000-7000-8000-000000000000".to_owned(),
            workflow: "test".to_owned(),
            digest: String::new(),
            started_at: 0,
            continued_from: None,
            correlation_id: None,
            history_length: fake(|fake| fake.promises),
            continue_as_new_advised: false,
        }
    }

    pub(crate) fn now() -> u64 {
        fake(|fake| fake.now)
    }

    pub(crate) fn random_u64() -> u64 {
        fake(|fake| {
            fake.drawn += 1;
            fake.drawn
        })
    }

    pub(crate) fn random_bytes(length: u32) -> Vec<u8> {
        (0..length).map(|_| random_u64().to_le_bytes()[0]).collect()
    }

    pub(crate) fn uuid() -> String {
        format!("00000000-0000-4000-8000-{:012x}", random_u64())
    }

    pub(crate) fn start_activity(
        name: &str,
        input: &str,
        _options: &durable::ActivityOptions,
    ) -> Result<u64, types::CallError> {
        fake(|fake| fake.command(|promise| Call::Activity(promise, name.to_owned(), parse(input))))
    }

    pub(crate) fn start_timer(duration: u64) -> Result<u64, types::CallError> {
        fake(|fake| fake.command(|promise| Call::Timer(promise, Duration::from_nanos(duration))))
    }

    pub(crate) fn next_message(channel: &str) -> Result<u64, types::CallError> {
        fake(|fake| fake.command(|promise| Call::NextMessage(promise, channel.to_owned())))
    }

    pub(crate) fn cancel_promise(promise: u64) -> Result<(), types::CallError> {
        fake(|fake| fake.calls.push(Call::Cancel(promise)));
        Ok(())
    }

    pub(crate) fn publish(key: &str, value: &str) -> Result<(), types::CallError> {
        fake(|fake| fake.calls.push(Call::Publish(key.to_owned(), parse(value))));
        Ok(())
    }

    pub(crate) fn version(change_id: &str, _min: u32, max: u32) -> u32 {
        fake(|fake| fake.calls.push(Call::Version(change_id.to_owned())));
        max
    }

    pub(crate) fn log(
        _level: durable::LogLevel,
        message: &str,
        _fields: &[durable::LogField],
    ) -> Result<(), types::CallError> {
        fake(|fake| fake.calls.push(Call::Log(message.to_owned())));
        Ok(())
    }
}
