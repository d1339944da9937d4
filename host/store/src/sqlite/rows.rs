//! How domain values stand in columns. Reading checks: a value that is not what the schema says is corruption.

use std::sync::Arc;

use relive_core::{
    Digest, Json, Namespace, RunId, RunKey, Timestamp, WorkflowId,
    codec::StoredEvent,
    cursor::LogLine,
    event::BlockReason,
    ids::ExecutionKey,
    ports::{Claim, ExecutionRow, Status, TaskRow, TimerRow},
};
use rusqlite::{Row, Statement, types::Type};
use uuid::Uuid;

use super::error::unreadable;
use crate::columns::{CANCEL_REQUESTED, LEVELS, PAUSED};
pub(super) use crate::columns::{last_row_key, level_code, row_key, split_key, status_code, time};

pub(super) fn status_of(code: i64) -> rusqlite::Result<Status> {
    crate::columns::status_of(code).ok_or_else(|| unreadable(format!("status {code}")))
}

/// An unsigned number that a column holds.
pub(super) fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, value))
}

pub(super) fn small<T: TryFrom<i64>>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let value: i64 = row.get(column)?;
    T::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, value))
}

pub(super) fn timestamp(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    number(row, column).map(Timestamp)
}

fn bytes<'a>(row: &'a Row<'_>, column: usize) -> rusqlite::Result<&'a [u8]> {
    row.get_ref(column)?
        .as_blob()
        .map_err(|e| rusqlite::Error::FromSqlConversionFailure(column, Type::Blob, Box::new(e)))
}

pub(super) fn text<'a>(row: &'a Row<'_>, column: usize) -> rusqlite::Result<&'a str> {
    row.get_ref(column)?
        .as_str()
        .map_err(|e| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(e)))
}

pub(super) fn hash(row: &Row<'_>, column: usize) -> rusqlite::Result<[u8; 32]> {
    bytes(row, column)?.try_into().map_err(|_| unreadable("a hash that is not 32 bytes long"))
}

pub(super) fn digest(row: &Row<'_>, column: usize) -> rusqlite::Result<Digest> {
    hash(row, column).map(Digest)
}

pub(super) fn run_id(row: &Row<'_>, column: usize) -> rusqlite::Result<RunId> {
    Uuid::from_slice(bytes(row, column)?).map(RunId).map_err(|e| unreadable(format!("a run id: {e}")))
}

pub(super) fn namespace(row: &Row<'_>, column: usize) -> rusqlite::Result<Namespace> {
    Namespace::new(text(row, column)?).map_err(|e| unreadable(e.to_string()))
}

pub(super) fn workflow_id(row: &Row<'_>, column: usize) -> rusqlite::Result<WorkflowId> {
    WorkflowId::new(text(row, column)?).map_err(|e| unreadable(e.to_string()))
}

pub(super) fn json(row: &Row<'_>, column: usize) -> rusqlite::Result<Json> {
    Json::parse(text(row, column)?).map_err(|e| unreadable(e.to_string()))
}

/// Columns of an execution, in the order that [`execution`] reads them.
pub(super) const EXECUTION: &str = "key, status, epoch, last_event_id, last_timestamp, last_inbound_id, applied_through, command_count, \
     history_bytes, crashes, started_at, closed_at, last_hash, run_id, digest, namespace, workflow_id, workflow, blocked, correlation_id";

pub(super) fn execution(row: &Row<'_>) -> rusqlite::Result<ExecutionRow> {
    let blocked: Option<String> = row.get(18)?;
    let correlation_id: Option<String> = row.get(19)?;
    Ok(ExecutionRow {
        key: RunKey(number(row, 0)?),
        execution: ExecutionKey {
            namespace: namespace(row, 15)?,
            workflow_id: workflow_id(row, 16)?,
            run_id: run_id(row, 13)?,
        },
        workflow: text(row, 17)?.into(),
        digest: digest(row, 14)?,
        status: status_of(row.get(1)?)?,
        blocked: blocked.as_deref().map(block_reason).transpose()?,
        epoch: number(row, 2)?,
        last_event_id: number(row, 3)?,
        last_hash: hash(row, 12)?,
        last_timestamp: timestamp(row, 4)?,
        last_inbound_id: number(row, 5)?,
        applied_through: number(row, 6)?,
        command_count: number(row, 7)?,
        history_bytes: number(row, 8)?,
        crashes: small(row, 9)?,
        started_at: timestamp(row, 10)?,
        closed_at: row.get::<_, Option<i64>>(11)?.map(|at| Timestamp(at.max(0).cast_unsigned())),
        correlation_id: correlation_id.map(Into::into),
    })
}

pub(super) fn block_reason(name: &str) -> rusqlite::Result<BlockReason> {
    serde_json::from_value(name.into()).map_err(|_| unreadable(format!("the block reason {name:?}")))
}

/// Columns of an event, in the order that [`event`] reads them.
pub(super) const EVENT: &str = "key, timestamp, type, codec, version, hash, bytes";

pub(super) fn event(row: &Row<'_>) -> rusqlite::Result<StoredEvent> {
    Ok(StoredEvent {
        event_id: split_key(row.get(0)?).1,
        timestamp: timestamp(row, 1)?,
        event_type: small(row, 2)?,
        codec: small(row, 3)?,
        event_version: small(row, 4)?,
        hash: hash(row, 5)?,
        bytes: bytes(row, 6)?.into(),
    })
}

/// Columns of a task, in the order that [`task`] reads them.
pub(super) const TASK: &str = "key, event_id, attempt, due_at, scheduled_at, queue, claim_secret, claim_worker, claimed_at, \
                               flags, details, options, exhausted";
pub(super) fn task(row: &Row<'_>) -> rusqlite::Result<TaskRow> {
    let (run, command_no) = split_key(row.get(0)?);
    let mut task = TaskRow::new(run, command_no, number(row, 1)?, timestamp(row, 4)?);
    task.attempt = small(row, 2)?;
    task.due_at = timestamp(row, 3)?;
    // Most tasks are the host's own, and have none of the rest.
    task.queue = row.get::<_, Option<String>>(5)?.map(Arc::from);
    if let Some(secret) = row.get::<_, Option<i64>>(6)? {
        let worker = row.get::<_, Option<String>>(7)?.map(Arc::from);
        task.claim = Some(Claim { secret: secret.cast_unsigned(), worker, at: timestamp(row, 8)? });
    }
    let flags: i64 = row.get(9)?;
    task.cancel_requested = flags & CANCEL_REQUESTED != 0;
    task.paused = flags & PAUSED != 0;
    let json = |e: relive_core::json::JsonError| unreadable(format!("a task's details: {e}"));
    task.details = row.get::<_, Option<String>>(10)?.map(|t| Json::parse(&t)).transpose().map_err(json)?;
    let form = |e: serde_json::Error| unreadable(format!("a task's options: {e}"));
    task.options =
        row.get::<_, Option<String>>(11)?.map(|t| serde_json::from_str(&t)).transpose().map_err(form)?.map(Arc::new);
    let form = |e: serde_json::Error| unreadable(format!("how a task was exhausted: {e}"));
    task.exhausted =
        row.get::<_, Option<String>>(12)?.map(|t| serde_json::from_str(&t)).transpose().map_err(form)?.map(Arc::new);
    Ok(task)
}

/// Binds a task's columns, from parameter `at` on.
pub(super) fn bind_task(s: &mut Statement<'_>, at: usize, key: i64, task: &TaskRow) -> rusqlite::Result<()> {
    let claim = task.claim.as_ref();
    let flags = if task.cancel_requested { CANCEL_REQUESTED } else { 0 } | if task.paused { PAUSED } else { 0 };
    let options = task.options.as_deref().map(serde_json::to_string).transpose();
    let exhausted = task.exhausted.as_deref().map(serde_json::to_string).transpose();
    s.raw_bind_parameter(at, key)?;
    s.raw_bind_parameter(at + 1, task.event_id.cast_signed())?;
    s.raw_bind_parameter(at + 2, task.attempt)?;
    s.raw_bind_parameter(at + 3, time(task.due_at))?;
    s.raw_bind_parameter(at + 4, time(task.scheduled_at))?;
    s.raw_bind_parameter(at + 5, task.queue.as_deref())?;
    s.raw_bind_parameter(at + 6, claim.map(|c| c.secret.cast_signed()))?;
    s.raw_bind_parameter(at + 7, claim.and_then(|c| c.worker.as_deref()))?;
    s.raw_bind_parameter(at + 8, claim.map(|c| time(c.at)))?;
    s.raw_bind_parameter(at + 9, flags)?;
    s.raw_bind_parameter(at + 10, task.details.as_ref().map(Json::as_str))?;
    s.raw_bind_parameter(at + 11, options.map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))?)?;
    s.raw_bind_parameter(at + 12, exhausted.map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))?)
}

/// Reads `key, deadline`.
pub(super) fn timer(row: &Row<'_>) -> rusqlite::Result<TimerRow> {
    let (run, command_no) = split_key(row.get(0)?);
    Ok(TimerRow { deadline: timestamp(row, 1)?, run, command_no })
}

/// Reads `key, at, level, message, fields`.
pub(super) fn log_line(row: &Row<'_>) -> rusqlite::Result<(u64, LogLine)> {
    let level = LEVELS.get(small::<usize>(row, 2)?).ok_or_else(|| unreadable("a log level"))?;
    let fields = serde_json::from_str(text(row, 4)?).map_err(|e| unreadable(format!("a log line's fields: {e}")))?;
    let line = LogLine { at: timestamp(row, 1)?, level: *level, message: text(row, 3)?.to_owned(), fields };
    Ok((split_key(row.get(0)?).1, line))
}
