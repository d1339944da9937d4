//! Workers that hosts share, measured by the server's clock. Few rows, and few statements: hosts ask every few seconds.

use std::{sync::Arc, time::Duration};

use relive_core::{
    Namespace,
    ports::{Replaces, StoreError, WorkerEnd, WorkerRow, WorkerStore},
};
use sqlx::{Row, postgres::PgRow};

use super::{
    PostgresStore,
    error::{Result as Sql, store_error, unreadable},
    rows::{self, Args},
};

macro_rules! columns {
    () => {
        "id, namespace, identity, task_queues, activities, sdk, registered_at, last_seen, ended, replaced_by, holds"
    };
}

/// The replaced one ends only if the new one fits in.
const PUT: &str = "WITH added AS ( \
        INSERT INTO workers (id, namespace, identity, task_queues, activities, sdk, registered_at, last_seen) \
        SELECT $1, $2, $3, $4, $5, $6, relive_now(), relive_now() \
        WHERE (SELECT count(*) FROM workers WHERE namespace = $2 AND ended IS NULL) < $7 \
        ON CONFLICT (id) DO UPDATE SET last_seen = excluded.last_seen RETURNING id \
    ), replaced AS ( \
        UPDATE workers SET ended = 'replaced', ended_at = relive_now(), replaced_by = $1, holds = $9 \
        WHERE id = $8 AND namespace = $2 AND ended IS NULL AND EXISTS (SELECT FROM added) \
    ) SELECT count(*) FROM added";
const END: &str = "UPDATE workers SET ended = 'stopped', ended_at = relive_now() \
    WHERE id = $2 AND namespace = $1 AND ended IS NULL RETURNING id";
/// Locked in order, as everybody does who touches several.
const SEEN: &str = "WITH seen AS (SELECT id FROM workers WHERE id = ANY ($1) AND ended IS NULL ORDER BY id FOR UPDATE) \
    UPDATE workers w SET last_seen = relive_now() FROM seen WHERE w.id = seen.id";
/// A worker that another host has just seen is passed over: it is locked.
const REAP: &str = "WITH silent AS ( \
        SELECT id FROM workers WHERE ended IS NULL AND last_seen < relive_now() - $1 ORDER BY id FOR UPDATE SKIP LOCKED \
    ), lost AS ( \
        UPDATE workers w SET ended = 'lost', ended_at = relive_now() FROM silent WHERE w.id = silent.id RETURNING w.id \
    ), forgotten AS (DELETE FROM workers WHERE ended_at < relive_now() - $2) \
    SELECT count(*) FROM lost";
const BY_ID: &str = concat!("SELECT ", columns!(), " FROM workers WHERE id = ANY ($1)");
/// For people who ask: it reads the open tasks.
const OF: &str = concat!(
    "SELECT ",
    columns!(),
    ", coalesce(running, 0) FROM workers LEFT JOIN ( \
        SELECT claim_worker, count(*) AS running FROM tasks WHERE claim_worker IS NOT NULL GROUP BY claim_worker \
    ) claims ON claim_worker = id WHERE namespace = $1 ORDER BY id"
);

fn worker(row: &PgRow) -> Sql<WorkerRow> {
    let ended = match row.try_get::<Option<&str>, _>(8)? {
        None => None,
        Some("stopped") => Some(WorkerEnd::Stopped),
        Some("lost") => Some(WorkerEnd::Lost),
        Some("replaced") => {
            let holds: Option<Vec<i64>> = row.try_get(10)?;
            let holds = holds.map(|secrets| secrets.into_iter().map(i64::cast_unsigned).collect());
            Some(WorkerEnd::Replaced { by: rows::text(row, 9)?.into(), holds })
        }
        Some(other) => return Err(unreadable(format!("how a worker ended: {other:?}"))),
    };
    Ok(WorkerRow {
        id: rows::text(row, 0)?.into(),
        namespace: rows::namespace(row, 1)?,
        identity: rows::text(row, 2)?.into(),
        task_queues: row.try_get(3)?,
        activities: row.try_get(4)?,
        sdk: row.try_get(5)?,
        registered_at: rows::timestamp(row, 6)?,
        last_seen: rows::timestamp(row, 7)?,
        ended,
    })
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX >> 1)
}

fn names(ids: &[Arc<str>]) -> Vec<String> {
    ids.iter().map(|id| id.to_string()).collect()
}

impl PostgresStore {
    fn worker_write(&self, sql: &'static str, args: Args) -> Result<Vec<PgRow>, StoreError> {
        self.count_round_trip();
        let write = || self.writes.write(sql, args.done()?);
        let rows: Sql<Vec<PgRow>> = write();
        rows.map_err(|e| store_error(&e))
    }

    fn worker_count(&self, sql: &'static str, args: Args) -> Result<u64, StoreError> {
        let rows = self.worker_write(sql, args)?;
        let count = rows.first().map(|row| rows::number(row, 0)).transpose();
        count.map(Option::unwrap_or_default).map_err(|e| store_error(&e))
    }
}

impl WorkerStore for PostgresStore {
    fn put_worker(&self, row: &WorkerRow, replaces: Option<Replaces<'_>>, most: usize) -> Result<bool, StoreError> {
        let args = Args::default().add(row.id.to_string()).add(row.namespace.as_str().to_owned());
        let args = args.add(row.identity.to_string()).add(row.task_queues.clone()).add(row.activities.clone());
        let args = args.add(row.sdk.clone()).add(i64::try_from(most).unwrap_or(i64::MAX));
        let holds = replaces.and_then(|r| r.holds).map(|secrets| secrets.iter().map(|s| s.cast_signed()).collect());
        let args = args.add(replaces.map(|r| r.id.to_owned())).add::<Option<Vec<i64>>>(holds);
        Ok(self.worker_count(PUT, args)? > 0)
    }

    fn end_worker(&self, namespace: &Namespace, id: &str) -> Result<bool, StoreError> {
        let args = Args::default().add(namespace.as_str().to_owned()).add(id.to_owned());
        Ok(!self.worker_write(END, args)?.is_empty())
    }

    fn workers_seen(&self, ids: &[Arc<str>]) -> Result<(), StoreError> {
        self.worker_write(SEEN, Args::default().add(names(ids))).map(|_| ())
    }

    fn reap_workers(&self, silent: Duration, keep: Duration) -> Result<u64, StoreError> {
        self.worker_count(REAP, Args::default().add(nanos(silent)).add(nanos(keep)))
    }

    fn workers_by_id(&self, ids: &[Arc<str>]) -> Result<Vec<WorkerRow>, StoreError> {
        self.all(BY_ID, Args::default().add(names(ids)), worker)
    }

    fn workers(&self, namespace: &Namespace) -> Result<Vec<(WorkerRow, u64)>, StoreError> {
        let read = |row: &PgRow| Ok((worker(row)?, rows::number(row, 11)?));
        self.all(OF, Args::default().add(namespace.as_str().to_owned()), read)
    }
}
