//! The history port: append with a conditional expectation, read back, and the indexes that recovery stands on.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Census, Prepared, StoredImage, Taken, VersionCount, Wanted};
use crate::{
    codec::StoredEvent,
    cursor::LogLine,
    event::{BlockReason, TaskExhausted},
    ids::{Digest, ExecutionKey, Namespace, RunId, RunKey, WorkflowId},
    json::Json,
    options::ActivityOptions,
    shard::{Shard, ShardSet},
    time::Timestamp,
};

/// How a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    Running,
    /// Open, and in need of an operator; the row's `blocked` says why.
    Blocked,
    Completed,
    Failed,
    Canceled,
    Terminated,
    ContinuedAsNew,
}

impl Status {
    pub const ALL: [Self; 7] = [
        Self::Running,
        Self::Blocked,
        Self::Completed,
        Self::Failed,
        Self::Canceled,
        Self::Terminated,
        Self::ContinuedAsNew,
    ];

    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, Self::Running | Self::Blocked)
    }

    /// The name in the store, the API and the CLI.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Blocked => "blocked",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::Terminated => "terminated",
            Self::ContinuedAsNew => "continued-as-new",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.name() == name)
    }
}

/// What an execution's row says.
#[derive(Clone, Debug, PartialEq)]
pub struct ExecutionRow {
    pub key: RunKey,
    pub execution: ExecutionKey,
    pub workflow: Arc<str>,
    pub digest: Digest,
    pub status: Status,
    pub blocked: Option<BlockReason>,
    pub epoch: u64,
    pub last_event_id: u64,
    pub last_hash: [u8; 32],
    pub last_timestamp: Timestamp,
    pub last_inbound_id: u64,
    pub applied_through: u64,
    pub command_count: u64,
    /// Stored bytes of the history.
    pub history_bytes: u64,
    /// How often the host died while this guest was running.
    pub crashes: u32,
    pub started_at: Timestamp,
    pub closed_at: Option<Timestamp>,
    pub correlation_id: Option<Arc<str>>,
}

/// The row of a run that an item creates.
#[derive(Clone, Debug, PartialEq)]
pub struct NewExecution {
    pub execution: ExecutionKey,
    pub workflow: Arc<str>,
    pub digest: Digest,
    pub started_at: Timestamp,
    pub correlation_id: Option<Arc<str>>,
}

impl ExecutionRow {
    /// The row of a run before its first event.
    #[must_use]
    pub fn new(key: RunKey, new: &NewExecution, epoch: u64) -> Self {
        Self {
            key,
            execution: new.execution.clone(),
            workflow: new.workflow.clone(),
            digest: new.digest,
            status: Status::Running,
            blocked: None,
            epoch,
            last_event_id: 0,
            last_hash: crate::canonical_hash::GENESIS,
            last_timestamp: new.started_at,
            last_inbound_id: 0,
            applied_through: 0,
            command_count: 0,
            history_bytes: 0,
            crashes: 0,
            started_at: new.started_at,
            closed_at: None,
            correlation_id: new.correlation_id.clone(),
        }
    }
}

/// What the row says after the item.
#[derive(Clone, Debug, PartialEq)]
pub struct RowChange {
    pub status: Status,
    pub blocked: Option<BlockReason>,
    pub last_inbound_id: u64,
    pub applied_through: u64,
    pub command_count: u64,
    /// Back to zero when an operator unblocks.
    pub reset_crashes: bool,
    /// The component that the run goes on on, if it is another; owners alone may say so.
    pub digest: Option<Digest>,
}

/// An activity that is scheduled and not resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskRow {
    pub run: RunKey,
    pub command_no: u64,
    /// The event that scheduled it.
    pub event_id: u64,
    /// The attempt that is due or running, from 1.
    pub attempt: u32,
    pub due_at: Timestamp,
    /// When it was scheduled; schedule-to-close counts from here.
    pub scheduled_at: Timestamp,
    /// The task queue from which workers take it; `None`: the host runs it itself, and counts its attempts after a crash,
    /// unless somebody else answers for them.
    pub queue: Option<Arc<str>>,
    /// Who has the attempt, if it is not the host itself.
    pub claim: Option<Claim>,
    /// What the latest heartbeat told, of this attempt or one before.
    pub details: Option<Json>,
    /// The guest gave it up and waits for its answer.
    pub cancel_requested: bool,
    /// No attempt begins until an operator resumes it.
    pub paused: bool,
    /// What an operator put in place of the options that were asked for.
    pub options: Option<Arc<ActivityOptions>>,
    /// Its attempts are used up and nobody answered the last: no attempt begins until an operator decides.
    pub exhausted: Option<Arc<Exhausted>>,
}

impl TaskRow {
    /// The row of an activity that is scheduled at `at` by event `event_id`.
    #[must_use]
    pub fn new(run: RunKey, command_no: u64, event_id: u64, at: Timestamp) -> Self {
        Self {
            run,
            command_no,
            event_id,
            attempt: 1,
            due_at: at,
            scheduled_at: at,
            queue: None,
            claim: None,
            details: None,
            cancel_requested: false,
            paused: false,
            options: None,
            exhausted: None,
        }
    }
}

/// How a task came to be held, as its event says, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exhausted {
    pub at: Timestamp,
    pub how: TaskExhausted,
}

/// A lease on one attempt of a task: a worker's, or that of whoever has its token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Drawn at random: whoever knows it may answer for the attempt.
    pub secret: u64,
    /// The worker's id; `None`: its answer comes from elsewhere, whatever becomes of the worker.
    pub worker: Option<Arc<str>>,
    /// Start-to-close counts from here.
    pub at: Timestamp,
}

/// A timer that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimerRow {
    pub deadline: Timestamp,
    pub run: RunKey,
    pub command_no: u64,
}

/// One unit of an append: all of it or nothing. It belongs to one run, and may create that run or its successor.
/// Removals win over puts of the same item. An outside writer's `applied_through` and `command_count` are ignored:
/// the row keeps its owner's. Refusals are told in this order: malformed, not found, duplicate, fenced, conflict,
/// closed; so an item that was committed before is a duplicate or a conflict even if the run has closed since.
#[derive(Clone, Debug)]
pub struct AppendItem {
    pub run: RunKey,
    /// The id of the last event that the writer knows; 0 for a run that the item creates.
    pub expected: u64,
    /// The owner's epoch. `None` for outside writers, who may append messages, cancel requests and operator control.
    pub epoch: Option<u64>,
    /// Contiguous from `expected + 1`, hashed.
    pub events: Vec<StoredEvent>,
    pub row: RowChange,
    /// The row to create; then `expected` is 0.
    pub create: Option<NewExecution>,
    /// New tasks, or tasks whose attempt and due time changed.
    pub put_tasks: Vec<TaskRow>,
    pub remove_tasks: Vec<u64>,
    pub put_timers: Vec<TimerRow>,
    pub remove_timers: Vec<u64>,
    /// Unique keys of the inbound events that come from outside (messages, cancel requests).
    pub inbound_keys: Vec<String>,
    pub published: BTreeMap<String, Json>,
    pub logs: Vec<LogLine>,
    /// A memory image that rides along; lost with a refused item, and not kept if the item ends the run.
    pub image: Option<StoredImage>,
    /// The next run under the same workflow id, in the same transaction.
    pub successor: Option<Box<AppendItem>>,
}

impl AppendItem {
    /// An item that changes nothing yet.
    #[must_use]
    pub fn new(run: RunKey, expected: u64, epoch: Option<u64>, row: RowChange) -> Self {
        Self {
            run,
            expected,
            epoch,
            events: Vec::new(),
            row,
            create: None,
            put_tasks: Vec::new(),
            remove_tasks: Vec::new(),
            put_timers: Vec::new(),
            remove_timers: Vec::new(),
            inbound_keys: Vec::new(),
            published: BTreeMap::new(),
            logs: Vec::new(),
            image: None,
            successor: None,
        }
    }

    /// The id of the last event after the item.
    #[must_use]
    pub fn last_event_id(&self) -> u64 {
        self.events.last().map_or(self.expected, |e| e.event_id)
    }
}

/// An item that is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    pub last_event_id: u64,
}

/// Why an item was not appended. Nothing of it is in the store.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum AppendError {
    /// Somebody appended in between. The tail holds what came after `expected`; the writer rebases on it.
    #[error("expected event {expected} to be the last, found {actual}")]
    Conflict { expected: u64, actual: u64, tail: Vec<StoredEvent> },
    /// One of the inbound keys is in the history: a retry that finds its own event is a success.
    #[error("inbound key {0:?} was recorded before")]
    Duplicate(String),
    #[error("no such run")]
    NotFound,
    /// The run has ended.
    #[error("the run is closed")]
    Closed,
    /// A later epoch owns the run: the writer must let go of it.
    #[error("epoch {epoch} was fenced off by epoch {owner}")]
    Fenced { epoch: u64, owner: u64 },
    /// An open run has the workflow id.
    #[error("workflow id is taken by the open run {0}")]
    AlreadyStarted(RunId),
    /// The item contradicts itself: gaps in its ids, events for a closed row.
    #[error("malformed item: {0}")]
    Malformed(String),
    #[error(transparent)]
    Backend(#[from] StoreError),
}

/// What kind of trouble a store has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// Worth another try by the caller, after a pause: busy, a lost connection, no space for now.
    Transient,
    /// No space or no permission: worth another try once an operator has acted.
    NoSpace,
    ReadOnly,
    /// Stored data does not check out.
    Corrupt,
    /// The data is another version's, another host holds it, or the adapter is broken.
    Fatal,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct StoreError {
    pub kind: StoreErrorKind,
    pub message: String,
    /// What was to be written may have been written, or may be yet: its answer was lost.
    pub in_doubt: bool,
}

impl StoreError {
    #[must_use]
    pub fn new(kind: StoreErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), in_doubt: false }
    }

    /// Whether what was to be written may have been.
    #[must_use]
    pub fn in_doubt(self, in_doubt: bool) -> Self {
        Self { in_doubt, ..self }
    }
}

/// Which executions to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListFilter {
    /// Absent: of all namespaces.
    pub namespace: Option<Namespace>,
    pub workflow: Option<String>,
    pub workflow_id: Option<WorkflowId>,
    pub status: Option<Status>,
}

impl ListFilter {
    /// Whether the row is one of those.
    #[must_use]
    pub fn holds(&self, row: &ExecutionRow) -> bool {
        self.namespace.as_ref().is_none_or(|ns| *ns == row.execution.namespace)
            && self.workflow.as_ref().is_none_or(|w| **w == *row.workflow)
            && self.workflow_id.as_ref().is_none_or(|id| *id == row.execution.workflow_id)
            && self.status.is_none_or(|status| status == row.status)
    }
}

/// A value that queries read.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    pub key: String,
    pub value: Json,
    /// The history's last event when it was set.
    pub event_id: u64,
}

/// Histories and what belongs to them.
pub trait HistoryStore: Send + Sync {
    /// Appends each item whole or not at all; a bad item never fails its neighbours. One result an item, in order.
    ///
    /// **Durability point**: when this returns, every `Ok` item survives the loss of power. A store whose sync fails
    /// ends the process instead of returning. Transient errors are retried by the caller with the same item: an item
    /// that was committed and whose reply was lost shows up in the `Conflict` tail, or as `Duplicate`.
    fn append(&self, batch: &[AppendItem]) -> Vec<Result<Appended, AppendError>>;

    /// A fresh key for a run of the shard. Keys may be lost, never given out twice. A store that one host has to itself
    /// may ignore shards, here and below: that host owns them all.
    fn allocate_run_key(&self, shard: Shard) -> Result<RunKey, StoreError>;

    /// Takes a run over: its row's epoch becomes `epoch`, and lower ones cannot append any more. Durable. A run that
    /// has ended is `Closed`.
    fn stamp_epoch(&self, run: RunKey, epoch: u64) -> Result<ExecutionRow, AppendError>;

    /// What an owner needs to begin, in one round trip, after the run was stamped with its epoch as by
    /// [`HistoryStore::stamp_epoch`]. A store that one host has to itself may leave the stamp to the owner's first append.
    fn take(&self, run: RunKey, epoch: u64) -> Result<Option<Taken>, AppendError>;

    /// How many runs [`HistoryStore::take_together`] takes at about the price of one; 1: taking each alone costs no more.
    fn takes_together(&self) -> usize {
        1
    }

    /// [`HistoryStore::take`] of many different runs in one round trip, with what wakes their guests where that is wanted.
    /// One answer a run, in order. `None`: it could not be told with the others, as somebody has it, changes it, or
    /// there is none; taking it alone tells more.
    fn take_together(&self, wanted: &[Wanted]) -> Result<Vec<Option<Prepared>>, StoreError> {
        Ok(vec![None; wanted.len()])
    }

    fn execution(&self, run: RunKey) -> Result<Option<ExecutionRow>, StoreError>;

    /// A run by its name: the given one, else the open one, else the latest.
    fn find(
        &self,
        namespace: &Namespace,
        id: &WorkflowId,
        run: Option<RunId>,
    ) -> Result<Option<ExecutionRow>, StoreError>;

    /// Newest first, those with keys below `before`.
    fn list(&self, filter: &ListFilter, before: Option<RunKey>, limit: usize) -> Result<Vec<ExecutionRow>, StoreError>;

    /// Events from `from` (an event id) on, at most `limit`.
    fn read_from(&self, run: RunKey, from: u64, limit: usize) -> Result<Vec<StoredEvent>, StoreError>;

    /// Running executions of the shards with inbound events that were not applied (indexed), by key, above `after`.
    fn needs_wake(&self, shards: &ShardSet, after: RunKey, limit: usize) -> Result<Vec<RunKey>, StoreError>;

    /// Open timers of the shards in order of (deadline, run, command), strictly after `after`, with deadlines up to
    /// `until`.
    fn due_timers(
        &self,
        shards: &ShardSet,
        after: Option<TimerRow>,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<TimerRow>, StoreError>;

    /// All open tasks of the shards, by (run, command), strictly after `after`.
    fn open_tasks(
        &self,
        shards: &ShardSet,
        after: Option<(RunKey, u64)>,
        limit: usize,
    ) -> Result<Vec<TaskRow>, StoreError>;

    /// A run's open tasks and timers.
    fn open_work(&self, run: RunKey) -> Result<(Vec<TaskRow>, Vec<TimerRow>), StoreError>;

    /// Open tasks of a namespace, of all shards, that are exhausted (indexed), by (run, command), strictly after `after`.
    fn exhausted_tasks(
        &self,
        namespace: &Namespace,
        after: Option<(RunKey, u64)>,
        limit: usize,
    ) -> Result<Vec<TaskRow>, StoreError>;

    /// Called once by a host that takes shards over after an unclean end: attempts of their tasks without a queue and
    /// without a claim that were due by `now` count as made, but for exhausted ones (those that workers and others have live on with their
    /// claims), and `running` (runs of any shard whose guests were on a thread) get a crash more. Durable.
    fn count_crash(&self, shards: &ShardSet, running: &[RunKey], now: Timestamp) -> Result<(), StoreError>;

    fn published(&self, run: RunKey, key: Option<&str>) -> Result<Vec<Published>, StoreError>;

    /// Log lines from number `after` on; each with its number.
    fn logs(&self, run: RunKey, after: u64, limit: usize) -> Result<Vec<(u64, LogLine)>, StoreError>;

    /// Counts open executions, by indexes: it is asked every few seconds.
    fn census(&self) -> Result<Census, StoreError> {
        Err(StoreError::new(StoreErrorKind::Fatal, "this store does not count executions"))
    }

    /// Counts a workflow's runs that began at `since` or later, by code and status: all open ones, and of the others those
    /// among its latest `limit` runs.
    fn count_versions(
        &self,
        namespace: &Namespace,
        workflow: &str,
        since: Timestamp,
        limit: usize,
    ) -> Result<Vec<VersionCount>, StoreError>;

    /// Whether the store can be written: writes and syncs something that means nothing. For a store without anything to
    /// write to, that it answers is enough.
    fn probe(&self) -> Result<(), StoreError> {
        self.execution(RunKey(0)).map(|_| ())
    }
}
