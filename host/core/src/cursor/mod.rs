//! The replay cursor: the host's side of one instance, as pure code. It answers the guest's durable calls from the
//! history while there is history, and turns them into new commands when the run is live.
//!
//! Two sequences, not one: commands are matched in the order of issue with the recorded ones; inbound events are
//! applied in history order, one at a time, only while the guest waits. `apply.rs` owns the second, `calls.rs` and
//! `answers.rs` the first. Nothing in here grows with what is past: only with what is open.

mod answers;
mod apply;
mod calls;
mod report;
mod state;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use crate::{
    command::Recorded,
    event::{Attributes, EventBody, ExecutionStarted, HistoryEvent, StartKey},
    ids::{Digest, ExecutionKey, RunId},
    json::Json,
    limits::RunLimits,
    options::CancellationType,
    random::{RandomStream, Stream},
    time::Timestamp,
};

pub use calls::{Call, CallError, Stop};
pub use report::Divergence;
pub use state::{CursorState, NoMessage};

/// What a run is, for as long as it runs.
#[derive(Clone, Debug)]
pub struct RunContext {
    pub execution: ExecutionKey,
    pub workflow: Arc<str>,
    /// The component that runs now.
    pub digest: Digest,
    pub started_at: Timestamp,
    pub continued_from: Option<RunId>,
    /// The request that started it; the run that continues it inherits it.
    pub start_key: Option<Arc<StartKey>>,
    pub correlation_id: Option<Arc<str>>,
    /// The trace that it was started in.
    pub trace_id: Option<Arc<str>>,
    pub seed: [u8; 32],
    pub limits: RunLimits,
}

impl RunContext {
    /// The context that a start event gives, under the code `digest`.
    #[must_use]
    pub fn new(start: &ExecutionStarted, body: &EventBody, at: Timestamp, digest: Digest) -> Self {
        Self {
            execution: start.execution.clone(),
            workflow: start.workflow.clone(),
            digest,
            started_at: at,
            continued_from: start.continued_from,
            start_key: start.start_key.clone(),
            correlation_id: body.correlation_id.clone(),
            trace_id: body.trace_id.clone(),
            seed: start.seed,
            limits: start.limits,
        }
    }
}

/// A log line of an execution.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct LogLine {
    pub at: Timestamp,
    pub level: LogLevel,
    pub message: String,
    pub fields: Vec<(String, Json)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

/// What a promise waits for.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Open {
    Activity { cancellation: CancellationType },
    Timer,
    Message { channel: Arc<str> },
}

/// A message that waits in its channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Unread {
    /// The event that brought it, with a place within it for carried messages.
    pub order: (u64, u32),
    pub message_id: Arc<str>,
    pub payload: Json,
}

/// What a live turn asks the host to record.
#[derive(Debug, Default)]
pub struct TurnOutput {
    /// New command events in the order of issue.
    pub commands: Vec<EventBody>,
    pub logs: Vec<LogLine>,
    /// The last value of each key.
    pub published: BTreeMap<String, Json>,
}

impl TurnOutput {
    /// Whether the turn left nothing to record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty() && self.logs.is_empty() && self.published.is_empty()
    }

    /// Adds what a later turn of the same item left.
    pub fn extend(&mut self, later: TurnOutput) {
        self.commands.extend(later.commands);
        self.logs.extend(later.logs);
        self.published.extend(later.published);
    }
}

/// How calls are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The component is being instantiated or described: durable calls trap.
    Dormant,
    /// The turn was recorded: commands must match, nothing takes effect.
    Replay,
    /// As replay, but where the record ends the guest may go on (a history that was cut off).
    Lenient,
    /// The turn is new: commands are recorded and effects are taken.
    Live,
}

/// The host's side of one instance. See the module.
#[derive(Debug)]
pub struct Cursor {
    run: Arc<RunContext>,
    mode: Mode,
    /// Gather logs and published values while replaying, too (for inspection; nothing is recorded by it).
    collect: bool,
    now: Timestamp,
    last_applied: u64,
    applied_events: u64,
    issued: u64,
    issued_this_turn: usize,
    publishes_this_turn: usize,
    bytes_this_turn: usize,
    recorded: VecDeque<Recorded>,
    recorded_versions: BTreeMap<String, u32>,
    versions: BTreeMap<String, u32>,
    open: BTreeMap<u64, Open>,
    waiting: BTreeMap<Arc<str>, VecDeque<u64>>,
    unread: BTreeMap<Arc<str>, VecDeque<Unread>>,
    cancel_delivered: bool,
    cancel_carried: bool,
    durable: RandomStream,
    turn: TurnOutput,
    divergence: Option<Box<Divergence>>,
}

impl Cursor {
    /// A cursor before the first event; durable calls trap until a turn begins.
    #[must_use]
    pub fn new(run: Arc<RunContext>) -> Self {
        Self {
            durable: RandomStream::new(run.seed, Stream::Durable),
            run,
            mode: Mode::Dormant,
            collect: false,
            now: Timestamp(0),
            last_applied: 0,
            applied_events: 0,
            issued: 0,
            issued_this_turn: 0,
            publishes_this_turn: 0,
            bytes_this_turn: 0,
            recorded: VecDeque::new(),
            recorded_versions: BTreeMap::new(),
            versions: BTreeMap::new(),
            open: BTreeMap::new(),
            waiting: BTreeMap::new(),
            unread: BTreeMap::new(),
            cancel_delivered: false,
            cancel_carried: false,
            turn: TurnOutput::default(),
            divergence: None,
        }
    }

    /// Takes what a history recorded: its commands and its version answers. Inbound events are applied one by one.
    pub fn load(&mut self, events: &[HistoryEvent]) {
        for event in events {
            if let Some(recorded) = Recorded::of(event.event_id, &event.body) {
                self.recorded.push_back(recorded);
            } else if let Attributes::VersionRecorded(v) = &event.body.attributes {
                self.recorded_versions.insert(v.change_id.clone(), v.version);
            } else if let Attributes::VersionChanged(v) = &event.body.attributes {
                self.recorded_versions.extend(v.answers.iter().map(|(id, version)| (id.clone(), *version)));
            }
        }
    }

    /// Gathers logs and published values while replaying, too.
    pub fn collect(&mut self) {
        self.collect = true;
    }

    #[must_use]
    pub fn run(&self) -> &Arc<RunContext> {
        &self.run
    }

    /// What `version` answered so far.
    #[must_use]
    pub fn versions(&self) -> &BTreeMap<String, u32> {
        &self.versions
    }

    /// Commands issued so far.
    #[must_use]
    pub fn issued(&self) -> u64 {
        self.issued
    }

    /// The id of the last inbound event applied.
    #[must_use]
    pub fn last_applied(&self) -> u64 {
        self.last_applied
    }

    /// Promises that are not spent, by number.
    #[must_use]
    pub fn open(&self) -> &BTreeMap<u64, Open> {
        &self.open
    }

    /// Messages that no promise has taken, by channel.
    #[must_use]
    pub fn unread(&self) -> &BTreeMap<Arc<str>, VecDeque<Unread>> {
        &self.unread
    }

    /// The recorded command that should come next, if history holds more.
    #[must_use]
    pub fn next_recorded(&self) -> Option<&Recorded> {
        self.recorded.front()
    }

    /// Whether a cancel request was handed to the guest.
    #[must_use]
    pub fn cancel_delivered(&self) -> bool {
        self.cancel_delivered
    }

    /// What stopped the guest, if a call did.
    pub fn take_divergence(&mut self) -> Option<Box<Divergence>> {
        self.divergence.take()
    }

    fn effects_taken(&self) -> bool {
        self.mode == Mode::Live || self.collect
    }
}
