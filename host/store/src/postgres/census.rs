//! Counting what is open, and seeing whether anything can be written.

use relive_core::ports::{Census, StoreError};
use sqlx::postgres::PgRow;

use super::{
    PostgresStore,
    error::{Result, store_error},
    rows::{self, Args},
};

const OPEN: &str = "open";
const BEHIND: &str = "behind";
const FAILED_TASKS: &str = "failed-tasks";
/// By the partial indexes alone, but for the few rows of the blocked ones.
const CENSUS: &str = "SELECT 'open', count(*) FROM executions WHERE status + 0 <= 1 \
    UNION ALL SELECT 'behind', count(*) FROM executions WHERE status = 0 AND wake \
    UNION ALL SELECT 'failed-tasks', count(*) FROM tasks WHERE exhausted IS NOT NULL \
    UNION ALL SELECT blocked, count(*) FROM executions WHERE status = 1 AND blocked IS NOT NULL GROUP BY blocked";
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

    pub(super) fn probe_write(&self) -> std::result::Result<(), StoreError> {
        self.count_round_trip();
        let write = || self.writes.write(PROBE, Args::default().done()?).map(|_| ());
        let written: Result<()> = write();
        written.map_err(|e| store_error(&e))
    }
}
