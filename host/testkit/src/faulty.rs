//! A history store that fails on purpose: it loses answers, lets others append in between, and has transient trouble.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};

use relive_core::{
    Json, Namespace, RunId, RunKey, Shard, ShardSet, Timestamp, WorkflowId,
    codec::{Codec, CodecId, StoredEvent, current_version},
    cursor::LogLine,
    event::{Attributes, EventBody, SignalReceived},
    ports::{
        AppendError, AppendItem, Appended, Census, ExecutionRow, HistoryStore, ListFilter, Prepared, Published,
        RowChange, Status, StoreError, StoreErrorKind, Taken, TaskRow, TimerRow, VersionCount, Wanted,
    },
};

/// What happens to an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing of it is done; the store says that it may be tried again.
    Transient,
    /// It is committed, and the same item comes a second time, as after a lost reply.
    Twice,
    /// It is committed, and the store says that it lost the answer.
    Lost,
    /// An outside writer gets in first, with what `interloper` makes of the row.
    Interloper,
}

type Interloper = dyn Fn(&ExecutionRow) -> Option<AppendItem> + Send + Sync;

/// The store. `plan` says for the n-th item (from 1) what happens to it.
pub struct FaultyStore {
    inner: Arc<dyn HistoryStore>,
    plan: Box<dyn Fn(u64) -> Option<Fault> + Send + Sync>,
    interloper: Box<Interloper>,
    items: AtomicU64,
    hit: Mutex<Vec<Fault>>,
    /// Reads of events that failed since it was made blind; none: they succeed.
    blind: Mutex<Option<u64>>,
}

impl FaultyStore {
    pub fn new(
        inner: Arc<dyn HistoryStore>,
        plan: impl Fn(u64) -> Option<Fault> + Send + Sync + 'static,
        interloper: impl Fn(&ExecutionRow) -> Option<AppendItem> + Send + Sync + 'static,
    ) -> Self {
        let (items, hit, blind) = Default::default();
        Self { inner, plan: Box::new(plan), interloper: Box::new(interloper), items, hit, blind }
    }

    /// From now on events cannot be read and runs not be made, or they can again.
    pub fn make_blind(&self, blind: bool) {
        *self.blind.lock().expect("no panic under the lock") = blind.then_some(0);
    }

    /// How many reads have failed since it was made blind.
    pub fn unread(&self) -> u64 {
        self.blind.lock().expect("no panic under the lock").unwrap_or(0)
    }

    /// The faults that took effect.
    pub fn hit(&self) -> Vec<Fault> {
        self.hit.lock().expect("no panic under the lock").clone()
    }

    fn see(&self) -> Result<(), StoreError> {
        match &mut *self.blind.lock().expect("no panic under the lock") {
            Some(failed) => {
                *failed += 1;
                Err(StoreError::new(StoreErrorKind::Transient, "as told"))
            }
            None => Ok(()),
        }
    }

    fn append_one(&self, item: &AppendItem) -> Result<Appended, AppendError> {
        let fault = (self.plan)(self.items.fetch_add(1, Ordering::AcqRel) + 1);
        let inner = |item: &AppendItem| {
            self.inner.append(std::slice::from_ref(item)).pop().unwrap_or(Err(AppendError::NotFound))
        };
        let took_effect = match fault {
            None => false,
            Some(Fault::Transient) => {
                self.hit.lock().expect("no panic under the lock").push(Fault::Transient);
                return Err(StoreError::new(StoreErrorKind::Transient, "as told").into());
            }
            Some(Fault::Twice) => inner(item).is_ok(),
            Some(Fault::Lost) => {
                inner(item)?;
                self.hit.lock().expect("no panic under the lock").push(Fault::Lost);
                return Err(StoreError::new(StoreErrorKind::Transient, "as told").in_doubt(true).into());
            }
            Some(Fault::Interloper) => {
                let row = self.inner.execution(item.run).ok().flatten().filter(|r| r.status.is_open());
                row.and_then(|row| (self.interloper)(&row)).is_some_and(|other| inner(&other).is_ok())
            }
        };
        if let (true, Some(fault)) = (took_effect, fault) {
            self.hit.lock().expect("no panic under the lock").push(fault);
        }
        inner(item)
    }
}

impl HistoryStore for FaultyStore {
    fn append(&self, batch: &[AppendItem]) -> Vec<Result<Appended, AppendError>> {
        batch.iter().map(|item| self.append_one(item)).collect()
    }
    fn allocate_run_key(&self, shard: Shard) -> Result<RunKey, StoreError> {
        self.see()?;
        self.inner.allocate_run_key(shard)
    }
    fn stamp_epoch(&self, run: RunKey, epoch: u64) -> Result<ExecutionRow, AppendError> {
        self.inner.stamp_epoch(run, epoch)
    }
    fn take(&self, run: RunKey, epoch: u64) -> Result<Option<Taken>, AppendError> {
        self.inner.take(run, epoch)
    }
    fn takes_together(&self) -> usize {
        self.inner.takes_together()
    }
    fn take_together(&self, wanted: &[Wanted]) -> Result<Vec<Option<Prepared>>, StoreError> {
        self.inner.take_together(wanted)
    }
    fn execution(&self, run: RunKey) -> Result<Option<ExecutionRow>, StoreError> {
        self.inner.execution(run)
    }
    fn find(&self, ns: &Namespace, id: &WorkflowId, run: Option<RunId>) -> Result<Option<ExecutionRow>, StoreError> {
        self.inner.find(ns, id, run)
    }
    fn list(&self, filter: &ListFilter, before: Option<RunKey>, limit: usize) -> Result<Vec<ExecutionRow>, StoreError> {
        self.inner.list(filter, before, limit)
    }
    fn read_from(&self, run: RunKey, from: u64, limit: usize) -> Result<Vec<StoredEvent>, StoreError> {
        self.see()?;
        self.inner.read_from(run, from, limit)
    }
    fn needs_wake(&self, shards: &ShardSet, after: RunKey, limit: usize) -> Result<Vec<RunKey>, StoreError> {
        self.inner.needs_wake(shards, after, limit)
    }
    fn due_timers(
        &self,
        shards: &ShardSet,
        after: Option<TimerRow>,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<TimerRow>, StoreError> {
        self.inner.due_timers(shards, after, until, limit)
    }
    fn open_tasks(
        &self,
        shards: &ShardSet,
        after: Option<(RunKey, u64)>,
        limit: usize,
    ) -> Result<Vec<TaskRow>, StoreError> {
        self.inner.open_tasks(shards, after, limit)
    }
    fn exhausted_tasks(
        &self,
        ns: &Namespace,
        after: Option<(RunKey, u64)>,
        limit: usize,
    ) -> Result<Vec<TaskRow>, StoreError> {
        self.inner.exhausted_tasks(ns, after, limit)
    }
    fn open_work(&self, run: RunKey) -> Result<(Vec<TaskRow>, Vec<TimerRow>), StoreError> {
        self.inner.open_work(run)
    }
    fn count_crash(&self, shards: &ShardSet, running: &[RunKey], now: Timestamp) -> Result<(), StoreError> {
        self.inner.count_crash(shards, running, now)
    }
    fn published(&self, run: RunKey, key: Option<&str>) -> Result<Vec<Published>, StoreError> {
        self.inner.published(run, key)
    }
    fn logs(&self, run: RunKey, after: u64, limit: usize) -> Result<Vec<(u64, LogLine)>, StoreError> {
        self.inner.logs(run, after, limit)
    }
    fn census(&self) -> Result<Census, StoreError> {
        self.inner.census()
    }
    fn count_versions(
        &self,
        ns: &Namespace,
        workflow: &str,
        since: Timestamp,
        limit: usize,
    ) -> Result<Vec<VersionCount>, StoreError> {
        self.inner.count_versions(ns, workflow, since, limit)
    }
    fn probe(&self) -> Result<(), StoreError> {
        self.inner.probe()
    }
}

/// An item of an outside writer: one event on top of the row.
///
/// # Panics
/// If the event cannot be encoded.
pub fn outside(row: &ExecutionRow, attributes: impl Into<Attributes>, status: Status) -> AppendItem {
    let body = EventBody::new(None, attributes);
    let mut bytes = Vec::new();
    CodecId::Json.encode(&body, &mut bytes).expect("encodes");
    let inbound = body.event_type().is_inbound();
    let change = RowChange {
        status,
        blocked: None,
        last_inbound_id: if inbound { row.last_event_id + 1 } else { row.last_inbound_id },
        applied_through: row.applied_through,
        command_count: row.command_count,
        reset_crashes: false,
        digest: None,
    };
    let mut item = AppendItem::new(row.key, row.last_event_id, None, change);
    item.inbound_keys = if inbound { body.inbound_key().into_iter().collect() } else { Vec::new() };
    let mut event = StoredEvent {
        event_id: row.last_event_id + 1,
        timestamp: row.last_timestamp.max(Timestamp(1)),
        event_type: body.event_type().code(),
        codec: 1,
        event_version: current_version(body.event_type()),
        bytes: bytes.into(),
        hash: [0; 32],
    };
    event.hash = event.expected_hash(&row.last_hash);
    item.events.push(event);
    item
}

/// An outside writer's message on channel `a`.
#[must_use]
pub fn signal(row: &ExecutionRow) -> Option<AppendItem> {
    let id = format!("outside-{}", row.last_event_id);
    let received = SignalReceived { channel: "a".into(), message_id: id.into(), payload: Json::null() };
    Some(outside(row, received, row.status))
}
