//! A guest without WebAssembly: it runs a list of operations against the cursor, as a reactor would. Its "memory" is
//! the trace of everything that it saw, so two lives that saw the same have equal memories.

use std::collections::BTreeMap;

use relive_core::{
    Failure, FailureKind, Json,
    cursor::{Call, Cursor, LogLevel, Stop},
    guest::{Captured, Guest, GuestEvent, GuestFault, GuestState, NotLaid, Outcome},
    image::GuestStamp,
    options::{ActivityOptions, CancellationType},
};
use serde::{Deserialize, Serialize};

/// One operation. Handles are counted from 0 in the order of the calls that give one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Op {
    Activity {
        name: String,
        input: String,
        cancellation: CancellationType,
    },
    /// An activity with at most this many attempts, `interval_ms` apart, each of at most `timeout_ms`.
    Try {
        name: String,
        input: String,
        attempts: u32,
        interval_ms: u64,
        timeout_ms: u64,
    },
    /// An activity with any options.
    Offer {
        name: String,
        input: String,
        options: ActivityOptions,
    },
    Timer(u64),
    Message(String),
    Await(usize),
    AwaitAny(Vec<usize>),
    Cancel(usize),
    Publish(String),
    Log(String),
    Version {
        id: String,
        min: u32,
        max: u32,
    },
    Random,
    Uuid,
    Now,
    Info,
    /// Ends the run as canceled if somebody asked for it.
    EndIfCanceled,
    Fail(String),
    Trap,
    /// Waits without having asked for anything.
    Stall,
    /// Holds the thread for this many milliseconds.
    Burn(u64),
    ContinueAsNew {
        program: Vec<Op>,
    },
}

/// The guest. See the module.
pub struct ModelGuest {
    cursor: Cursor,
    /// What it runs; none: what it is started with.
    code: Option<Vec<Op>>,
    state: State,
}

/// All that an image of the guest holds.
#[derive(Default, Serialize, Deserialize)]
struct State {
    program: Vec<Op>,
    next: usize,
    handles: Vec<u64>,
    results: BTreeMap<u64, Result<String, String>>,
    unread: BTreeMap<u64, std::sync::Arc<str>>,
    canceled: bool,
    trace: String,
}

fn stopped(stop: Stop) -> GuestFault {
    match stop {
        Stop::Diverged => GuestFault::Diverged,
        other => GuestFault::Trap(other.to_string()),
    }
}

impl ModelGuest {
    pub fn new(cursor: Cursor) -> Self {
        Self::with_code(cursor, None)
    }

    /// A guest that runs this program, whatever it is started with.
    pub fn with_code(cursor: Cursor, code: Option<Vec<Op>>) -> Self {
        Self { cursor, code, state: State::default() }
    }

    /// A guest that stands where `body` was captured.
    pub fn laid(cursor: Cursor, body: &[u8]) -> Result<Self, NotLaid> {
        let state = serde_json::from_slice(body).map_err(|e| NotLaid::Corrupt(e.to_string()))?;
        Ok(Self { cursor, code: None, state })
    }

    fn note(&mut self, what: impl std::fmt::Display) {
        use std::fmt::Write;
        let _ = write!(self.state.trace, "{what};");
    }

    fn handle(&mut self, call: Call<u64>) -> Result<(), GuestFault> {
        match call.map_err(stopped)? {
            Ok(promise) => self.state.handles.push(promise),
            Err(error) => {
                self.note(format!("{error:?}"));
                self.state.handles.push(0);
            }
        }
        Ok(())
    }

    fn resolved(&self, handle: usize) -> bool {
        self.state.handles.get(handle).is_none_or(|p| *p == 0 || self.state.results.contains_key(p))
    }

    fn take(&mut self, handle: usize) {
        if let Some(promise) = self.state.handles.get(handle).copied() {
            let result = self.state.results.get(&promise).cloned();
            self.state.unread.remove(&promise);
            self.note(format!("{handle}={result:?}"));
        }
    }

    /// Runs until something must be waited for.
    fn run(&mut self) -> Result<GuestState, GuestFault> {
        while let Some(op) = self.state.program.get(self.state.next).cloned() {
            match &op {
                Op::Stall => return Ok(GuestState::Waiting),
                Op::Await(handle) if !self.resolved(*handle) => return Ok(GuestState::Waiting),
                Op::AwaitAny(handles) if !handles.is_empty() && !handles.iter().any(|h| self.resolved(*h)) => {
                    return Ok(GuestState::Waiting);
                }
                _ => {}
            }
            self.state.next += 1;
            if let Some(outcome) = self.step(op)? {
                return Ok(GuestState::Done(outcome));
            }
        }
        let result = Json::of(&self.state.trace).map_err(|e| GuestFault::Contract(e.to_string()))?;
        Ok(GuestState::Done(Outcome::Completed(result)))
    }

    fn step(&mut self, op: Op) -> Result<Option<Outcome>, GuestFault> {
        match op {
            Op::Activity { name, input, cancellation } => {
                let options = ActivityOptions { cancellation, ..ActivityOptions::default() };
                let call = self.cursor.start_activity(&name, &input, options);
                self.handle(call)?;
            }
            Op::Try { name, input, attempts, interval_ms, timeout_ms } => {
                let call = self.cursor.start_activity(&name, &input, try_options(attempts, interval_ms, timeout_ms));
                self.handle(call)?;
            }
            Op::Offer { name, input, options } => {
                let call = self.cursor.start_activity(&name, &input, options);
                self.handle(call)?;
            }
            Op::Timer(ms) => {
                let call = self.cursor.start_timer(ms.saturating_mul(1_000_000));
                self.handle(call)?;
            }
            Op::Message(channel) => {
                let call = self.cursor.next_message(&channel);
                self.handle(call)?;
            }
            Op::Await(handle) => self.take(handle),
            Op::AwaitAny(handles) => {
                if let Some(handle) = handles.into_iter().find(|h| self.resolved(*h)) {
                    self.take(handle);
                }
            }
            Op::Cancel(handle) => {
                let promise = self.state.handles.get(handle).copied().unwrap_or(0);
                let call = self.cursor.cancel_promise(promise).map_err(stopped)?;
                self.note(format!("cancel {handle} {call:?}"));
                if call.is_ok() {
                    self.state.results.entry(promise).or_insert(Err("canceled".to_owned()));
                }
            }
            Op::EndIfCanceled if self.state.canceled => {
                return Ok(Some(Outcome::Failed(Failure::new(FailureKind::Canceled, "canceled", "asked to"))));
            }
            Op::EndIfCanceled => {}
            Op::Fail(code) => {
                return Ok(Some(Outcome::Failed(Failure::new(FailureKind::Application, &code, "as told"))));
            }
            Op::Trap => return Err(GuestFault::Trap("as told".to_owned())),
            Op::Burn(ms) => {
                let until = std::time::Instant::now() + std::time::Duration::from_millis(ms);
                while std::time::Instant::now() < until {
                    std::hint::spin_loop();
                }
            }
            Op::ContinueAsNew { program } => {
                let input = Json::of(&program).map_err(|e| GuestFault::Contract(e.to_string()))?;
                let unread_messages = std::mem::take(&mut self.state.unread).into_values().collect();
                return Ok(Some(Outcome::ContinuedAsNew { input, unread_messages }));
            }
            answer => self.answer(answer)?,
        }
        Ok(None)
    }

    fn answer(&mut self, op: Op) -> Result<(), GuestFault> {
        let seen = match op {
            Op::Publish(key) => {
                format!("{:?}", self.cursor.publish(&key, &self.state.next.to_string()).map_err(stopped)?)
            }
            Op::Log(message) => {
                format!("{:?}", self.cursor.log(LogLevel::Info, &message, Vec::new()).map_err(stopped)?)
            }
            Op::Version { id, min, max } => format!("v{}", self.cursor.version(&id, min, max).map_err(stopped)?),
            Op::Random => format!("r{}", self.cursor.random_u64()),
            Op::Uuid => self.cursor.uuid(),
            Op::Now => self.cursor.now().0.to_string(),
            Op::Info => format!("{} {}", self.cursor.history_length(), self.cursor.continue_as_new_advised()),
            other => format!("{other:?}"),
        };
        self.note(seen);
        Ok(())
    }
}

fn try_options(attempts: u32, interval_ms: u64, timeout_ms: u64) -> ActivityOptions {
    let retry = relive_core::retry::RetryPolicy {
        initial_interval: interval_ms * 1_000_000,
        maximum_attempts: attempts,
        jitter: 0.0,
        ..Default::default()
    };
    ActivityOptions { retry: Some(retry), start_to_close: Some(timeout_ms * 1_000_000), ..ActivityOptions::default() }
}

impl Guest for ModelGuest {
    fn start(&mut self, _workflow: &str, input: &Json) -> Result<GuestState, GuestFault> {
        self.state.program = match self.code.take() {
            Some(code) => code,
            None => serde_json::from_str(input.as_str()).map_err(|e| GuestFault::Contract(e.to_string()))?,
        };
        self.run()
    }

    fn resume(&mut self, event: GuestEvent) -> Result<GuestState, GuestFault> {
        match event {
            GuestEvent::CancelRequested => {
                self.state.canceled = true;
                self.note("asked to cancel");
            }
            GuestEvent::Resolved { promise, message_id, outcome } => {
                let outcome = outcome.map(|j| j.to_string()).map_err(|f| f.to_string());
                self.note(format!("{promise} {message_id:?} {outcome:?}"));
                self.state.results.insert(promise, outcome);
                if let Some(id) = message_id {
                    self.state.unread.insert(promise, id);
                }
            }
        }
        self.run()
    }

    fn cursor(&mut self) -> &mut Cursor {
        &mut self.cursor
    }

    fn memory_bytes(&self) -> usize {
        self.state.trace.len()
    }

    fn memory(&mut self) -> Option<&[u8]> {
        Some(self.state.trace.as_bytes())
    }

    fn capture(&mut self) -> Result<Option<Captured>, GuestFault> {
        let body = serde_json::to_vec(&self.state).map_err(|e| GuestFault::Host(e.to_string()))?;
        let (engine, memory_bytes) = ("model".to_owned(), body.len() as u64);
        let stamp = GuestStamp { engine, instrumentation: 0, baseline: [0; 32], memory_bytes, globals: Vec::new() };
        Ok(Some(Captured { stamp, body }))
    }
}
