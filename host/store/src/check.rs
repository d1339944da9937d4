//! The rules that an item is held to before anything of it is written: the same for every adapter.
//!
//! Owns: what is malformed, and the order in which refusals are told. Knows no adapter: it looks things up through
//! [`Lookup`], inside the adapter's transaction.

use relive_core::{
    Digest, EventType, Namespace, RunId, RunKey, Timestamp, WorkflowId,
    canonical_hash::GENESIS,
    codec::StoredEvent,
    limits::MAX_EVENT_ID,
    ports::{AppendError, AppendItem, ComponentMeta, Status, StoreError, StoreErrorKind},
};

/// Run keys take the upper 39 bits of a positive 64-bit row key, event ids and command numbers the lower 24.
pub const MAX_RUN_KEY: u64 = (1 << 39) - 1;
/// The largest stored event: a start event that carries unread messages is the only one beyond two payloads.
pub const MAX_EVENT_BYTES: usize = 64 << 20;
/// An inbound key is a message id (at most 256 bytes) with a prefix.
pub const MAX_INBOUND_KEY_BYTES: usize = 512;
/// Databases hold times as signed 64-bit integers (the year 2262).
pub const MAX_TIMESTAMP: Timestamp = Timestamp(i64::MAX as u64);

/// What an append needs to know of an execution's row.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    pub status: Status,
    pub epoch: u64,
    pub last_event_id: u64,
    pub last_hash: [u8; 32],
    pub last_timestamp: Timestamp,
    pub last_inbound_id: u64,
    pub applied_through: u64,
    pub command_count: u64,
    pub history_bytes: u64,
    pub log_count: u64,
}

/// What the rules ask of an adapter. Answers include the items before in the same batch.
pub trait Lookup {
    type Error;
    fn head(&self, run: RunKey) -> Result<Option<Head>, Self::Error>;
    fn has_inbound_key(&self, run: RunKey, key: &str) -> Result<bool, Self::Error>;
    fn open_run(&self, namespace: &Namespace, id: &WorkflowId) -> Result<Option<RunId>, Self::Error>;
    fn name(&self, run: RunKey) -> Result<Option<(Namespace, WorkflowId)>, Self::Error>;
    /// The epoch under which the run's shard is owned; 0 where nobody shares the store, or nobody has it yet.
    fn shard_epoch(&self, _run: RunKey) -> Result<u64, Self::Error> {
        Ok(0)
    }
}

/// Why an item goes no further: it is refused, or the store itself failed.
pub enum Stop<E> {
    /// A conflict comes without its tail: the adapter reads it.
    Refused(AppendError),
    Store(E),
}

impl<E> From<AppendError> for Stop<E> {
    fn from(error: AppendError) -> Self {
        Self::Refused(error)
    }
}

/// An item that may be written, with the rows as they stand after it.
pub struct Judged {
    /// `None` for a run that the item creates.
    pub before: Option<Head>,
    pub after: Head,
    pub successor: Option<Head>,
}

fn malformed(what: impl Into<String>) -> AppendError {
    AppendError::Malformed(what.into())
}

/// Judges an item. Refusals in this order: malformed, no such run, duplicate key, fenced, conflict, closed. An item
/// that was committed before is a duplicate or a conflict even if the run has closed since.
pub fn judge<L: Lookup>(rows: &L, item: &AppendItem) -> Result<Judged, Stop<L::Error>> {
    structure(item)?;
    if item.row.digest.is_some() && (item.epoch.is_none() || item.create.is_some()) {
        return Err(malformed("only a run's owner puts it on another component").into());
    }
    let (before, after) = match &item.create {
        Some(new) => {
            if let Some(head) = rows.head(item.run).map_err(Stop::Store)? {
                return Err(conflict(item.expected, head.last_event_id).into());
            }
            // A new run has no row that could fence: an owner of before must not begin what others have begun since.
            let owner = rows.shard_epoch(item.run).map_err(Stop::Store)?;
            if let Some(epoch) = item.epoch.filter(|epoch| *epoch < owner) {
                return Err(AppendError::Fenced { epoch, owner }.into());
            }
            let key = &new.execution;
            if let Some(run_id) = rows.open_run(&key.namespace, &key.workflow_id).map_err(Stop::Store)? {
                return Err(AppendError::AlreadyStarted(run_id).into());
            }
            (None, created(item)?)
        }
        None => {
            let head = rows.head(item.run).map_err(Stop::Store)?.ok_or(AppendError::NotFound)?;
            for key in &item.inbound_keys {
                if rows.has_inbound_key(item.run, key).map_err(Stop::Store)? {
                    return Err(AppendError::Duplicate(key.clone()).into());
                }
            }
            let after = continued(item, &head)?;
            (Some(head), after)
        }
    };
    let successor = match &item.successor {
        Some(next) => Some(judge_successor(rows, item, next)?),
        None => None,
    };
    Ok(Judged { before, after, successor })
}

fn judge_successor<L: Lookup>(rows: &L, item: &AppendItem, next: &AppendItem) -> Result<Head, Stop<L::Error>> {
    let parent = match &item.create {
        Some(new) => Some((new.execution.namespace.clone(), new.execution.workflow_id.clone())),
        None => rows.name(item.run).map_err(Stop::Store)?,
    };
    let own = next.create.as_ref().map(|new| (new.execution.namespace.clone(), new.execution.workflow_id.clone()));
    if parent != own {
        return Err(malformed("the successor is of another workflow id").into());
    }
    if rows.head(next.run).map_err(Stop::Store)?.is_some() {
        return Err(malformed("the successor's run exists").into());
    }
    Ok(created(next)?)
}

/// The conflict of an item, its tail still to be read.
fn conflict(expected: u64, actual: u64) -> AppendError {
    AppendError::Conflict { expected, actual, tail: Vec::new() }
}

/// What can be said of an item alone.
fn structure(item: &AppendItem) -> Result<(), AppendError> {
    if item.run.0 == 0 || item.run.0 > MAX_RUN_KEY {
        return Err(malformed(format!("run key {} is outside 1 to {MAX_RUN_KEY}", item.run.0)));
    }
    if item.create.is_some() && (item.expected != 0 || item.events.is_empty()) {
        return Err(malformed("a new run begins with event 1"));
    }
    check_events(item)?;
    check_row(item)?;
    check_work(item)?;
    if let Some(next) = &item.successor {
        if item.row.status.is_open() {
            return Err(malformed("only a run that ends has a successor"));
        }
        if next.create.is_none() || next.successor.is_some() || next.run == item.run {
            return Err(malformed("a successor is one new run"));
        }
        structure(next)?;
    }
    Ok(())
}

fn check_events(item: &AppendItem) -> Result<(), AppendError> {
    let last = item.last_event_id();
    if last > MAX_EVENT_ID {
        return Err(malformed(format!("event id {last} is above {MAX_EVENT_ID}")));
    }
    for (event, expected) in item.events.iter().zip(item.expected + 1..) {
        if event.event_id != expected {
            return Err(malformed(format!("event {} stands where {expected} should", event.event_id)));
        }
        if event.bytes.len() > MAX_EVENT_BYTES {
            return Err(malformed(format!(
                "event {expected} has {} bytes, at most {MAX_EVENT_BYTES} are allowed",
                event.bytes.len()
            )));
        }
        let ty = EventType::from_code(event.event_type)
            .ok_or_else(|| malformed(format!("event {expected} is of the unknown type {}", event.event_type)))?;
        if (ty == EventType::ExecutionStarted) != (expected == 1) {
            return Err(malformed(format!("ExecutionStarted must be event 1 and only that, see event {expected}")));
        }
        if ty.is_terminal() && (expected != last || item.row.status.is_open()) {
            return Err(malformed(format!(
                "event {expected} ends the run, and the row or a later event says otherwise"
            )));
        }
        if item.epoch.is_none() && !outsiders_may(ty) {
            return Err(malformed(format!("{ty} may only be appended by an owner")));
        }
    }
    Ok(())
}

/// What may be appended without an epoch: starts, messages, cancel requests, completions by token, operator control.
fn outsiders_may(ty: EventType) -> bool {
    let completion = matches!(ty, EventType::TaskCompleted | EventType::TaskFailed | EventType::TaskCanceled);
    let arrival = matches!(ty, EventType::ExecutionStarted | EventType::SignalReceived | EventType::CancelRequested);
    completion || arrival || ty.is_control()
}

fn check_row(item: &AppendItem) -> Result<(), AppendError> {
    let row = &item.row;
    let ends = item.events.last().and_then(|e| EventType::from_code(e.event_type)).is_some_and(EventType::is_terminal);
    if row.status.is_open() == ends {
        return Err(malformed(format!("the row says {}, the last event says otherwise", row.status.name())));
    }
    if (row.status == Status::Blocked) != row.blocked.is_some() {
        return Err(malformed(format!("a row that is {} has the block reason {:?}", row.status.name(), row.blocked)));
    }
    if row.applied_through > row.last_inbound_id {
        return Err(malformed(format!("event {} was applied, {} came last", row.applied_through, row.last_inbound_id)));
    }
    if row.command_count > MAX_EVENT_ID {
        return Err(malformed(format!("{} commands are more than {MAX_EVENT_ID}", row.command_count)));
    }
    Ok(())
}

fn check_work(item: &AppendItem) -> Result<(), AppendError> {
    let numbers = item.put_tasks.iter().map(|t| t.command_no).chain(item.put_timers.iter().map(|t| t.command_no));
    let removed = item.remove_tasks.iter().chain(&item.remove_timers).copied();
    if let Some(no) = numbers.chain(removed).find(|no| *no > MAX_EVENT_ID) {
        return Err(malformed(format!("command number {no} is above {MAX_EVENT_ID}")));
    }
    let foreign =
        item.put_tasks.iter().map(|t| t.run).chain(item.put_timers.iter().map(|t| t.run)).find(|run| *run != item.run);
    if let Some(run) = foreign {
        return Err(malformed(format!("a task or timer is of run {}", run.0)));
    }
    let times = item
        .put_tasks
        .iter()
        .flat_map(|t| [t.due_at, t.scheduled_at])
        .chain(item.put_timers.iter().map(|t| t.deadline));
    let started = item.create.iter().map(|new| new.started_at).chain(item.logs.iter().map(|line| line.at));
    if let Some(at) = times.chain(started).find(|at| *at > MAX_TIMESTAMP) {
        return Err(malformed(format!("time {} ns is beyond the year 2262", at.0)));
    }
    for (n, key) in item.inbound_keys.iter().enumerate() {
        if key.len() > MAX_INBOUND_KEY_BYTES || item.inbound_keys[..n].contains(key) {
            return Err(malformed(format!("inbound key {key:?} is too long or given twice")));
        }
    }
    Ok(())
}

/// Times and hashes must go on where the history ended.
fn check_chain(events: &[StoredEvent], mut time: Timestamp, mut hash: [u8; 32]) -> Result<(), AppendError> {
    for event in events {
        if event.timestamp < time || event.timestamp > MAX_TIMESTAMP {
            return Err(malformed(format!(
                "event {} is older than the event before it, or beyond the year 2262",
                event.event_id
            )));
        }
        if event.expected_hash(&hash) != event.hash {
            return Err(malformed(format!("the hash of event {} does not chain to the one before", event.event_id)));
        }
        (time, hash) = (event.timestamp, event.hash);
    }
    Ok(())
}

/// The row's number of the last inbound event must be the history's.
fn check_inbound(item: &AppendItem, before: u64) -> Result<(), AppendError> {
    let inbound =
        item.events.iter().rev().find(|e| EventType::from_code(e.event_type).is_some_and(EventType::is_inbound));
    let wanted = inbound.map_or(before, |e| e.event_id);
    if item.row.last_inbound_id == wanted {
        return Ok(());
    }
    Err(malformed(format!("the row names inbound event {} as the last, history {wanted}", item.row.last_inbound_id)))
}

fn created(item: &AppendItem) -> Result<Head, AppendError> {
    check_chain(&item.events, Timestamp(0), GENESIS)?;
    check_inbound(item, 0)?;
    let nothing = Head {
        status: item.row.status,
        epoch: 0,
        last_event_id: 0,
        last_hash: GENESIS,
        last_timestamp: Timestamp(0),
        last_inbound_id: 0,
        applied_through: item.row.applied_through,
        command_count: item.row.command_count,
        history_bytes: 0,
        log_count: 0,
    };
    Ok(after(item, &nothing))
}

fn continued(item: &AppendItem, head: &Head) -> Result<Head, AppendError> {
    if let Some(epoch) = item.epoch
        && epoch < head.epoch
    {
        return Err(AppendError::Fenced { epoch, owner: head.epoch });
    }
    let closed = !head.status.is_open();
    if item.expected < head.last_event_id || (item.expected > head.last_event_id && !closed) {
        return Err(conflict(item.expected, head.last_event_id));
    }
    if closed {
        return Err(AppendError::Closed);
    }
    check_chain(&item.events, head.last_timestamp, head.last_hash)?;
    check_inbound(item, head.last_inbound_id)?;
    if item.events.is_empty() && item.row.status != head.status {
        return Err(malformed("the status changes without an event"));
    }
    if item.epoch.is_some()
        && (item.row.applied_through < head.applied_through || item.row.command_count < head.command_count)
    {
        return Err(malformed("the row's numbers go back"));
    }
    Ok(after(item, head))
}

/// The row after an item that was found good. An outside writer has not lived the run: `applied_through` and
/// `command_count` stay what the owner made them, and so does the epoch.
fn after(item: &AppendItem, head: &Head) -> Head {
    let last = item.events.last();
    let owner = item.epoch.is_some();
    Head {
        status: item.row.status,
        epoch: item.epoch.unwrap_or(head.epoch),
        last_event_id: item.last_event_id(),
        last_hash: last.map_or(head.last_hash, |e| e.hash),
        last_timestamp: last.map_or(head.last_timestamp, |e| e.timestamp),
        last_inbound_id: item.row.last_inbound_id,
        applied_through: if owner { item.row.applied_through } else { head.applied_through },
        command_count: if owner { item.row.command_count } else { head.command_count },
        history_bytes: head.history_bytes + item.events.iter().map(|e| e.bytes.len() as u64).sum::<u64>(),
        log_count: head.log_count + item.logs.len() as u64,
    }
}

/// A component must be what its digest says before it is kept.
pub fn component(meta: &ComponentMeta, bytes: &[u8]) -> Result<(), StoreError> {
    if Digest::of(bytes) == meta.digest && bytes.len() as u64 == meta.size {
        return Ok(());
    }
    let message = format!("component {} does not have the digest and size that it is put under", meta.digest.short());
    Err(StoreError::new(StoreErrorKind::Corrupt, message))
}
