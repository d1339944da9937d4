//! Moves the write-ahead log into the database on a thread of its own, so that no commit has to wait for it.
//!
//! Most is moved while writers go on; a log that is always growing would never be empty, so the small rest is moved
//! with the writer paused, and the next commit starts the log over.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
};

use parking_lot::Mutex;
use relive_core::ports::StoreError;
use rusqlite::{Connection, OpenFlags};

use super::{error::store_error, pool::BUSY_TIMEOUT, writer::Writer};

/// Pages in the log before it is moved. Less means more syncs, more a longer recovery after a crash.
pub(super) const CHECKPOINT_PAGES: u32 = 4_000;
/// Rounds beside the writer; one that writes as fast as pages are moved is paused in the end all the same.
const MAX_ROUNDS: u32 = 4;
/// So many pages are moved quickly enough for a writer to wait.
const SMALL_REST: i64 = 256;
/// A log that readers kept from starting over is cut back to this once it does.
pub(super) const LOG_LIMIT: i64 = 64 << 20;

/// The thread's handle; ends it when dropped.
pub(super) struct Checkpointer {
    wake: SyncSender<()>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    conn: Arc<Mutex<Connection>>,
}

impl Checkpointer {
    /// Starts the thread. `woken` is the other end of the signal that the writer's commits give.
    pub(super) fn start(
        path: &Path,
        writer: Arc<Writer>,
        wake: SyncSender<()>,
        woken: Receiver<()>,
    ) -> Result<Self, StartError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(path, flags)?;
        conn.busy_timeout(BUSY_TIMEOUT)?;
        conn.pragma_update(None, "synchronous", "FULL")?;
        let conn = Arc::new(Mutex::new(conn));
        let stop = Arc::new(AtomicBool::new(false));
        let (own_conn, own_stop) = (conn.clone(), stop.clone());
        let thread = std::thread::Builder::new().name("relive-checkpoint".to_owned()).spawn(move || {
            while woken.recv().is_ok() && !own_stop.load(Ordering::Acquire) {
                if let Err(error) = move_log(&own_conn.lock(), &writer) {
                    tracing::warn!(%error, "failed to move the log into the database; it is tried again");
                }
            }
        })?;
        Ok(Self { wake, stop, thread: Some(thread), conn })
    }

    pub(super) fn run_now(&self, writer: &Writer) -> Result<(), StoreError> {
        move_log(&self.conn.lock(), writer).map_err(|error| store_error(&error))
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // A full channel wakes the thread as well.
        let _ = self.wake.try_send(());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the checkpoint thread panicked");
        }
    }
}

/// Why the thread did not start.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// First beside the writer, in rounds until little is left, then the rest with the writer paused.
fn move_log(conn: &Connection, writer: &Writer) -> rusqlite::Result<()> {
    let result = catch_up(conn).and_then(|()| writer.paused(|| passive(conn)).map(|_| ()));
    if let Err(error) = &result {
        writer.shared.heed(error);
    }
    result
}

fn catch_up(conn: &Connection) -> rusqlite::Result<()> {
    let mut moved = 0;
    for _ in 0..MAX_ROUNDS {
        let total = passive(conn)?;
        if total - moved < SMALL_REST {
            break;
        }
        moved = total;
    }
    Ok(())
}

/// Moves what is there without waiting for anybody; gives the pages of the log that were moved since it began.
fn passive(conn: &Connection) -> rusqlite::Result<i64> {
    conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(2))
}

/// What the writer's commits tell the thread.
pub(super) struct Signal {
    wake: SyncSender<()>,
    last: AtomicU32,
}

impl Signal {
    /// A commit left this many pages in the log. Wakes the thread at most once a thousand pages.
    fn log_has(&self, pages: u32) {
        let last = self.last.load(Ordering::Relaxed);
        if pages < last {
            self.last.store(0, Ordering::Relaxed);
        }
        if pages >= CHECKPOINT_PAGES && (pages < last || pages - last.max(1) >= CHECKPOINT_PAGES / 4) {
            self.last.store(pages, Ordering::Relaxed);
            if let Err(TrySendError::Disconnected(())) = self.wake.try_send(()) {
                tracing::debug!("the checkpoint thread has ended");
            }
        }
    }
}

/// What the writer's commits hold, what the handle holds, and what the thread waits on.
pub(super) fn signal() -> (Signal, SyncSender<()>, Receiver<()>) {
    let (wake, woken) = sync_channel(1);
    (Signal { wake: wake.clone(), last: AtomicU32::new(0) }, wake, woken)
}

/// Has the writer's commits tell `signal` of the log's length; this takes the place of SQLite's own checkpoints.
pub(super) fn watch(conn: &mut Connection, signal: Signal) -> rusqlite::Result<()> {
    conn.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages: std::ffi::c_int| {
        signal.log_has(u32::try_from(pages).unwrap_or(0));
        Ok(())
    }))
}
