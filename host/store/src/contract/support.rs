//! Histories to write: a script knows where its run stands and makes the items that come next.

use std::sync::Arc;

use relive_core::{
    Attributes, Digest, Json, Namespace, RunId, RunKey, Shard, Timestamp, WorkflowId,
    canonical_hash::GENESIS,
    codec::{Codec, CodecId, StoredEvent, current_version},
    event::{
        CancelRequested, EventBody, ExecutionCompleted, ExecutionContinuedAsNew, ExecutionStarted, ExecutionTerminated,
        SignalReceived, TaskCompleted, TaskScheduled, TimerCreated, TimerFired,
    },
    history::{Rows, decode_all, validate_rows},
    ids::ExecutionKey,
    limits::RunLimits,
    options::ActivityOptions,
    ports::{AppendError, AppendItem, Appended, HistoryStore, NewExecution, RowChange, Status, TaskRow, TimerRow},
};
use uuid::Uuid;

use super::Store;

/// Nanoseconds between two events of a script.
pub const TICK: u64 = 1_000;

/// A run and where it stands.
#[derive(Clone, Debug)]
pub struct Script {
    pub run: RunKey,
    pub execution: ExecutionKey,
    pub last: u64,
    pub hash: [u8; 32],
    pub time: Timestamp,
    pub row: RowChange,
}

/// A name that tests choose.
#[must_use]
pub fn workflow_id(text: &str) -> WorkflowId {
    WorkflowId::new(text).expect("a valid workflow id")
}

/// Some JSON.
#[must_use]
pub fn json(text: &str) -> Json {
    Json::parse(text).expect("valid JSON")
}

impl Script {
    /// A run that is not started.
    #[must_use]
    pub fn new(store: &(impl HistoryStore + ?Sized), id: &str) -> Self {
        Self::with_key(store.allocate_run_key(Shard(0)).expect("a run key"), id)
    }

    /// A run under a key of the test's choice; its run id is made of it.
    #[must_use]
    pub fn with_key(run: RunKey, id: &str) -> Self {
        let run_id = RunId(Uuid::from_u128(u128::from(run.0) << 64));
        let execution = ExecutionKey { namespace: Namespace::default(), workflow_id: workflow_id(id), run_id };
        let row = RowChange {
            status: Status::Running,
            blocked: None,
            last_inbound_id: 0,
            applied_through: 0,
            command_count: 0,
            reset_crashes: false,
            digest: None,
        };
        Self { run, execution, last: 0, hash: GENESIS, time: Timestamp(1_000_000), row }
    }

    /// A run that is started, under epoch 1.
    #[must_use]
    pub fn started(store: &dyn Store, id: &str) -> Self {
        let mut script = Self::new(store, id);
        script.append(store, &script.start(Some(1))).expect("a new run");
        script
    }

    /// The item that creates the run.
    #[must_use]
    pub fn start(&self, epoch: Option<u64>) -> AppendItem {
        let start = ExecutionStarted {
            execution: self.execution.clone(),
            workflow: "order".into(),
            export: "order".into(),
            digest: Digest::of(b"code"),
            input: json("{\"a\":1}"),
            seed: [7; 32],
            limits: RunLimits::default(),
            continued_from: None,
            carried_messages: Vec::new(),
            carried_cancel: false,
            start_key: None,
        };
        let mut item = self.item(epoch, [EventBody::new(None, start)]);
        item.create = Some(NewExecution {
            execution: self.execution.clone(),
            workflow: "order".into(),
            digest: Digest::of(b"code"),
            started_at: self.time,
            correlation_id: Some("corr".into()),
        });
        item
    }

    /// The item that appends `bodies`; its row says what they imply, and that everything was applied if there is an
    /// owner. The script stays where it is.
    #[must_use]
    pub fn item(&self, epoch: Option<u64>, bodies: impl IntoIterator<Item = EventBody>) -> AppendItem {
        let mut item = AppendItem::new(self.run, self.last, epoch, self.row.clone());
        let (mut hash, mut time) = (self.hash, self.time);
        for (body, event_id) in bodies.into_iter().zip(self.last + 1..) {
            time = time.plus(TICK);
            let event = stored(event_id, time, &body, &hash);
            hash = event.hash;
            let ty = body.event_type();
            if ty.is_inbound() {
                item.row.last_inbound_id = event_id;
            }
            if ty.is_numbered_command() {
                item.row.command_count = body.command_no.unwrap_or(0);
            }
            if ty.is_terminal() {
                item.row.status = closed_status(&body.attributes);
                item.row.blocked = None;
            }
            item.events.push(event);
        }
        if epoch.is_some() {
            item.row.applied_through = item.row.last_inbound_id;
        }
        item
    }

    /// Takes it that `item` was appended.
    pub fn took(&mut self, item: &AppendItem) {
        self.last = item.last_event_id();
        if let Some(event) = item.events.last() {
            (self.hash, self.time) = (event.hash, event.timestamp);
        }
        self.row = item.row.clone();
        self.row.reset_crashes = false;
        self.row.digest = None;
    }

    /// Appends the item, and goes on from there if it was taken.
    pub fn append(&mut self, store: &dyn Store, item: &AppendItem) -> Result<Appended, AppendError> {
        let result = append_one(store, item);
        if result.is_ok() {
            self.took(item);
        }
        result
    }

    /// Appends events as the owner of epoch 1.
    pub fn go_on(&mut self, store: &dyn Store, bodies: impl IntoIterator<Item = EventBody>) {
        let item = self.item(Some(1), bodies);
        self.append(store, &item).expect("the next events");
    }

    /// A task of the run, scheduled by event `event_id`.
    #[must_use]
    pub fn task(&self, command_no: u64, event_id: u64) -> TaskRow {
        TaskRow::new(self.run, command_no, event_id, self.time)
    }

    /// A timer of the run.
    #[must_use]
    pub fn timer(&self, command_no: u64, deadline: u64) -> TimerRow {
        TimerRow { deadline: Timestamp(deadline), run: self.run, command_no }
    }
}

/// Appends a batch of one.
pub fn append_one(store: &dyn Store, item: &AppendItem) -> Result<Appended, AppendError> {
    let mut results = store.append(std::slice::from_ref(item));
    assert_eq!(results.len(), 1, "one result an item");
    results.remove(0)
}

/// An event as the engine would store it.
#[must_use]
pub fn stored(event_id: u64, timestamp: Timestamp, body: &EventBody, prev: &[u8; 32]) -> StoredEvent {
    let mut bytes = Vec::new();
    CodecId::Postcard.encode(body, &mut bytes).expect("an encodable body");
    let mut event = StoredEvent {
        event_id,
        timestamp,
        event_type: body.event_type().code(),
        codec: CodecId::Postcard.codec_id(),
        event_version: current_version(body.event_type()),
        bytes: bytes.into(),
        hash: GENESIS,
    };
    event.hash = event.expected_hash(prev);
    event
}

fn closed_status(attributes: &Attributes) -> Status {
    match attributes {
        Attributes::ExecutionCompleted(_) => Status::Completed,
        Attributes::ExecutionFailed(_) => Status::Failed,
        Attributes::ExecutionCanceled(_) => Status::Canceled,
        Attributes::ExecutionContinuedAsNew(_) => Status::ContinuedAsNew,
        _ => Status::Terminated,
    }
}

/// A message of this id.
#[must_use]
pub fn signal(message_id: &str) -> EventBody {
    EventBody::new(None, SignalReceived { channel: "in".into(), message_id: message_id.into(), payload: json("1") })
}

#[must_use]
pub fn scheduled(command_no: u64, input: &str) -> EventBody {
    let options = Arc::new(ActivityOptions::default());
    EventBody::new(Some(command_no), TaskScheduled { name: "charge".into(), input: json(input), options })
}

#[must_use]
pub fn done(command_no: u64) -> EventBody {
    EventBody::new(Some(command_no), TaskCompleted { attempt: 1, result: json("true") })
}

#[must_use]
pub fn timer_created(command_no: u64, deadline: u64) -> EventBody {
    EventBody::new(Some(command_no), TimerCreated { duration: 1, deadline: Timestamp(deadline) })
}

#[must_use]
pub fn timer_fired(command_no: u64) -> EventBody {
    EventBody::new(Some(command_no), TimerFired {})
}

#[must_use]
pub fn completed() -> EventBody {
    EventBody::new(None, ExecutionCompleted { result: Json::null() })
}

#[must_use]
pub fn terminated() -> EventBody {
    EventBody::new(None, ExecutionTerminated { reason: "enough".to_owned() })
}

#[must_use]
pub fn cancel() -> EventBody {
    EventBody::new(None, CancelRequested { reason: "changed my mind".to_owned() })
}

#[must_use]
pub fn continued(new_run_id: RunId) -> EventBody {
    EventBody::new(None, ExecutionContinuedAsNew { new_run_id, input: Json::null(), unread_messages: Vec::new() })
}

/// Reads a run whole and holds it against the invariants, rows included.
pub fn check_run(store: &dyn Store, run: RunKey) {
    let row = store.execution(run).expect("readable").expect("a row");
    let stored = store.read_from(run, 1, usize::MAX).expect("readable");
    let events = decode_all(&stored).expect("an unbroken chain");
    let (tasks, timers) = store.open_work(run).expect("readable");
    let rows = Rows {
        open: row.status.is_open(),
        last_event_id: row.last_event_id,
        last_inbound_id: row.last_inbound_id,
        applied_through: row.applied_through,
        tasks: tasks.iter().map(|t| t.command_no).collect(),
        timers: timers.iter().map(|t| t.command_no).collect(),
        exhausted: tasks.iter().filter(|t| t.exhausted.is_some()).map(|t| t.command_no).collect(),
    };
    validate_rows(&events, &rows).expect("a valid history");
    assert_eq!(row.last_hash, stored.last().map_or(GENESIS, |e| e.hash));
    assert_eq!(row.last_timestamp, stored.last().map_or(Timestamp(0), |e| e.timestamp));
    assert_eq!(row.history_bytes, stored.iter().map(|e| e.bytes.len() as u64).sum::<u64>());
}

/// Asserts that nothing of a refused item is in the store.
pub fn assert_untouched(store: &(impl HistoryStore + ?Sized), script: &Script) {
    let row = store.execution(script.run).expect("readable");
    assert_eq!(row.as_ref().map_or(0, |r| r.last_event_id), script.last);
    assert_eq!(row.map_or(GENESIS, |r| r.last_hash), script.hash);
    assert_eq!(store.read_from(script.run, script.last + 1, usize::MAX).expect("readable"), []);
}
