//! The embedded store: one SQLite database in the data directory, WAL, every commit synced.
//!
//! One connection writes, behind a mutex; a few read. `append` and `bulk` are the hot path, `open` and `schema` what
//! happens once, `checkpoint` a thread that moves the log into the database out of the writer's way. SQL stands
//! nowhere else in Relive.

mod append;
mod bulk;
mod catalog;
mod checkpoint;
mod error;
mod images;
mod lock;
mod open;
mod pool;
mod read;
mod rows;
mod schema;
mod versions;
mod writer;

use std::sync::atomic::Ordering;

use relive_core::{
    Namespace, RunId, RunKey, Shard, ShardSet, Timestamp, WorkflowId,
    codec::StoredEvent,
    cursor::LogLine,
    ports::{
        AppendError, AppendItem, Appended, Census, ExecutionRow, HistoryStore, ListFilter, Published, StoreError,
        Taken, TaskRow, TimerRow, VersionCount,
    },
};

pub use error::FatalHandler;
pub use open::{OpenError, OpenOptions};
pub use writer::{FaultPoint, Faults};

/// Histories and catalog in one SQLite database, which one host has to itself: it owns all shards, and they are ignored.
/// See the module.
pub struct SqliteStore {
    // The order is the order of dropping: the checkpointer ends first, the directory is let go of last.
    checkpointer: checkpoint::Checkpointer,
    readers: pool::Readers,
    writer: std::sync::Arc<writer::Writer>,
    keys: parking_lot::Mutex<std::ops::Range<u64>>,
    epoch: u64,
    was_clean: bool,
    _lock: lock::DirLock,
}

impl SqliteStore {
    /// This host's epoch: one more than the last host's. Runs are stamped with it.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether the last host closed the store in good order; true for a new one.
    #[must_use]
    pub fn was_clean(&self) -> bool {
        self.was_clean
    }

    /// Notes that this host ends in good order: the last thing it writes. Durable.
    pub fn close_clean(&self) -> Result<(), StoreError> {
        self.writer.write(|conn| schema::set_meta(conn, schema::CLEAN, 1))
    }

    /// Commits so far, as the database's own commit hook counts them.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.writer.shared.commits.load(Ordering::Relaxed)
    }

    /// Moves the log into the database now.
    pub fn checkpoint(&self) -> Result<(), StoreError> {
        self.checkpointer.run_now(&self.writer)
    }
}

impl HistoryStore for SqliteStore {
    fn append(&self, batch: &[AppendItem]) -> Vec<Result<Appended, AppendError>> {
        append::append(&self.writer, batch)
    }

    fn allocate_run_key(&self, _shard: Shard) -> Result<RunKey, StoreError> {
        let mut keys = self.keys.lock();
        if keys.is_empty() {
            *keys = self.writer.write(schema::reserve_keys)?;
        }
        let key = keys.start;
        keys.start += 1;
        Ok(RunKey(key))
    }

    fn stamp_epoch(&self, run: RunKey, epoch: u64) -> Result<ExecutionRow, AppendError> {
        self.writer.stamp_epoch(run, epoch)
    }

    fn take(&self, run: RunKey, _epoch: u64) -> Result<Option<Taken>, AppendError> {
        let taken = self.readers.read(|conn| {
            let Some(row) = read::execution(conn, run)? else { return Ok(None) };
            let (tasks, timers) = if row.status.is_open() { read::open_work(conn, run)? } else { Default::default() };
            Ok(Some(Taken { row, tasks, timers }))
        });
        taken.map_err(AppendError::from)
    }

    fn execution(&self, run: RunKey) -> Result<Option<ExecutionRow>, StoreError> {
        self.readers.read(|conn| read::execution(conn, run))
    }

    fn find(
        &self,
        namespace: &Namespace,
        id: &WorkflowId,
        run: Option<RunId>,
    ) -> Result<Option<ExecutionRow>, StoreError> {
        self.readers.read(|conn| read::find(conn, namespace, id, run))
    }

    fn list(&self, filter: &ListFilter, before: Option<RunKey>, limit: usize) -> Result<Vec<ExecutionRow>, StoreError> {
        self.readers.read(|conn| read::list(conn, filter, before, limit))
    }

    fn read_from(&self, run: RunKey, from: u64, limit: usize) -> Result<Vec<StoredEvent>, StoreError> {
        self.readers.read(|conn| read::events(conn, run, from, u64::MAX, limit))
    }

    fn needs_wake(&self, _shards: &ShardSet, after: RunKey, limit: usize) -> Result<Vec<RunKey>, StoreError> {
        self.readers.read(|conn| read::needs_wake(conn, after, limit))
    }

    fn due_timers(
        &self,
        _shards: &ShardSet,
        after: Option<TimerRow>,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<TimerRow>, StoreError> {
        self.readers.read(|conn| read::due_timers(conn, after, until, limit))
    }

    fn open_tasks(
        &self,
        _shards: &ShardSet,
        after: Option<(RunKey, u64)>,
        limit: usize,
    ) -> Result<Vec<TaskRow>, StoreError> {
        self.readers.read(|conn| read::open_tasks(conn, after, limit))
    }

    fn exhausted_tasks(
        &self,
        namespace: &Namespace,
        after: Option<(RunKey, u64)>,
        limit: usize,
    ) -> Result<Vec<TaskRow>, StoreError> {
        self.readers.read(|conn| read::exhausted_tasks(conn, namespace, after, limit))
    }

    fn open_work(&self, run: RunKey) -> Result<(Vec<TaskRow>, Vec<TimerRow>), StoreError> {
        self.readers.read(|conn| read::open_work(conn, run))
    }

    fn count_crash(&self, _shards: &ShardSet, running: &[RunKey], now: Timestamp) -> Result<(), StoreError> {
        self.writer.write(|conn| append::count_crash(conn, running, now))
    }

    fn published(&self, run: RunKey, key: Option<&str>) -> Result<Vec<Published>, StoreError> {
        self.readers.read(|conn| read::published(conn, run, key))
    }

    fn logs(&self, run: RunKey, after: u64, limit: usize) -> Result<Vec<(u64, LogLine)>, StoreError> {
        self.readers.read(|conn| read::logs(conn, run, after, limit))
    }

    fn census(&self) -> Result<Census, StoreError> {
        self.readers.read(read::census)
    }

    fn count_versions(
        &self,
        namespace: &Namespace,
        workflow: &str,
        since: Timestamp,
        limit: usize,
    ) -> Result<Vec<VersionCount>, StoreError> {
        self.readers.read(|conn| read::version_counts(conn, namespace, workflow, since, limit))
    }

    fn probe(&self) -> Result<(), StoreError> {
        self.writer.write(|conn| schema::set_meta(conn, schema::PROBED, self.epoch))
    }
}
