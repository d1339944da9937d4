//! The store that hosts share: one PostgreSQL database, every commit synced.
//!
//! `append` is the hot path: one statement a batch (`statement`, `batch`), with a slower way for what is unusual
//! (`slow`). `links` are the connections, `bridge` lets threads that block use a client that does not, `connect` and
//! `schema` are what happens once. `cluster` is who owns what. See ADR 017.

mod append;
mod batch;
mod bridge;
mod catalog;
mod census;
mod cluster;
mod connect;
mod error;
mod heads;
mod images;
mod links;
mod outbox;
#[cfg(feature = "contract")]
pub mod plans;
mod read;
mod rows;
mod schema;
mod slow;
mod statement;
mod together;
mod versions;
mod workers;

use std::{
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;
use relive_core::{
    Namespace, RunId, RunKey, Shard, ShardSet, Timestamp, WorkflowId,
    codec::StoredEvent,
    cursor::LogLine,
    ports::{
        AppendError, AppendItem, Appended, Census, ExecutionRow, HistoryStore, ListFilter, Prepared, Published,
        StoreError, Taken, TaskRow, TimerRow, VersionCount, Wanted,
    },
};

pub use connect::{ConnectError, Migrated, PostgresOptions};
use rows::Args;

/// Numbers that one call of the sequence reserves: its increment.
const KEY_BLOCK: u64 = 1024;

/// Histories, catalog, images and cluster in one PostgreSQL database that hosts share. See the module.
pub struct PostgresStore {
    writes: links::Links,
    reads: links::Links,
    /// Apart, so that no lease is lost because others are slow.
    beats: links::Links,
    heads: Mutex<heads::Heads>,
    statements: statement::Statements,
    keys: Mutex<Range<u64>>,
    round_trips: AtomicU64,
    /// Whether appends note what other systems are to be told.
    feeds: bool,
}

impl PostgresStore {
    /// Statements sent so far, for measurements. Connecting, `BEGIN` and repetitions do not count.
    #[must_use]
    pub fn round_trips(&self) -> u64 {
        self.round_trips.load(Ordering::Relaxed)
    }

    fn count_round_trip(&self) {
        self.round_trips.fetch_add(1, Ordering::Relaxed);
    }

    fn reserve_numbers(&self) -> Result<Range<u64>, StoreError> {
        self.count_round_trip();
        let reserve = || {
            let rows = self.writes.write("SELECT nextval('run_numbers')", Args::default().done()?)?;
            rows.first().map(|row| rows::number(row, 0)).transpose()
        };
        let first: error::Result<Option<u64>> = reserve();
        let first = first.map_err(|e| error::store_error(&e))?.unwrap_or(0);
        Ok(first..first + KEY_BLOCK)
    }
}

impl HistoryStore for PostgresStore {
    fn append(&self, batch: &[AppendItem]) -> Vec<Result<Appended, AppendError>> {
        append::append(self, batch)
    }

    fn allocate_run_key(&self, shard: Shard) -> Result<RunKey, StoreError> {
        let mut keys = self.keys.lock();
        if keys.is_empty() {
            *keys = self.reserve_numbers()?;
        }
        let number = keys.start;
        keys.start += 1;
        Ok(RunKey::in_shard(number, shard))
    }

    fn stamp_epoch(&self, run: RunKey, epoch: u64) -> Result<ExecutionRow, AppendError> {
        self.stamp(run, epoch)
    }

    fn take(&self, run: RunKey, epoch: u64) -> Result<Option<Taken>, AppendError> {
        self.take_run(run, epoch)
    }

    fn takes_together(&self) -> usize {
        together::AT_ONCE
    }

    fn take_together(&self, wanted: &[Wanted]) -> Result<Vec<Option<Prepared>>, StoreError> {
        self.take_runs(wanted).map_err(|e| error::store_error(&e))
    }

    fn execution(&self, run: RunKey) -> Result<Option<ExecutionRow>, StoreError> {
        self.read_execution(run)
    }

    fn find(
        &self,
        namespace: &Namespace,
        id: &WorkflowId,
        run: Option<RunId>,
    ) -> Result<Option<ExecutionRow>, StoreError> {
        self.read_run(namespace, id, run)
    }

    fn list(&self, filter: &ListFilter, before: Option<RunKey>, limit: usize) -> Result<Vec<ExecutionRow>, StoreError> {
        self.read_list(filter, before, limit)
    }

    fn read_from(&self, run: RunKey, from: u64, limit: usize) -> Result<Vec<StoredEvent>, StoreError> {
        self.read_events(run, from, u64::MAX, limit)
    }

    fn needs_wake(&self, shards: &ShardSet, after: RunKey, limit: usize) -> Result<Vec<RunKey>, StoreError> {
        self.read_needs_wake(shards, after, limit)
    }

    fn due_timers(
        &self,
        shards: &ShardSet,
        after: Option<TimerRow>,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<TimerRow>, StoreError> {
        self.read_due_timers(shards, after, until, limit)
    }

    fn open_tasks(
        &self,
        shards: &ShardSet,
        after: Option<(RunKey, u64)>,
        limit: usize,
    ) -> Result<Vec<TaskRow>, StoreError> {
        self.read_open_tasks(shards, after, limit)
    }

    fn exhausted_tasks(
        &self,
        namespace: &Namespace,
        after: Option<(RunKey, u64)>,
        limit: usize,
    ) -> Result<Vec<TaskRow>, StoreError> {
        self.read_exhausted_tasks(namespace, after, limit)
    }

    fn open_work(&self, run: RunKey) -> Result<(Vec<TaskRow>, Vec<TimerRow>), StoreError> {
        self.read_open_work(run)
    }

    fn count_crash(&self, shards: &ShardSet, running: &[RunKey], now: Timestamp) -> Result<(), StoreError> {
        self.note_crash(shards, running, now)
    }

    fn published(&self, run: RunKey, key: Option<&str>) -> Result<Vec<Published>, StoreError> {
        self.read_published(run, key)
    }

    fn logs(&self, run: RunKey, after: u64, limit: usize) -> Result<Vec<(u64, LogLine)>, StoreError> {
        self.read_logs(run, after, limit)
    }

    fn census(&self) -> Result<Census, StoreError> {
        self.count()
    }

    fn count_versions(
        &self,
        namespace: &Namespace,
        workflow: &str,
        since: Timestamp,
        limit: usize,
    ) -> Result<Vec<VersionCount>, StoreError> {
        self.read_version_counts(namespace, workflow, since, limit)
    }

    fn probe(&self) -> Result<(), StoreError> {
        self.probe_write()
    }
}
