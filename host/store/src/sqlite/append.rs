//! The hot path: a batch in one transaction.
//!
//! Items are judged and their execution rows written one by one, in order, so that later items see earlier ones; all
//! other rows are gathered and written at the end with few statements. An item that is refused has written nothing.
//! An error that nobody foresaw rolls everything back, and the batch is halved until the bad item stands alone.

use std::{collections::BTreeMap, sync::LazyLock};

use relive_core::{
    Digest, Namespace, RunId, RunKey, Timestamp, WorkflowId,
    codec::StoredEvent,
    cursor::LogLine,
    ports::{AppendError, AppendItem, Appended, NewExecution, Status, StoredImage, TaskRow},
};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Result, params};

use super::{
    bulk::Bulk,
    error::unreadable,
    images, read,
    rows::{self, last_row_key, level_code, row_key, status_code, time},
    writer::{Done, FaultPoint, Shared, Writer},
};
use crate::artifacts::{APART, is_large};
use crate::check::{Head, Judged, Lookup, Stop, judge};

type Outcome = std::result::Result<Appended, AppendError>;

/// Appends a batch; see the port.
pub(super) fn append(writer: &Writer, batch: &[AppendItem]) -> Vec<Outcome> {
    if batch.is_empty() {
        return Vec::new();
    }
    match writer.transact(|conn| try_batch(conn, &writer.shared, batch)) {
        Ok(outcomes) => outcomes,
        Err(error) if batch.len() == 1 || writer.shared.check_alive().is_err() => {
            batch.iter().map(|_| Err(AppendError::Backend(error.clone()))).collect()
        }
        Err(error) => {
            tracing::warn!(%error, items = batch.len(), "a batch failed and is halved");
            let (left, right) = batch.split_at(batch.len() / 2);
            let mut outcomes = append(writer, left);
            outcomes.extend(append(writer, right));
            outcomes
        }
    }
}

fn try_batch(conn: &Connection, shared: &Shared, batch: &[AppendItem]) -> Result<Done<Vec<Outcome>>> {
    let mut gathered = Gathered::default();
    let mut outcomes = Vec::with_capacity(batch.len());
    for item in batch {
        outcomes.push(match judge(&Rows(conn), item) {
            Ok(judged) => {
                shared.fault(FaultPoint::Write)?;
                place(conn, item, &judged, &mut gathered)?;
                Ok(Appended { last_event_id: judged.after.last_event_id })
            }
            Err(Stop::Refused(error)) => Err(error),
            Err(Stop::Store(error)) => return Err(error),
        });
    }
    gathered.flush(conn)?;
    for (item, outcome) in batch.iter().zip(&mut outcomes) {
        if let Err(AppendError::Conflict { expected, actual, tail }) = outcome {
            *tail = read::events(conn, item.run, *expected + 1, *actual, usize::MAX)?;
        }
    }
    Ok(if outcomes.iter().any(std::result::Result::is_ok) { Done::Commit(outcomes) } else { Done::Rollback(outcomes) })
}

/// Looks up in the transaction.
struct Rows<'a>(&'a Connection);

impl Lookup for Rows<'_> {
    type Error = rusqlite::Error;

    fn head(&self, run: RunKey) -> Result<Option<Head>> {
        let sql = "SELECT status, epoch, last_event_id, last_hash, last_timestamp, last_inbound_id, applied_through, command_count, \
                   history_bytes, log_count FROM executions WHERE key = ?1";
        let read = |row: &rusqlite::Row<'_>| {
            Ok(Head {
                status: rows::status_of(row.get(0)?)?,
                epoch: rows::number(row, 1)?,
                last_event_id: rows::number(row, 2)?,
                last_hash: rows::hash(row, 3)?,
                last_timestamp: rows::timestamp(row, 4)?,
                last_inbound_id: rows::number(row, 5)?,
                applied_through: rows::number(row, 6)?,
                command_count: rows::number(row, 7)?,
                history_bytes: rows::number(row, 8)?,
                log_count: rows::number(row, 9)?,
            })
        };
        self.0.prepare_cached(sql)?.query_row([run.0.cast_signed()], read).optional()
    }

    fn has_inbound_key(&self, run: RunKey, key: &str) -> Result<bool> {
        let sql = "SELECT 1 FROM inbound_keys WHERE run = ?1 AND key = ?2";
        self.0.prepare_cached(sql)?.exists(params![run.0.cast_signed(), key])
    }

    fn open_run(&self, namespace: &Namespace, id: &WorkflowId) -> Result<Option<RunId>> {
        let sql = "SELECT run_id FROM executions WHERE namespace = ?1 AND workflow_id = ?2 AND status <= 1";
        self.0.prepare_cached(sql)?.query_row([namespace.as_str(), id.as_str()], |row| rows::run_id(row, 0)).optional()
    }

    fn name(&self, run: RunKey) -> Result<Option<(Namespace, WorkflowId)>> {
        let sql = "SELECT namespace, workflow_id FROM executions WHERE key = ?1";
        let read = |row: &rusqlite::Row<'_>| Ok((rows::namespace(row, 0)?, rows::workflow_id(row, 1)?));
        self.0.prepare_cached(sql)?.query_row([run.0.cast_signed()], read).optional()
    }
}

/// Writes an item's execution rows and keys, and gathers the rest.
fn place<'a>(conn: &Connection, item: &'a AppendItem, judged: &Judged, gathered: &mut Gathered<'a>) -> Result<()> {
    place_one(conn, item, judged.before.as_ref(), &judged.after, gathered)?;
    if let (Some(next), Some(head)) = (&item.successor, &judged.successor) {
        place_one(conn, next, None, head, gathered)?;
    }
    Ok(())
}

fn place_one<'a>(
    conn: &Connection,
    item: &'a AppendItem,
    before: Option<&Head>,
    after: &Head,
    gathered: &mut Gathered<'a>,
) -> Result<()> {
    match (before, &item.create) {
        (Some(before), _) if before.status == after.status && !item.row.reset_crashes && item.row.digest.is_none() => {
            step(conn, item, after)?;
        }
        (Some(_), _) => change(conn, item, after)?,
        (None, Some(new)) => create(conn, item, new, after)?,
        (None, None) => return Err(unreadable("an item without a row")),
    }
    for key in &item.inbound_keys {
        conn.prepare_cached("INSERT INTO inbound_keys (run, key) VALUES (?1, ?2)")?
            .execute(params![item.run.0.cast_signed(), key])?;
    }
    for (key, value) in &item.published {
        let sql = "INSERT INTO published (run, key, event_id, value) VALUES (?1, ?2, ?3, ?4) \
                   ON CONFLICT DO UPDATE SET event_id = excluded.event_id, value = excluded.value";
        let row = params![item.run.0.cast_signed(), key, after.last_event_id.cast_signed(), value.as_str()];
        conn.prepare_cached(sql)?.execute(row)?;
    }
    gathered.take(item, after);
    Ok(())
}

/// Binds what every update sets (?1 to ?9), and its condition (?10, ?11).
fn bind_head(statement: &mut CachedStatement<'_>, item: &AppendItem, after: &Head) -> Result<()> {
    let numbers = [after.epoch, after.last_event_id, after.last_inbound_id, after.applied_through, after.command_count];
    for (n, value) in numbers.into_iter().chain([after.history_bytes, after.log_count]).enumerate() {
        statement.raw_bind_parameter(n + 1, value.cast_signed())?;
    }
    statement.raw_bind_parameter(8, time(after.last_timestamp))?;
    statement.raw_bind_parameter(9, after.last_hash.as_slice())?;
    statement.raw_bind_parameter(10, item.run.0.cast_signed())?;
    statement.raw_bind_parameter(11, item.expected.cast_signed())?;
    statement.raw_bind_parameter(12, status_code(after.status))
}

/// An ordinary step: the status stays, so the indexes on it are not touched. The condition repeats what was judged:
/// it is the fence, should the judgement ever be wrong.
fn step(conn: &Connection, item: &AppendItem, after: &Head) -> Result<()> {
    let mut statement = conn.prepare_cached(
        "UPDATE executions SET epoch = ?1, last_event_id = ?2, last_inbound_id = ?3, applied_through = ?4, command_count = ?5, \
         history_bytes = ?6, log_count = ?7, last_timestamp = ?8, last_hash = ?9 \
         WHERE key = ?10 AND last_event_id = ?11 AND epoch <= ?1 AND status = ?12 AND status <= 1",
    )?;
    bind_head(&mut statement, item, after)?;
    expect_one(statement.raw_execute()?)
}

/// A step that changes the status, or the component, too.
fn change(conn: &Connection, item: &AppendItem, after: &Head) -> Result<()> {
    let mut statement = conn.prepare_cached(
        "UPDATE executions SET epoch = ?1, last_event_id = ?2, last_inbound_id = ?3, applied_through = ?4, command_count = ?5, \
         history_bytes = ?6, log_count = ?7, last_timestamp = ?8, last_hash = ?9, status = ?12, blocked = ?13, closed_at = ?14, \
         crashes = iif(?15, 0, crashes), digest = coalesce(?16, digest) \
         WHERE key = ?10 AND last_event_id = ?11 AND epoch <= ?1 AND status <= 1",
    )?;
    bind_head(&mut statement, item, after)?;
    statement.raw_bind_parameter(13, item.row.blocked.map(|b| b.to_string()))?;
    statement.raw_bind_parameter(14, closed_at(after))?;
    statement.raw_bind_parameter(15, item.row.reset_crashes)?;
    statement.raw_bind_parameter(16, item.row.digest.as_ref().map(|digest| digest.0.as_slice()))?;
    expect_one(statement.raw_execute()?)
}

fn closed_at(after: &Head) -> Option<i64> {
    (!after.status.is_open()).then(|| time(after.last_timestamp))
}

fn expect_one(changed: usize) -> Result<()> {
    if changed == 1 { Ok(()) } else { Err(unreadable(format!("an execution's row that {changed} rows answer to"))) }
}

fn create(conn: &Connection, item: &AppendItem, new: &NewExecution, after: &Head) -> Result<()> {
    let sql = "INSERT INTO executions (key, status, epoch, last_event_id, last_timestamp, last_inbound_id, applied_through, command_count, \
               history_bytes, log_count, crashes, started_at, closed_at, last_hash, run_id, digest, namespace, workflow_id, workflow, \
               blocked, correlation_id) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 0, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)";
    conn.prepare_cached(sql)?.execute(params![
        item.run.0.cast_signed(),
        status_code(after.status),
        after.epoch.cast_signed(),
        after.last_event_id.cast_signed(),
        time(after.last_timestamp),
        after.last_inbound_id.cast_signed(),
        after.applied_through.cast_signed(),
        after.command_count.cast_signed(),
        after.history_bytes.cast_signed(),
        after.log_count.cast_signed(),
        time(new.started_at),
        closed_at(after),
        after.last_hash.as_slice(),
        new.execution.run_id.0.as_bytes().as_slice(),
        new.digest.0.as_slice(),
        new.execution.namespace.as_str(),
        new.execution.workflow_id.as_str(),
        &*new.workflow,
        item.row.blocked.map(|b| b.to_string()),
        new.correlation_id.as_deref(),
    ])?;
    Ok(())
}

/// What is written at the end of a batch. Of a task or timer only the last word counts.
#[derive(Default)]
struct Gathered<'a> {
    events: Vec<(i64, &'a StoredEvent)>,
    /// Those whose bytes are kept apart.
    large: Vec<(i64, &'a StoredEvent)>,
    tasks: BTreeMap<i64, Option<&'a TaskRow>>,
    timers: BTreeMap<i64, Option<Timestamp>>,
    logs: Vec<(i64, &'a LogLine)>,
    images: Vec<&'a StoredImage>,
    closed: Vec<RunKey>,
}

static EVENTS: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::new("INSERT INTO events (key, timestamp, type, codec, version, hash, bytes) VALUES", "(?,?,?,?,?,?,?)", "")
});
static PUT_TASKS: LazyLock<Bulk> = LazyLock::new(|| {
    let tail = "ON CONFLICT DO UPDATE SET event_id = excluded.event_id, attempt = excluded.attempt, due_at = excluded.due_at, \
                scheduled_at = excluded.scheduled_at, queue = excluded.queue, claim_secret = excluded.claim_secret, \
                claim_worker = excluded.claim_worker, claimed_at = excluded.claimed_at, flags = excluded.flags, \
                details = excluded.details, options = excluded.options, exhausted = excluded.exhausted";
    let head = format!("INSERT INTO tasks ({}) VALUES", rows::TASK);
    Bulk::new(&head, "(?,?,?,?,?,?,?,?,?,?,?,?,?)", tail)
});
static PUT_TIMERS: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::new(
        "INSERT INTO timers (key, deadline) VALUES",
        "(?,?)",
        "ON CONFLICT DO UPDATE SET deadline = excluded.deadline",
    )
});
static PUT_LOGS: LazyLock<Bulk> =
    LazyLock::new(|| Bulk::new("INSERT INTO logs (key, at, level, message, fields) VALUES", "(?,?,?,?,?)", ""));
static REMOVE_TASKS: LazyLock<Bulk> = LazyLock::new(|| Bulk::new("DELETE FROM tasks WHERE key IN (", "?", ")"));
static REMOVE_TIMERS: LazyLock<Bulk> = LazyLock::new(|| Bulk::new("DELETE FROM timers WHERE key IN (", "?", ")"));

impl<'a> Gathered<'a> {
    /// Takes an item's rows. Within an item removals win: a timer may be made and given up in one turn.
    fn take(&mut self, item: &'a AppendItem, after: &Head) {
        let run = item.run;
        for event in &item.events {
            let rows = if is_large(event) { &mut self.large } else { &mut self.events };
            rows.push((row_key(run, event.event_id), event));
        }
        let first = after.log_count - item.logs.len() as u64 + 1;
        self.logs.extend((first..).zip(&item.logs).map(|(no, line)| (row_key(run, no), line)));
        if after.status.is_open() {
            self.images.extend(&item.image);
            self.tasks.extend(item.put_tasks.iter().map(|t| (row_key(run, t.command_no), Some(t))));
            self.tasks.extend(item.remove_tasks.iter().map(|no| (row_key(run, *no), None)));
            self.timers.extend(item.put_timers.iter().map(|t| (row_key(run, t.command_no), Some(t.deadline))));
            self.timers.extend(item.remove_timers.iter().map(|no| (row_key(run, *no), None)));
        } else {
            self.closed.push(run);
        }
    }

    /// Events that are kept apart, and their bytes.
    fn flush_large(&self, conn: &Connection) -> Result<()> {
        for (key, event) in &self.large {
            let digest = Digest::of(&event.bytes);
            let put = "INSERT INTO artifacts (digest, kind, event, size, bytes) VALUES (?1, 'event', ?2, ?3, ?4) \
                       ON CONFLICT DO NOTHING";
            let size = i64::try_from(event.bytes.len()).unwrap_or(i64::MAX);
            conn.prepare_cached(put)?.execute(params![digest.0.as_slice(), key, size, &*event.bytes])?;
            let row = "INSERT INTO events (key, timestamp, type, codec, version, hash, bytes) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
            conn.prepare_cached(row)?.execute(params![
                key,
                time(event.timestamp),
                event.event_type,
                event.codec | APART,
                event.event_version,
                event.hash.as_slice(),
                digest.0.as_slice()
            ])?;
        }
        Ok(())
    }

    fn flush(&self, conn: &Connection) -> Result<()> {
        self.flush_large(conn)?;
        EVENTS.run(conn, &self.events, |s, at, (key, event)| {
            s.raw_bind_parameter(at, key)?;
            s.raw_bind_parameter(at + 1, time(event.timestamp))?;
            s.raw_bind_parameter(at + 2, event.event_type)?;
            s.raw_bind_parameter(at + 3, event.codec)?;
            s.raw_bind_parameter(at + 4, event.event_version)?;
            s.raw_bind_parameter(at + 5, event.hash.as_slice())?;
            s.raw_bind_parameter(at + 6, &*event.bytes)
        })?;
        self.flush_tasks(conn)?;
        self.flush_timers(conn)?;
        PUT_LOGS.run(conn, &self.logs, |s, at, (key, line)| {
            s.raw_bind_parameter(at, key)?;
            s.raw_bind_parameter(at + 1, time(line.at))?;
            s.raw_bind_parameter(at + 2, level_code(line.level))?;
            s.raw_bind_parameter(at + 3, line.message.as_str())?;
            let fields =
                serde_json::to_string(&line.fields).map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))?;
            s.raw_bind_parameter(at + 4, fields)
        })?;
        for run in &self.closed {
            let range = (row_key(*run, 0), last_row_key(*run));
            conn.prepare_cached("DELETE FROM tasks WHERE key BETWEEN ?1 AND ?2")?.execute(range)?;
            conn.prepare_cached("DELETE FROM timers WHERE key BETWEEN ?1 AND ?2")?.execute(range)?;
            conn.prepare_cached("DELETE FROM images WHERE key BETWEEN ?1 AND ?2")?.execute(range)?;
        }
        self.images.iter().filter(|i| !self.closed.contains(&i.run)).try_for_each(|image| images::put(conn, image))
    }

    fn flush_tasks(&self, conn: &Connection) -> Result<()> {
        let put: Vec<(i64, &TaskRow)> = self.tasks.iter().filter_map(|(key, task)| task.map(|t| (*key, t))).collect();
        let removed: Vec<i64> = self.tasks.iter().filter(|(_, task)| task.is_none()).map(|(key, _)| *key).collect();
        REMOVE_TASKS.run(conn, &removed, |s, at, key| s.raw_bind_parameter(at, key))?;
        PUT_TASKS.run(conn, &put, |s, at, (key, task)| rows::bind_task(s, at, *key, task))
    }

    fn flush_timers(&self, conn: &Connection) -> Result<()> {
        let put: Vec<(i64, i64)> =
            self.timers.iter().filter_map(|(key, deadline)| deadline.map(|d| (*key, time(d)))).collect();
        let removed: Vec<i64> =
            self.timers.iter().filter(|(_, deadline)| deadline.is_none()).map(|(key, _)| *key).collect();
        REMOVE_TIMERS.run(conn, &removed, |s, at, key| s.raw_bind_parameter(at, key))?;
        PUT_TIMERS.run(conn, &put, |s, at, (key, deadline)| {
            s.raw_bind_parameter(at, key)?;
            s.raw_bind_parameter(at + 1, deadline)
        })
    }
}

/// See the port: one statement for the tasks, one a run for the crashes.
pub(super) fn count_crash(conn: &Connection, running: &[RunKey], now: Timestamp) -> Result<()> {
    let sql = "UPDATE tasks SET attempt = min(attempt + 1, 4294967295) \
               WHERE due_at <= ?1 AND queue IS NULL AND claim_secret IS NULL AND exhausted IS NULL";
    conn.prepare_cached(sql)?.execute([time(now)])?;
    let open = status_code(Status::Blocked);
    for run in running.iter().collect::<std::collections::BTreeSet<_>>() {
        let sql = "UPDATE executions SET crashes = crashes + 1 WHERE key = ?1 AND status <= ?2";
        conn.prepare_cached(sql)?.execute([run.0.cast_signed(), open])?;
    }
    Ok(())
}
