//! The command sequence: calls that take a command number. Each is matched with the record or becomes a new command.

use std::sync::Arc;

use super::{Cursor, Divergence, Mode, Open};
use crate::{
    command::{Matched, matched},
    event::{Attributes, EventBody, TaskCancelRequested, TaskScheduled, TimerCanceled, TimerCreated},
    ids::{check_id, check_name},
    json::Json,
    limits::{HELD_TEXT_BYTES, MAX_BYTES_PER_TURN, MAX_COMMANDS_PER_TURN, MAX_DURATION_NANOS},
    options::{ActivityOptions, CancellationType},
};

/// Why a durable call was refused: a deterministic function of the history and the arguments. The guest goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    InvalidJson(String),
    InvalidArgument(String),
    LimitExceeded(String),
    UnknownPromise(u64),
    SpentPromise(u64),
}

/// Why the guest cannot go on. The sandbox turns it into a trap.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// The code asked for something else than history holds; see [`Cursor::take_divergence`].
    #[error("the code diverged from its history")]
    Diverged,
    /// Durable calls are not available during instantiation and description.
    #[error("{0} is not available before the workflow has started")]
    Dormant(&'static str),
    /// An argument that the contract answers with a trap.
    #[error("{0}")]
    Contract(String),
}

/// The answer to a durable call.
pub type Call<T> = Result<Result<T, CallError>, Stop>;

fn refused<T>(error: CallError) -> Call<T> {
    Ok(Err(error))
}

impl Cursor {
    /// `durable.start-activity`.
    pub fn start_activity(&mut self, name: &str, input: &str, options: ActivityOptions) -> Call<u64> {
        self.awake("start-activity")?;
        if let Err(error) = self
            .may_open()
            .and_then(|()| check_options(&options))
            .and_then(|()| self.spend(input.len() + kept(&options)))
        {
            return refused(error);
        }
        let cancellation = options.cancellation;
        if !self.fast_match(name, input) {
            let input = match self.checked_json(input, "input") {
                Ok(json) => json,
                Err(error) => return refused(error),
            };
            if let Err(error) = check_name(name, "activity name") {
                return refused(CallError::InvalidArgument(error.to_string()));
            }
            let asked = Matched::Activity { name, input: input.as_str() };
            if self.issue(&asked)? {
                let queue = options.task_queue.as_deref().map(Arc::from);
                let attributes = TaskScheduled { name: name.into(), input: input.clone(), options: Arc::new(options) };
                self.record(attributes).task_queue = queue;
            }
        }
        Ok(Ok(self.opened(Open::Activity { cancellation })))
    }

    /// `durable.start-timer`; the duration in ns.
    pub fn start_timer(&mut self, duration: u64) -> Call<u64> {
        self.awake("start-timer")?;
        if let Err(error) = self.may_open().and_then(|()| check_duration("duration", Some(duration))) {
            return refused(error);
        }
        if self.issue(&Matched::Timer { duration })? {
            let deadline = self.now.plus(duration);
            self.record(TimerCreated { duration, deadline });
        }
        Ok(Ok(self.opened(Open::Timer)))
    }

    /// `durable.next-message`. Takes a number and leaves no event: unresolved it holds nothing.
    pub fn next_message(&mut self, channel: &str) -> Call<u64> {
        self.awake("next-message")?;
        if let Err(error) = self.may_open() {
            return refused(error);
        }
        if let Err(error) = check_id(channel, "channel") {
            return refused(CallError::InvalidArgument(error.to_string()));
        }
        self.issue_unrecorded(|| format!("next message of channel {channel:?}"))?;
        let channel: Arc<str> = channel.into();
        let promise = self.opened(Open::Message { channel: channel.clone() });
        self.waiting.entry(channel).or_default().push_back(promise);
        Ok(Ok(promise))
    }

    /// `durable.cancel-promise`.
    pub fn cancel_promise(&mut self, promise: u64) -> Call<()> {
        self.awake("cancel-promise")?;
        let Some(open) = self.open.get(&promise).cloned() else {
            let unknown = promise == 0 || promise > self.issued;
            return refused(if unknown {
                CallError::UnknownPromise(promise)
            } else {
                CallError::SpentPromise(promise)
            });
        };
        if let Err(error) = self.may_issue() {
            return refused(error);
        }
        match open {
            Open::Message { channel } => {
                self.issue_unrecorded(|| format!("cancel of message promise {promise}"))?;
                if let Some(promises) = self.waiting.get_mut(&channel) {
                    promises.retain(|p| *p != promise);
                    if promises.is_empty() {
                        self.waiting.remove(&channel);
                    }
                }
                self.open.remove(&promise);
            }
            Open::Timer => {
                if self.issue(&Matched::CancelTimer { target: promise })? {
                    self.record(TimerCanceled { target: promise });
                }
                self.open.remove(&promise);
            }
            Open::Activity { cancellation } => {
                if self.issue(&Matched::CancelActivity { target: promise })? {
                    self.record(TaskCancelRequested { target: promise, cancellation });
                }
                if cancellation != CancellationType::Wait {
                    self.open.remove(&promise);
                }
            }
        }
        self.advance();
        Ok(Ok(()))
    }

    pub(super) fn awake(&self, call: &'static str) -> Result<(), Stop> {
        if self.mode == Mode::Dormant { Err(Stop::Dormant(call)) } else { Ok(()) }
    }

    /// Checks a JSON argument against the run's payload limit and the contract's form.
    pub(super) fn checked_json(&self, text: &str, what: &str) -> Result<Json, CallError> {
        let limit = self.run.limits.payload_bytes as usize;
        if text.len() > limit {
            return Err(CallError::LimitExceeded(format!(
                "{what} has {} bytes; at most {limit} are allowed",
                text.len()
            )));
        }
        Json::parse(text).map_err(|e| CallError::InvalidJson(format!("{what}: {e}")))
    }

    /// Counts what a turn asks the host to keep.
    pub(super) fn spend(&mut self, bytes: usize) -> Result<(), CallError> {
        self.bytes_this_turn = self.bytes_this_turn.saturating_add(bytes);
        if self.bytes_this_turn > MAX_BYTES_PER_TURN {
            return Err(CallError::LimitExceeded(format!("a turn hands over at most {MAX_BYTES_PER_TURN} bytes")));
        }
        Ok(())
    }

    fn may_issue(&self) -> Result<(), CallError> {
        if self.issued_this_turn >= MAX_COMMANDS_PER_TURN {
            return Err(CallError::LimitExceeded(format!(
                "a turn issues at most {MAX_COMMANDS_PER_TURN} commands; wait for something first"
            )));
        }
        Ok(())
    }

    fn may_open(&self) -> Result<(), CallError> {
        let limit = self.run.limits.pending_promises as usize;
        if self.open.len() >= limit {
            return Err(CallError::LimitExceeded(format!("{limit} promises are open; wait for some of them first")));
        }
        self.may_issue()
    }

    /// The usual case of a replay: the recorded activity with the very same text. No parsing is needed.
    fn fast_match(&mut self, name: &str, input: &str) -> bool {
        let Some(front) = self.recorded.front() else {
            return false;
        };
        let same = front.command_no == self.issued + 1
            && matches!(&front.attributes, Attributes::TaskScheduled(t) if *t.name == *name && t.input.as_str() == input);
        if same {
            self.recorded.pop_front();
        }
        same
    }

    /// Matches a command with the record. True: it is new, and the caller records it.
    fn issue(&mut self, asked: &Matched<'_>) -> Result<bool, Stop> {
        let number = self.issued + 1;
        match self.recorded.front() {
            Some(held) => {
                let input = match &held.attributes {
                    Attributes::TaskScheduled(t) => Some(&t.input),
                    _ => None,
                };
                let agrees = matched(&held.attributes).is_some_and(|m| asked.agrees_with(&m, input));
                if held.command_no != number || !agrees {
                    return Err(self.diverge(asked.to_string()));
                }
                self.recorded.pop_front();
                Ok(false)
            }
            None if self.mode == Mode::Replay => Err(self.diverge(asked.to_string())),
            None => Ok(true),
        }
    }

    /// Takes a number for a command that leaves no event; history must not hold another under it.
    fn issue_unrecorded(&mut self, asked: impl FnOnce() -> String) -> Result<(), Stop> {
        match self.recorded.front() {
            Some(held) if held.command_no <= self.issued + 1 => Err(self.diverge(asked())),
            _ => Ok(()),
        }
    }

    fn record(&mut self, attributes: impl Into<Attributes>) -> &mut EventBody {
        let at = self.turn.commands.len();
        self.turn.commands.push(EventBody::new(Some(self.issued + 1), attributes));
        &mut self.turn.commands[at]
    }

    fn advance(&mut self) -> u64 {
        self.issued += 1;
        self.issued_this_turn += 1;
        self.issued
    }

    fn opened(&mut self, open: Open) -> u64 {
        let number = self.advance();
        self.open.insert(number, open);
        number
    }

    pub(super) fn diverge(&mut self, asked: String) -> Stop {
        self.divergence =
            Some(Box::new(Divergence::at_command(self.issued + 1, self.recorded.front(), asked, self.last_applied)));
        Stop::Diverged
    }
}

/// Bytes of text that the options hold, each with what it takes to hold it.
fn kept(options: &ActivityOptions) -> usize {
    let codes = options.retry.iter().flat_map(|policy| &policy.non_retryable_codes);
    let texts = options.task_queue.iter().chain(&options.summary).chain(codes);
    texts.map(|text| text.len() + HELD_TEXT_BYTES).sum()
}

fn check_duration(what: &str, duration: Option<u64>) -> Result<(), CallError> {
    match duration {
        Some(nanos) if nanos > MAX_DURATION_NANOS => Err(CallError::InvalidArgument(format!(
            "{what} is {nanos} ns; at most {MAX_DURATION_NANOS} (100 years) are allowed"
        ))),
        _ => Ok(()),
    }
}

fn check_options(options: &ActivityOptions) -> Result<(), CallError> {
    check_duration("schedule-to-close", options.schedule_to_close)?;
    check_duration("schedule-to-start", options.schedule_to_start)?;
    check_duration("start-to-close", options.start_to_close)?;
    check_duration("heartbeat-timeout", options.heartbeat_timeout)?;
    if let Some(queue) = &options.task_queue {
        check_name(queue, "task queue").map_err(|e| CallError::InvalidArgument(e.to_string()))?;
    }
    if let Some(policy) = &options.retry {
        check_duration("retry.initial-interval", Some(policy.initial_interval))?;
        check_duration("retry.maximum-interval", Some(policy.maximum_interval))?;
        policy.check().map_err(CallError::InvalidArgument)?;
    }
    Ok(())
}
