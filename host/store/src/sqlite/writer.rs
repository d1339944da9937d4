//! The connection that writes: its transactions, their retries, and what happens when a sync fails.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use parking_lot::Mutex;
use relive_core::{
    RunKey,
    ports::{AppendError, ExecutionRow, StoreError, StoreErrorKind},
};
use rusqlite::{Connection, params};

use super::{
    error::{FatalHandler, injected, is_failed_sync, kind, store_error},
    pool::MAX_TRIES,
    read,
};

/// Where a test may make the store fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultPoint {
    /// Before the rows of an item are written.
    Write,
    /// Before a transaction is committed: nothing of it will be there.
    BeforeCommit,
    /// After it was committed: all of it is there, and the caller is told otherwise.
    AfterCommit,
}

/// A test's say: an SQLite result code to fail with at this point, or none.
pub type Faults = Arc<dyn Fn(FaultPoint) -> Option<i32> + Send + Sync>;

/// What all connections of a store share.
pub(super) struct Shared {
    pub(super) commits: AtomicU64,
    /// A sync has failed: nothing that this store says can be trusted any more.
    dead: AtomicBool,
    fatal: FatalHandler,
    faults: Option<Faults>,
}

impl Shared {
    pub(super) fn new(fatal: FatalHandler, faults: Option<Faults>) -> Arc<Self> {
        Arc::new(Self { commits: AtomicU64::new(0), dead: AtomicBool::new(false), fatal, faults })
    }

    /// Refuses to go on after a failed sync (only seen where the fatal handler does not end the process).
    pub(super) fn check_alive(&self) -> Result<(), StoreError> {
        if self.dead.load(Ordering::Acquire) {
            return Err(StoreError::new(StoreErrorKind::Fatal, "a sync failed before; the store must be opened anew"));
        }
        Ok(())
    }

    /// Ends the process if the error is a failed sync.
    pub(super) fn heed(&self, error: &rusqlite::Error) {
        if is_failed_sync(error) {
            self.dead.store(true, Ordering::Release);
            (self.fatal)(&error.to_string());
        }
    }

    pub(super) fn fault(&self, point: FaultPoint) -> rusqlite::Result<()> {
        match self.faults.as_ref().and_then(|faults| faults(point)) {
            Some(code) => Err(injected(code)),
            None => Ok(()),
        }
    }
}

/// Whether a transaction has anything to keep.
pub(super) enum Done<T> {
    Commit(T),
    Rollback(T),
}

pub(super) struct Writer {
    conn: Mutex<Connection>,
    pub(super) shared: Arc<Shared>,
}

impl Writer {
    pub(super) fn new(conn: Connection, shared: Arc<Shared>) -> Self {
        Self { conn: Mutex::new(conn), shared }
    }

    /// Keeps writers out for as long as `f` runs.
    pub(super) fn paused<T>(&self, f: impl FnOnce() -> T) -> T {
        let _writer = self.conn.lock();
        f()
    }

    /// Runs `f` in a transaction. Transient errors are tried again from the start, a few times.
    pub(super) fn transact<T>(
        &self,
        mut f: impl FnMut(&Connection) -> rusqlite::Result<Done<T>>,
    ) -> Result<T, StoreError> {
        let conn = self.conn.lock();
        let mut tries = 1;
        loop {
            self.shared.check_alive()?;
            match self.attempt(&conn, &mut f) {
                Ok(done) => return Ok(done),
                Err(error) => {
                    self.shared.heed(&error);
                    let again = kind(&error) == StoreErrorKind::Transient && tries < MAX_TRIES;
                    if !again {
                        return Err(store_error(&error));
                    }
                    tracing::warn!(%error, tries, "a transaction failed and is tried again");
                    tries += 1;
                }
            }
        }
    }

    fn attempt<T>(
        &self,
        conn: &Connection,
        f: &mut impl FnMut(&Connection) -> rusqlite::Result<Done<T>>,
    ) -> rusqlite::Result<T> {
        run(conn, "BEGIN IMMEDIATE")?;
        let result = f(conn).and_then(|done| match done {
            Done::Rollback(value) => Ok(Err(value)),
            Done::Commit(value) => {
                self.shared.fault(FaultPoint::BeforeCommit)?;
                run(conn, "COMMIT")?;
                self.shared.fault(FaultPoint::AfterCommit)?;
                Ok(Ok(value))
            }
        });
        if !conn.is_autocommit() {
            run(conn, "ROLLBACK")?;
        }
        result.map(|done| done.unwrap_or_else(|value| value))
    }

    /// A transaction that always commits.
    pub(super) fn write<T>(&self, mut f: impl FnMut(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        self.transact(|conn| f(conn).map(Done::Commit))
    }

    /// See the port. A row that has the epoch already is not written again.
    pub(super) fn stamp_epoch(&self, run: RunKey, epoch: u64) -> Result<ExecutionRow, AppendError> {
        self.transact(|conn| {
            let Some(mut row) = read::execution(conn, run)? else {
                return Ok(Done::Rollback(Err(AppendError::NotFound)));
            };
            if row.epoch > epoch {
                return Ok(Done::Rollback(Err(AppendError::Fenced { epoch, owner: row.epoch })));
            }
            if !row.status.is_open() {
                return Ok(Done::Rollback(Err(AppendError::Closed)));
            }
            if row.epoch == epoch {
                return Ok(Done::Rollback(Ok(row)));
            }
            let sql = "UPDATE executions SET epoch = ?1 WHERE key = ?2 AND epoch <= ?1";
            conn.prepare_cached(sql)?.execute(params![epoch.cast_signed(), run.0.cast_signed()])?;
            row.epoch = epoch;
            Ok(Done::Commit(Ok(row)))
        })?
    }
}

fn run(conn: &Connection, sql: &str) -> rusqlite::Result<()> {
    conn.prepare_cached(sql)?.raw_execute().map(|_| ())
}
