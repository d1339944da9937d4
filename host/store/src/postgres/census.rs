//! Counting what is open, and seeing whether anything can be written.

use relive_core::{
    Namespace, Timestamp,
    ports::{Census, StoreError, VersionCount},
};
use sqlx::postgres::PgRow;

use super::{
    PostgresStore,
    error::{Result, store_error},
    rows::{self, Args},
};
use crate::columns::time;

const OPEN: &str = "open";
const BEHIND: &str = "behind";
const FAILED_TASKS: &str = "failed-tasks";
/// By the partial indexes alone, but for the few rows of the blocked ones.
const CENSUS: &str = "SELECT 'open', count(*) FROM executions WHERE status + 0 <= 1 \
    UNION ALL SELECT 'behind', count(*) FROM executions WHERE status = 0 AND wake \
    UNION ALL SELECT 'failed-tasks', count(*) FROM tasks WHERE exhausted IS NOT NULL \
    UNION ALL SELECT blocked, count(*) FROM executions WHERE status = 1 AND blocked IS NOT NULL GROUP BY blocked";
/// The latest runs of a workflow by its index, and open ones that are older by theirs.
pub(super) const VERSION_COUNTS: &str = "WITH latest AS MATERIALIZED (SELECT key, digest, status, started_at FROM executions \
    WHERE namespace = $1 AND workflow = $2 ORDER BY key DESC LIMIT $3), \
    older AS (SELECT digest, status, started_at FROM executions WHERE status + 0 <= 1 \
    AND key < (SELECT min(key) FROM latest HAVING count(*) = $3) AND (namespace || '') = $1 AND (workflow || '') = $2) \
    SELECT digest, status, count(*), min(started_at) FROM (SELECT digest, status, started_at FROM latest \
    UNION ALL SELECT digest, status, started_at FROM older) runs WHERE started_at >= $4 GROUP BY digest, status";
/// Means nothing: it is written to see whether anything can be.
const PROBE: &str = "INSERT INTO meta (key, value) VALUES ('probed', 1) \
    ON CONFLICT (key) DO UPDATE SET value = excluded.value";

fn counted(row: &PgRow) -> Result<(String, u64)> {
    Ok((rows::text(row, 0)?.to_owned(), rows::number(row, 1)?))
}

impl PostgresStore {
    pub(super) fn count(&self) -> std::result::Result<Census, StoreError> {
        let (mut census, mut open) = (Census::default(), 0);
        for (name, count) in self.all(CENSUS, Args::default(), counted)? {
            match &*name {
                OPEN => open = count,
                BEHIND => census.behind = count,
                FAILED_TASKS => census.failed_tasks = count,
                reason => {
                    let reason = rows::block_reason(reason).map_err(|e| store_error(&e))?;
                    census.blocked.push((reason, count));
                }
            }
        }
        let blocked: u64 = census.blocked.iter().map(|(_, n)| *n).sum();
        census.running = open.saturating_sub(blocked);
        Ok(census)
    }

    pub(super) fn read_version_counts(
        &self,
        namespace: &Namespace,
        workflow: &str,
        since: Timestamp,
        limit: usize,
    ) -> std::result::Result<Vec<VersionCount>, StoreError> {
        let args = Args::default().add(namespace.as_str()).add(workflow).add(rows::limit_of(limit)).add(time(since));
        self.all(VERSION_COUNTS, args, |row| {
            let status: i16 = sqlx::Row::try_get(row, 1)?;
            Ok(VersionCount {
                digest: rows::digest(row, 0)?,
                status: rows::status(status)?,
                runs: rows::number(row, 2)?,
                oldest: rows::timestamp(row, 3)?,
            })
        })
    }

    pub(super) fn probe_write(&self) -> std::result::Result<(), StoreError> {
        self.count_round_trip();
        let write = || self.writes.write(PROBE, Args::default().done()?).map(|_| ());
        let written: Result<()> = write();
        written.map_err(|e| store_error(&e))
    }
}
