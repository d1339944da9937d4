//! The queries. Each goes by an index, named in `docs/operations/postgres-plans.md`.

use relive_core::{
    Namespace, RunId, RunKey, ShardSet, Timestamp, WorkflowId,
    codec::StoredEvent,
    cursor::LogLine,
    ports::{AppendError, ExecutionRow, ListFilter, Published, Status, StoreError, Taken, TaskRow, TimerRow},
};
use sqlx::{
    AssertSqlSafe, Row, SqlSafeStr,
    postgres::{PgArguments, PgRow},
};

use super::{
    PostgresStore,
    error::{Result as Sql, overtaken, store_error, unreadable},
    heads::Known,
    links::MAX_TRIES,
    rows::{self, Args, key_of, limit_of},
};
use crate::artifacts;
use crate::columns::{last_row_key, row_key, split_key, status_code, time};

type Result<T> = std::result::Result<T, StoreError>;
type Owned<T> = std::result::Result<T, AppendError>;
type Work = (Vec<TaskRow>, Vec<TimerRow>);

/// How many columns an execution has in an answer.
const EXECUTION_COLUMNS: usize = 21;

pub(super) const EXECUTION: &str = concat!("SELECT ", rows::execution_columns!(), " FROM executions WHERE key = $1");
/// The order is that of the index by workflow id: over a table that is still empty, another one whose first column is the
/// namespace would look as good, and the plan would be kept when the namespace has grown.
pub(super) const RUN_BY_ID: &str = concat!(
    "SELECT ",
    rows::execution_columns!(),
    " FROM executions WHERE namespace = $1 AND workflow_id = $2 AND run_id = $3::uuid ORDER BY key DESC LIMIT 1"
);
/// The open run if there is one, and the latest.
pub(super) const RUN_BY_NAME: &str = concat!(
    "SELECT * FROM (SELECT ",
    rows::execution_columns!(),
    " FROM executions WHERE namespace = $1 AND workflow_id = $2 AND status <= 1) open UNION ALL SELECT * FROM (SELECT ",
    rows::execution_columns!(),
    " FROM executions WHERE namespace = $1 AND workflow_id = $2 ORDER BY key DESC LIMIT 1) latest"
);
pub(super) const ARTIFACTS: &str = "SELECT digest, bytes FROM artifacts WHERE digest = ANY ($1)";
pub(super) const EVENTS: &str = "SELECT key, timestamp, version, type, codec, hash, bytes FROM events \
    WHERE key BETWEEN $1 AND $2 ORDER BY key LIMIT $3";
pub(super) const NEEDS_WAKE: &str = "SELECT key FROM executions \
    WHERE status = 0 AND wake AND key > $2 AND (key & 255) = ANY ($1::int8[]) ORDER BY key LIMIT $3";
/// Each shard's first timers, of which the first are taken.
pub(super) const DUE_TIMERS: &str = "SELECT t.key, t.deadline FROM unnest($1::int2[]) AS s(shard) CROSS JOIN LATERAL ( \
    SELECT key, deadline FROM timers WHERE shard = s.shard AND (deadline, key) > ($2, $3) AND deadline <= $4 \
    ORDER BY deadline, key LIMIT $5) t ORDER BY t.deadline, t.key LIMIT $5";
pub(super) const OPEN_TASKS: &str = concat!(
    "SELECT t.* FROM unnest($1::int2[]) AS s(shard) CROSS JOIN LATERAL (SELECT ",
    rows::task_columns!(),
    " FROM tasks WHERE shard = s.shard AND key > $2 ORDER BY key LIMIT $3) t ORDER BY t.key LIMIT $3"
);
pub(super) const EXHAUSTED_TASKS: &str = concat!(
    "SELECT ",
    rows::task_columns!(),
    " FROM tasks WHERE exhausted IS NOT NULL AND key > $2 \
     AND (SELECT x.namespace FROM executions x WHERE x.key = tasks.key >> 24) = $1 ORDER BY key LIMIT $3"
);
/// Tasks, then timers: those have no event.
macro_rules! open_work {
    () => {
        concat!(
            "SELECT ",
            rows::task_columns!(),
            " FROM tasks WHERE shard = ($1::int8 & 255)::int2 AND key BETWEEN ($1::int8 << 24) AND ($1::int8 << 24 | 16777215) \
              UNION ALL SELECT key, NULL, NULL, deadline, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM timers \
              WHERE key BETWEEN ($1::int8 << 24) AND ($1::int8 << 24 | 16777215)"
        )
    };
}
pub(super) const OPEN_WORK: &str = open_work!();
/// As [`STAMP`], with the work of a run that is open. The work is what the statement saw when it began: the row is left
/// alone if it was written since, and the caller asks again.
pub(super) const TAKE: &str = concat!(
    "WITH seen AS MATERIALIZED (SELECT key, xmin AS version FROM executions WHERE key = $1), \
     stamped AS (UPDATE executions x SET epoch = $2 FROM seen WHERE x.key = seen.key AND x.xmin = seen.version \
     AND x.epoch < $2 AND x.status < 2 RETURNING x.*), taken AS (SELECT ",
    rows::execution_columns!(),
    " FROM stamped UNION ALL SELECT ",
    rows::execution_columns!(),
    " FROM executions WHERE key = $1 AND NOT EXISTS (SELECT FROM stamped)) \
      SELECT taken.*, work.* FROM taken LEFT JOIN LATERAL (",
    open_work!(),
    ") work ON taken.status < 2"
);
pub(super) const PUBLISHED: &str = "SELECT key, event_id, value FROM published WHERE run = $1 ORDER BY key";
pub(super) const PUBLISHED_KEY: &str = "SELECT key, event_id, value FROM published WHERE run = $1 AND key = $2";
pub(super) const LOGS: &str =
    "SELECT key, at, level, message, fields FROM logs WHERE key > $1 AND key <= $2 ORDER BY key LIMIT $3";
/// Takes the run over unless a later owner has it. The second part is what stands if nothing was changed.
pub(super) const STAMP: &str = concat!(
    "WITH stamped AS (UPDATE executions SET epoch = $2 WHERE key = $1 AND epoch < $2 AND status < 2 RETURNING *) SELECT ",
    rows::execution_columns!(),
    " FROM stamped UNION ALL SELECT ",
    rows::execution_columns!(),
    " FROM executions WHERE key = $1 AND NOT EXISTS (SELECT FROM stamped)"
);
/// In the order of rows, as appends lock them.
pub(super) const COUNT_CRASH: &str = "WITH cut_off AS ( \
    UPDATE tasks SET attempt = least(attempt + 1, 4294967295) \
    WHERE shard = ANY ($1::int2[]) AND due_at <= $2 AND queue IS NULL AND claim_secret IS NULL AND exhausted IS NULL) \
    UPDATE executions SET crashes = least(crashes + 1, 4294967295) WHERE key = ANY ($3::int8[]) AND status < 2";

/// Numbers of shards, as `smallint`.
pub(super) fn shards_of(shards: &ShardSet) -> Vec<i16> {
    shards.iter().map(|s| i16::from(s.0)).collect()
}

/// The statement of a list, and its parameters. Each filter that is set adds its term; a status also the term of the
/// partial index that holds it.
pub(super) fn list(filter: &ListFilter, before: Option<RunKey>, limit: usize) -> (String, Args) {
    let named = filter.workflow_id.is_some() || filter.workflow.is_some();
    // Without a name the way is by key or status; the namespace's term must not lure the planner to an index.
    let mut sql = concat!("SELECT ", rows::execution_columns!(), " FROM executions WHERE key < $1").to_owned();
    let mut args = Args::default().add(before.map_or(i64::MAX, key_of));
    let mut next = 2;
    let mut also = |column: &str| {
        sql += &format!(" AND {column} = ${next}");
        next += 1;
    };
    if let Some(namespace) = &filter.namespace {
        also(if named { "namespace" } else { "(namespace || '')" });
        args = args.add(namespace.as_str().to_owned());
    }
    if let Some(id) = &filter.workflow_id {
        also("workflow_id");
        args = args.add(id.as_str().to_owned());
    }
    if let Some(workflow) = &filter.workflow {
        also("workflow");
        args = args.add(workflow.clone());
    }
    if let Some(status) = filter.status {
        // Spelt out, as the planner does not look into parameters to find a partial index.
        sql += &format!(" AND status = {}", status_code(status));
        sql += match status {
            Status::Running => " AND status + 0 <= 1",
            Status::Blocked | Status::Completed => "",
            _ => " AND status > 2",
        };
    }
    sql += &format!(" ORDER BY key DESC LIMIT ${next}");
    (sql, args.add(limit_of(limit)))
}

/// Reads tasks and timers whose columns begin at `at`; rows without any are left out.
fn work(rows: &[PgRow], at: usize) -> Sql<Work> {
    let (mut tasks, mut timers) = (Vec::new(), Vec::new());
    for row in rows {
        let Some(key) = row.try_get::<Option<i64>, _>(at)? else { continue };
        if row.try_get::<Option<i64>, _>(at + 1)?.is_some() {
            tasks.push(rows::task_at(row, at)?);
        } else {
            let (run, command_no) = split_key(key);
            timers.push(TimerRow { deadline: rows::timestamp(row, at + 3)?, run, command_no });
        }
    }
    tasks.sort_by_key(|t: &TaskRow| t.command_no);
    timers.sort_by_key(|t: &TimerRow| t.command_no);
    Ok((tasks, timers))
}

impl PostgresStore {
    fn select(&self, sql: impl SqlSafeStr, args: Args) -> Sql<Vec<PgRow>> {
        self.count_round_trip();
        let args: PgArguments = args.done()?;
        self.reads.read(sql, args)
    }

    /// Runs a query, and reads each row.
    pub(super) fn all<T>(&self, sql: impl SqlSafeStr, args: Args, read: fn(&PgRow) -> Sql<T>) -> Result<Vec<T>> {
        let read = || self.select(sql, args)?.iter().map(read).collect();
        let rows: Sql<Vec<T>> = read();
        rows.map_err(|e| store_error(&e))
    }

    pub(super) fn one<T>(&self, sql: impl SqlSafeStr, args: Args, read: fn(&PgRow) -> Sql<T>) -> Result<Option<T>> {
        Ok(self.all(sql, args, read)?.into_iter().next())
    }

    /// Executions; what is read is remembered for the appends that follow.
    fn executions(&self, sql: impl SqlSafeStr, args: Args) -> Result<Vec<ExecutionRow>> {
        let rows = self.all(sql, args, rows::execution)?;
        let mut heads = self.heads.lock();
        let note = |(row, log_count): (ExecutionRow, u64)| {
            if row.status.is_open() {
                heads.put(row.key, Known::of(&row, log_count));
            }
            row
        };
        Ok(rows.into_iter().map(note).collect())
    }

    pub(super) fn read_execution(&self, run: RunKey) -> Result<Option<ExecutionRow>> {
        Ok(self.executions(EXECUTION, Args::default().add(key_of(run)))?.pop())
    }

    pub(super) fn read_run(&self, ns: &Namespace, id: &WorkflowId, run: Option<RunId>) -> Result<Option<ExecutionRow>> {
        let args = Args::default().add(ns.as_str()).add(id.as_str());
        let rows = match run {
            Some(run) => self.executions(RUN_BY_ID, args.add(run.0.to_string()))?,
            None => self.executions(RUN_BY_NAME, args)?,
        };
        // Of an open run and the latest, the open one; they are the same but for runs that were imported.
        Ok(rows.into_iter().max_by_key(|row| (row.status.is_open(), row.key)))
    }

    pub(super) fn read_list(
        &self,
        filter: &ListFilter,
        before: Option<RunKey>,
        limit: usize,
    ) -> Result<Vec<ExecutionRow>> {
        let (sql, args) = list(filter, before, limit);
        let rows = self.all(AssertSqlSafe(sql), args, rows::execution)?;
        Ok(rows.into_iter().map(|(row, _)| row).collect())
    }

    /// Events `from` to `through`, at most `limit`.
    pub(super) fn read_events(&self, run: RunKey, from: u64, through: u64, limit: usize) -> Result<Vec<StoredEvent>> {
        let args = Args::default().add(row_key(run, from)).add(row_key(run, through)).add(limit_of(limit));
        let mut events = self.all(EVENTS, args, rows::event)?;
        let named: Vec<Vec<u8>> = artifacts::named(&events).iter().map(|digest| digest.0.to_vec()).collect();
        if !named.is_empty() {
            let read = |row: &PgRow| Ok((rows::digest(row, 0)?, rows::bytes(row, 1)?.to_vec()));
            let found = self.all(ARTIFACTS, Args::default().add(named), read)?;
            artifacts::restore(&mut events, found).map_err(|what| store_error(&unreadable(what)))?;
        }
        Ok(events)
    }

    pub(super) fn read_needs_wake(&self, shards: &ShardSet, after: RunKey, limit: usize) -> Result<Vec<RunKey>> {
        let shards: Vec<i64> = shards.iter().map(|s| i64::from(s.0)).collect();
        let args = Args::default().add(shards).add(key_of(after)).add(limit_of(limit));
        self.all(NEEDS_WAKE, args, |row| rows::number(row, 0).map(RunKey))
    }

    pub(super) fn read_due_timers(
        &self,
        shards: &ShardSet,
        after: Option<TimerRow>,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<TimerRow>> {
        let (deadline, key) = after.map_or((-1, -1), |t| (time(t.deadline), row_key(t.run, t.command_no)));
        let args = Args::default().add(shards_of(shards)).add(deadline).add(key).add(time(until)).add(limit_of(limit));
        self.all(DUE_TIMERS, args, rows::timer)
    }

    pub(super) fn read_open_tasks(
        &self,
        shards: &ShardSet,
        after: Option<(RunKey, u64)>,
        limit: usize,
    ) -> Result<Vec<TaskRow>> {
        let after = after.map_or(-1, |(run, command_no)| row_key(run, command_no));
        let args = Args::default().add(shards_of(shards)).add(after).add(limit_of(limit));
        self.all(OPEN_TASKS, args, rows::task)
    }

    pub(super) fn read_exhausted_tasks(
        &self,
        namespace: &Namespace,
        after: Option<(RunKey, u64)>,
        limit: usize,
    ) -> Result<Vec<TaskRow>> {
        let after = after.map_or(-1, |(run, command_no)| row_key(run, command_no));
        let args = Args::default().add(namespace.as_str()).add(after).add(limit_of(limit));
        self.all(EXHAUSTED_TASKS, args, rows::task)
    }

    pub(super) fn read_open_work(&self, run: RunKey) -> Result<Work> {
        let rows = self.select(OPEN_WORK, Args::default().add(key_of(run)));
        rows.and_then(|rows| work(&rows, 0)).map_err(|e| store_error(&e))
    }

    pub(super) fn read_published(&self, run: RunKey, key: Option<&str>) -> Result<Vec<Published>> {
        let read = |row: &PgRow| {
            let key = rows::text(row, 0)?.to_owned();
            Ok(Published { key, event_id: rows::number(row, 1)?, value: rows::json(row, 2)? })
        };
        let args = Args::default().add(key_of(run));
        match key {
            Some(key) => self.all(PUBLISHED_KEY, args.add(key), read),
            None => self.all(PUBLISHED, args, read),
        }
    }

    pub(super) fn read_logs(&self, run: RunKey, after: u64, limit: usize) -> Result<Vec<(u64, LogLine)>> {
        let args = Args::default().add(row_key(run, after)).add(last_row_key(run)).add(limit_of(limit));
        self.all(LOGS, args, rows::log_line)
    }

    /// Takes a run over by this statement, whose answer begins with the execution; see the port. A row that has the epoch
    /// already is not written again, and one that has ended is told as it is.
    fn take_over(&self, sql: &'static str, run: RunKey, epoch: u64) -> Owned<(ExecutionRow, Vec<PgRow>)> {
        for _ in 0..MAX_TRIES {
            self.count_round_trip();
            let args = || Args::default().add(key_of(run)).add(epoch.cast_signed()).done();
            let rows = args().and_then(|args| self.writes.write(sql, args)).map_err(|e| store_error(&e))?;
            let first = rows.first().map(rows::execution).transpose().map_err(|e| store_error(&e))?;
            let (row, log_count) = first.ok_or(AppendError::NotFound)?;
            if row.epoch > epoch {
                return Err(AppendError::Fenced { epoch, owner: row.epoch });
            }
            if !row.status.is_open() {
                return Ok((row, rows));
            }
            if row.epoch == epoch {
                self.heads.lock().put(run, Known::of(&row, log_count));
                return Ok((row, rows));
            }
            // It was changed in the middle of the statement: what was read is older than what refused the stamp. An owner
            // who appends without a pause would win every time, so it is fenced off first; then nobody is in the way.
            self.count_round_trip();
            args().and_then(|args| self.writes.write(STAMP, args)).map_err(|e| store_error(&e))?;
        }
        Err(store_error(&overtaken()).into())
    }

    pub(super) fn stamp(&self, run: RunKey, epoch: u64) -> Owned<ExecutionRow> {
        let (row, _) = self.take_over(STAMP, run, epoch)?;
        if row.status.is_open() { Ok(row) } else { Err(AppendError::Closed) }
    }

    pub(super) fn take_run(&self, run: RunKey, epoch: u64) -> Owned<Option<Taken>> {
        match self.take_over(TAKE, run, epoch) {
            Ok((row, rows)) => {
                let (tasks, timers) = work(&rows, EXECUTION_COLUMNS).map_err(|e| store_error(&e))?;
                Ok(Some(Taken { row, tasks, timers }))
            }
            Err(AppendError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn note_crash(&self, shards: &ShardSet, running: &[RunKey], now: Timestamp) -> Result<()> {
        let mut running: Vec<i64> = running.iter().map(|run| key_of(*run)).collect();
        running.sort_unstable();
        running.dedup();
        let write = || {
            let args = Args::default().add(shards_of(shards)).add(time(now)).add(running).done()?;
            self.writes.write(COUNT_CRASH, args).map(|_| ())
        };
        self.count_round_trip();
        let result: Sql<()> = write();
        result.map_err(|e| store_error(&e))
    }
}
