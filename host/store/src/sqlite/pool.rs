//! A few connections that read, handed out one at a time.

use std::{path::Path, sync::Arc};

use parking_lot::{Condvar, Mutex};
use relive_core::ports::{StoreError, StoreErrorKind};
use rusqlite::{Connection, OpenFlags};

use super::{
    error::{kind, store_error},
    writer::Shared,
};

/// Page cache of one reader: histories are read once, so little is gained by more.
const READER_CACHE_KIB: i64 = 4 * 1024;
/// A reader hardly ever waits under WAL; it does while the log is being recovered.
pub(super) const BUSY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(2);
/// Transient errors are tried again this often before the caller hears of them.
pub(super) const MAX_TRIES: u32 = 3;
/// Statements kept prepared on each connection; there are about fifty different ones.
pub(super) const STATEMENTS: usize = 128;

pub(super) struct Readers {
    idle: Mutex<Vec<Connection>>,
    returned: Condvar,
    shared: Arc<Shared>,
}

/// Gives the connection back however the read ends.
struct Lease<'a> {
    pool: &'a Readers,
    conn: Option<Connection>,
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if let Some(conn) = self.conn.take() {
            self.pool.idle.lock().push(conn);
            self.pool.returned.notify_one();
        }
    }
}

impl Readers {
    pub(super) fn open(path: &Path, count: usize, shared: Arc<Shared>) -> rusqlite::Result<Self> {
        let idle = (0..count.max(1)).map(|_| open_reader(path)).collect::<rusqlite::Result<_>>()?;
        Ok(Self { idle: Mutex::new(idle), returned: Condvar::new(), shared })
    }

    fn lease(&self) -> Lease<'_> {
        let mut idle = self.idle.lock();
        loop {
            if let Some(conn) = idle.pop() {
                return Lease { pool: self, conn: Some(conn) };
            }
            self.returned.wait(&mut idle);
        }
    }

    /// Runs `f` on a connection of its own; transient errors are tried again.
    pub(super) fn read<T>(&self, f: impl Fn(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        self.shared.check_alive()?;
        let lease = self.lease();
        let Some(conn) = &lease.conn else {
            return Err(StoreError::new(StoreErrorKind::Fatal, "no connection to read with"));
        };
        let mut tries = 1;
        loop {
            match f(conn) {
                Err(error) if kind(&error) == StoreErrorKind::Transient && tries < MAX_TRIES => tries += 1,
                result => return result.map_err(|error| store_error(&error)),
            }
        }
    }
}

fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(BUSY_TIMEOUT)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    super::open::stable_plans(&conn)?;
    conn.pragma_update(None, "query_only", true)?;
    conn.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(conn)
}
