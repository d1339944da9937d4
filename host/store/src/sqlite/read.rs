//! The queries.

use relive_core::{
    Digest, Namespace, RunId, RunKey, Timestamp, WorkflowId,
    codec::StoredEvent,
    cursor::LogLine,
    ports::{Census, ExecutionRow, ListFilter, Published, Status, TaskRow, TimerRow, VersionCount},
};
use rusqlite::{Connection, OptionalExtension, Params, Result, Row, ToSql, params};

use super::error::unreadable;
use super::rows::{self, EVENT, EXECUTION, TASK, last_row_key, row_key, status_code, time};
use crate::{artifacts, columns::NUMBER_BITS};

pub(super) fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn one<T>(conn: &Connection, sql: &str, params: impl Params, read: fn(&Row<'_>) -> Result<T>) -> Result<Option<T>> {
    conn.prepare_cached(sql)?.query_row(params, read).optional()
}

fn all<T>(conn: &Connection, sql: &str, params: impl Params, read: fn(&Row<'_>) -> Result<T>) -> Result<Vec<T>> {
    conn.prepare_cached(sql)?.query_map(params, read)?.collect()
}

pub(super) fn execution(conn: &Connection, run: RunKey) -> Result<Option<ExecutionRow>> {
    one(conn, &format!("SELECT {EXECUTION} FROM executions WHERE key = ?1"), [run.0.cast_signed()], rows::execution)
}

pub(super) fn find(
    conn: &Connection,
    namespace: &Namespace,
    id: &WorkflowId,
    run: Option<RunId>,
) -> Result<Option<ExecutionRow>> {
    let by_name = format!("SELECT {EXECUTION} FROM executions WHERE namespace = ?1 AND workflow_id = ?2");
    let name = (namespace.as_str(), id.as_str());
    if let Some(run) = run {
        let sql = format!("{by_name} AND run_id = ?3");
        return one(conn, &sql, params![name.0, name.1, run.0.as_bytes().as_slice()], rows::execution);
    }
    match one(conn, &format!("{by_name} AND status <= 1"), name, rows::execution)? {
        Some(open) => Ok(Some(open)),
        None => one(conn, &format!("{by_name} ORDER BY key DESC LIMIT 1"), name, rows::execution),
    }
}

/// Each filter that is set adds its term; a status also the term of the partial index that holds it.
pub(super) fn list(
    conn: &Connection,
    filter: &ListFilter,
    before: Option<RunKey>,
    limit: usize,
) -> Result<Vec<ExecutionRow>> {
    let before = before.map_or(i64::MAX, |key| key.0.cast_signed());
    let status = filter.status.map(status_code);
    let mut sql = format!("SELECT {EXECUTION} FROM executions WHERE key < :before");
    let mut params: Vec<(&str, &dyn ToSql)> = vec![(":before", &before)];
    let namespace = filter.namespace.as_ref().map(Namespace::as_str);
    let id = filter.workflow_id.as_ref().map(WorkflowId::as_str);
    if namespace.is_some() {
        // By name an index is the better way, so the namespace's term must be one that it can use.
        let named = id.is_some() || filter.workflow.is_some();
        sql += if named { " AND namespace = :namespace" } else { " AND +namespace = :namespace" };
        params.push((":namespace", &namespace));
    }
    if id.is_some() {
        sql += " AND workflow_id = :id";
        params.push((":id", &id));
    }
    if filter.workflow.is_some() {
        sql += " AND workflow = :workflow";
        params.push((":workflow", &filter.workflow));
    }
    if let Some(wanted) = filter.status {
        sql += " AND status = :status";
        params.push((":status", &status));
        sql += match wanted {
            Status::Running | Status::Blocked => " AND status <= 1",
            Status::Completed => "",
            _ => " AND status > 2",
        };
    }
    sql += " ORDER BY key DESC LIMIT :limit";
    let limit = limit_of(limit);
    params.push((":limit", &limit));
    all(conn, &sql, &*params, rows::execution)
}

/// Events `from` to `through`, at most `limit`.
pub(super) fn events(
    conn: &Connection,
    run: RunKey,
    from: u64,
    through: u64,
    limit: usize,
) -> Result<Vec<StoredEvent>> {
    let sql = format!("SELECT {EVENT} FROM events WHERE key BETWEEN ?1 AND ?2 ORDER BY key LIMIT ?3");
    let mut events = all(conn, &sql, (row_key(run, from), row_key(run, through), limit_of(limit)), rows::event)?;
    let named = artifacts::named(&events);
    if !named.is_empty() {
        let bytes = "SELECT bytes FROM artifacts WHERE digest = ?1";
        let read = |digest: &Digest| one(conn, bytes, [digest.0.as_slice()], |row| row.get(0));
        let found = named.iter().filter_map(|digest| Some(read(digest).transpose()?.map(|bytes| (*digest, bytes))));
        let found: Result<Vec<(Digest, Vec<u8>)>> = found.collect();
        artifacts::restore(&mut events, found?).map_err(unreadable)?;
    }
    Ok(events)
}

pub(super) fn needs_wake(conn: &Connection, after: RunKey, limit: usize) -> Result<Vec<RunKey>> {
    let sql = "SELECT key FROM executions INDEXED BY executions_wake \
               WHERE status = 0 AND last_inbound_id > applied_through AND key > ?1 ORDER BY key LIMIT ?2";
    all(conn, sql, (after.0.cast_signed(), limit_of(limit)), |row| rows::number(row, 0).map(RunKey))
}

pub(super) fn due_timers(
    conn: &Connection,
    after: Option<TimerRow>,
    until: Timestamp,
    limit: usize,
) -> Result<Vec<TimerRow>> {
    let (deadline, key) = after.map_or((-1, -1), |t| (time(t.deadline), row_key(t.run, t.command_no)));
    let sql = "SELECT key, deadline FROM timers INDEXED BY timers_due \
               WHERE (deadline, key) > (?1, ?2) AND deadline <= ?3 ORDER BY deadline, key LIMIT ?4";
    all(conn, sql, (deadline, key, time(until), limit_of(limit)), rows::timer)
}

pub(super) fn open_tasks(conn: &Connection, after: Option<(RunKey, u64)>, limit: usize) -> Result<Vec<TaskRow>> {
    let after = after.map_or(-1, |(run, command_no)| row_key(run, command_no));
    let sql = format!("SELECT {TASK} FROM tasks WHERE key > ?1 ORDER BY key LIMIT ?2");
    all(conn, &sql, (after, limit_of(limit)), rows::task)
}

pub(super) fn exhausted_tasks(
    conn: &Connection,
    namespace: &Namespace,
    after: Option<(RunKey, u64)>,
    limit: usize,
) -> Result<Vec<TaskRow>> {
    let after = after.map_or(-1, |(run, command_no)| row_key(run, command_no));
    let sql = format!(
        "SELECT {TASK} FROM tasks INDEXED BY tasks_exhausted WHERE exhausted IS NOT NULL AND key > ?1 \
         AND (SELECT namespace FROM executions WHERE executions.key = tasks.key >> {NUMBER_BITS}) = ?2 ORDER BY key LIMIT ?3"
    );
    all(conn, &sql, params![after, namespace.as_str(), limit_of(limit)], rows::task)
}

pub(super) fn open_work(conn: &Connection, run: RunKey) -> Result<(Vec<TaskRow>, Vec<TimerRow>)> {
    let range = (row_key(run, 0), last_row_key(run));
    let tasks = format!("SELECT {TASK} FROM tasks WHERE key BETWEEN ?1 AND ?2 ORDER BY key");
    let timers = "SELECT key, deadline FROM timers WHERE key BETWEEN ?1 AND ?2 ORDER BY key";
    Ok((all(conn, &tasks, range, rows::task)?, all(conn, timers, range, rows::timer)?))
}

/// By the partial indexes alone, but for the few rows of the blocked ones.
pub(super) fn census(conn: &Connection) -> Result<Census> {
    let count = |sql: &str| conn.prepare_cached(sql)?.query_row([], |row| rows::number(row, 0));
    let blocked = "SELECT blocked, count(*) FROM executions INDEXED BY executions_live \
                   WHERE status = 1 AND status <= 1 AND blocked IS NOT NULL GROUP BY blocked";
    Ok(Census {
        running: count("SELECT count(*) FROM executions INDEXED BY executions_live WHERE status = 0 AND status <= 1")?,
        blocked: all(conn, blocked, [], |row| Ok((rows::block_reason(rows::text(row, 0)?)?, rows::number(row, 1)?)))?,
        behind: count(
            "SELECT count(*) FROM executions INDEXED BY executions_wake \
             WHERE status = 0 AND last_inbound_id > applied_through",
        )?,
        failed_tasks: count("SELECT count(*) FROM tasks INDEXED BY tasks_exhausted WHERE exhausted IS NOT NULL")?,
    })
}

/// The latest runs of a workflow by its index, and open ones that are older by theirs.
pub(super) fn version_counts(
    conn: &Connection,
    namespace: &Namespace,
    workflow: &str,
    since: Timestamp,
    limit: usize,
) -> Result<Vec<VersionCount>> {
    let sql = "WITH latest AS MATERIALIZED (SELECT key, digest, status, started_at FROM executions \
               INDEXED BY executions_by_workflow WHERE namespace = ?1 AND workflow = ?2 ORDER BY key DESC LIMIT ?3), \
               older AS (SELECT digest, status, started_at FROM executions INDEXED BY executions_live WHERE status <= 1 \
               AND key < (SELECT min(key) FROM latest HAVING count(*) = ?3) AND +namespace = ?1 AND +workflow = ?2) \
               SELECT digest, status, count(*), min(started_at) FROM (SELECT digest, status, started_at FROM latest \
               UNION ALL SELECT digest, status, started_at FROM older) WHERE started_at >= ?4 GROUP BY digest, status";
    all(conn, sql, params![namespace.as_str(), workflow, limit_of(limit), time(since)], |row| {
        Ok(VersionCount {
            digest: rows::digest(row, 0)?,
            status: rows::status_of(row.get(1)?)?,
            runs: rows::number(row, 2)?,
            oldest: rows::timestamp(row, 3)?,
        })
    })
}

pub(super) fn published(conn: &Connection, run: RunKey, key: Option<&str>) -> Result<Vec<Published>> {
    let read = |row: &Row<'_>| {
        Ok(Published {
            key: rows::text(row, 0)?.to_owned(),
            event_id: rows::number(row, 1)?,
            value: rows::json(row, 2)?,
        })
    };
    let sql = "SELECT key, event_id, value FROM published WHERE run = ?1 AND (?2 IS NULL OR key = ?2) ORDER BY key";
    all(conn, sql, params![run.0.cast_signed(), key], read)
}

pub(super) fn logs(conn: &Connection, run: RunKey, after: u64, limit: usize) -> Result<Vec<(u64, LogLine)>> {
    let sql = "SELECT key, at, level, message, fields FROM logs WHERE key > ?1 AND key <= ?2 ORDER BY key LIMIT ?3";
    all(conn, sql, (row_key(run, after), last_row_key(run), limit_of(limit)), rows::log_line)
}
