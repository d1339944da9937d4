//! How domain values stand in columns, and parameters in statements. Reading checks: a value that is not what the schema
//! says is corruption.

use std::sync::Arc;

use relive_core::{
    Digest, Json, Namespace, RunId, RunKey, Timestamp, WorkflowId,
    codec::StoredEvent,
    cursor::LogLine,
    event::BlockReason,
    ids::ExecutionKey,
    ports::{Claim, ExecutionRow, Status, TaskRow, TimerRow},
};
use sqlx::{
    Arguments, Encode, Postgres, Row, Type,
    postgres::{PgArguments, PgRow},
};
use uuid::Uuid;

use super::error::{Result, unreadable};
use crate::columns::{self, CANCEL_REQUESTED, LEVELS, PAUSED, split_key};

/// Parameters of a statement.
#[derive(Default)]
pub(super) struct Args {
    args: PgArguments,
    failed: Option<sqlx::error::BoxDynError>,
}

impl Args {
    pub(super) fn add<'q, T: Encode<'q, Postgres> + Type<Postgres>>(mut self, value: T) -> Self {
        if let Err(error) = self.args.add(value) {
            self.failed.get_or_insert(error);
        }
        self
    }

    pub(super) fn done(self) -> Result<PgArguments> {
        match self.failed {
            Some(error) => Err(sqlx::Error::Encode(error)),
            None => Ok(self.args),
        }
    }
}

pub(super) fn key_of(run: RunKey) -> i64 {
    run.0.cast_signed()
}

pub(super) fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// An unsigned number that a column holds.
pub(super) fn number(row: &PgRow, column: usize) -> Result<u64> {
    let value: i64 = row.try_get(column)?;
    u64::try_from(value).map_err(|_| unreadable(format!("{value} where a number from 0 should be")))
}

/// A number that a `bigint` holds and the program narrower.
pub(super) fn small<T: TryFrom<i64>>(row: &PgRow, column: usize) -> Result<T> {
    let value: i64 = row.try_get(column)?;
    T::try_from(value).map_err(|_| unreadable(format!("the number {value}")))
}

/// The same for a `smallint`.
pub(super) fn tiny<T: TryFrom<i16>>(row: &PgRow, column: usize) -> Result<T> {
    let value: i16 = row.try_get(column)?;
    T::try_from(value).map_err(|_| unreadable(format!("the number {value}")))
}

pub(super) fn timestamp(row: &PgRow, column: usize) -> Result<Timestamp> {
    number(row, column).map(Timestamp)
}

pub(super) fn bytes(row: &PgRow, column: usize) -> Result<&[u8]> {
    row.try_get(column)
}

pub(super) fn text(row: &PgRow, column: usize) -> Result<&str> {
    row.try_get(column)
}

fn hash(row: &PgRow, column: usize) -> Result<[u8; 32]> {
    bytes(row, column)?.try_into().map_err(|_| unreadable("a hash that is not 32 bytes long"))
}

pub(super) fn digest(row: &PgRow, column: usize) -> Result<Digest> {
    hash(row, column).map(Digest)
}

/// Reads `uuid_send(..)`.
pub(super) fn run_id(row: &PgRow, column: usize) -> Result<RunId> {
    Uuid::from_slice(bytes(row, column)?).map(RunId).map_err(|e| unreadable(format!("a run id: {e}")))
}

pub(super) fn namespace(row: &PgRow, column: usize) -> Result<Namespace> {
    Namespace::new(text(row, column)?).map_err(|e| unreadable(e.to_string()))
}

pub(super) fn workflow_id(row: &PgRow, column: usize) -> Result<WorkflowId> {
    WorkflowId::new(text(row, column)?).map_err(|e| unreadable(e.to_string()))
}

pub(super) fn json(row: &PgRow, column: usize) -> Result<Json> {
    Json::parse(text(row, column)?).map_err(|e| unreadable(e.to_string()))
}

pub(super) fn optional_json(row: &PgRow, column: usize) -> Result<Option<Json>> {
    let text: Option<&str> = row.try_get(column)?;
    text.map(Json::parse).transpose().map_err(|e| unreadable(e.to_string()))
}

/// Columns of an execution, in the order that [`execution`] reads them.
macro_rules! execution_columns {
    () => {
        "key, status, epoch, last_event_id, last_timestamp, last_inbound_id, applied_through, command_count, history_bytes, \
         crashes, started_at, closed_at, last_hash, uuid_send(run_id), digest, namespace, workflow_id, workflow, blocked, \
         correlation_id, log_count"
    };
}
pub(super) use execution_columns;

/// An execution, and how many log lines it has.
pub(super) fn execution(row: &PgRow) -> Result<(ExecutionRow, u64)> {
    let (status, blocked): (i16, Option<&str>) = (row.try_get(1)?, row.try_get(18)?);
    let (closed_at, correlation_id): (Option<i64>, Option<&str>) = (row.try_get(11)?, row.try_get(19)?);
    let execution = ExecutionRow {
        key: RunKey(number(row, 0)?),
        execution: ExecutionKey {
            namespace: namespace(row, 15)?,
            workflow_id: workflow_id(row, 16)?,
            run_id: run_id(row, 13)?,
        },
        workflow: text(row, 17)?.into(),
        digest: digest(row, 14)?,
        status: self::status(status)?,
        blocked: blocked.map(block_reason).transpose()?,
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
        closed_at: closed_at.map(|at| Timestamp(at.max(0).cast_unsigned())),
        correlation_id: correlation_id.map(Arc::from),
    };
    Ok((execution, number(row, 20)?))
}

pub(super) fn status(code: i16) -> Result<Status> {
    columns::status_of(code.into()).ok_or_else(|| unreadable(format!("status {code}")))
}

pub(super) fn block_reason(name: &str) -> Result<BlockReason> {
    serde_json::from_value(name.into()).map_err(|_| unreadable(format!("the block reason {name:?}")))
}

/// Reads `key, timestamp, version, type, codec, hash, bytes`.
pub(super) fn event(row: &PgRow) -> Result<StoredEvent> {
    let version: i32 = row.try_get(2)?;
    Ok(StoredEvent {
        event_id: split_key(row.try_get(0)?).1,
        timestamp: timestamp(row, 1)?,
        event_type: tiny(row, 3)?,
        codec: tiny(row, 4)?,
        event_version: u16::try_from(version).map_err(|_| unreadable(format!("event version {version}")))?,
        bytes: bytes(row, 6)?.into(),
        hash: hash(row, 5)?,
    })
}

/// Columns of a task, in the order that [`task`] reads them.
macro_rules! task_columns {
    () => {
        "key, event_id, attempt, due_at, scheduled_at, claim_secret, claimed_at, flags, queue, claim_worker, details, options, \
         exhausted"
    };
}
pub(super) use task_columns;

pub(super) fn task(row: &PgRow) -> Result<TaskRow> {
    task_at(row, 0)
}

/// A task whose columns begin at `at`.
pub(super) fn task_at(row: &PgRow, at: usize) -> Result<TaskRow> {
    let (run, command_no) = split_key(row.try_get(at)?);
    let mut task = TaskRow::new(run, command_no, number(row, at + 1)?, timestamp(row, at + 4)?);
    task.attempt = small(row, at + 2)?;
    task.due_at = timestamp(row, at + 3)?;
    // Most tasks are the host's own, and have none of the rest.
    task.queue = row.try_get::<Option<&str>, _>(at + 8)?.map(Arc::from);
    if let Some(secret) = row.try_get::<Option<i64>, _>(at + 5)? {
        let worker = row.try_get::<Option<&str>, _>(at + 9)?.map(Arc::from);
        task.claim = Some(Claim { secret: secret.cast_unsigned(), worker, at: timestamp(row, at + 6)? });
    }
    let flags = i64::from(row.try_get::<i16, _>(at + 7)?);
    task.cancel_requested = flags & CANCEL_REQUESTED != 0;
    task.paused = flags & PAUSED != 0;
    task.details = optional_json(row, at + 10)?;
    let form = |e: serde_json::Error| unreadable(format!("a task's options: {e}"));
    let options: Option<&str> = row.try_get(at + 11)?;
    task.options = options.map(serde_json::from_str).transpose().map_err(form)?.map(Arc::new);
    let form = |e: serde_json::Error| unreadable(format!("how a task was exhausted: {e}"));
    let exhausted: Option<&str> = row.try_get(at + 12)?;
    task.exhausted = exhausted.map(serde_json::from_str).transpose().map_err(form)?.map(Arc::new);
    Ok(task)
}

/// Reads `key, deadline`.
pub(super) fn timer(row: &PgRow) -> Result<TimerRow> {
    let (run, command_no) = split_key(row.try_get(0)?);
    Ok(TimerRow { deadline: timestamp(row, 1)?, run, command_no })
}

/// Reads `key, at, level, message, fields`.
pub(super) fn log_line(row: &PgRow) -> Result<(u64, LogLine)> {
    let level = LEVELS.get(tiny::<usize>(row, 2)?).ok_or_else(|| unreadable("a log level"))?;
    let fields = serde_json::from_str(text(row, 4)?).map_err(|e| unreadable(format!("a log line's fields: {e}")))?;
    let message = String::from_utf8(bytes(row, 3)?.to_vec()).map_err(|e| unreadable(format!("a log line: {e}")))?;
    Ok((split_key(row.try_get(0)?).1, LogLine { at: timestamp(row, 1)?, level: *level, message, fields }))
}
