//! Opening a data directory: every way in which that fails has a type and a code, and says what to do.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
};

use parking_lot::Mutex;
use relive_core::ports::StoreErrorKind;
use rusqlite::{Connection, OpenFlags};

use super::{
    SqliteStore,
    checkpoint::{self, Checkpointer, StartError},
    error::{FatalHandler, abort_process, kind, store_error},
    lock::{DirLock, LockError},
    pool::{BUSY_TIMEOUT, Readers, STATEMENTS},
    schema,
    writer::{Faults, Shared, Writer},
};

/// The database's name in the data directory.
const FILE: &str = "relive.db";
/// Page cache of the writer: the right-hand edges of a few trees, and the pages of the executions that are busy.
const WRITER_CACHE_KIB: i64 = 32 * 1024;

/// How to open a store. The defaults are for production; the rest is for tests.
#[derive(Clone)]
pub struct OpenOptions {
    /// Connections for readers.
    pub readers: usize,
    /// Bytes of a page of a new database, a power of two from 512 to 65,536.
    pub page_size: u32,
    /// Pages that the database may have at most; then it is full, as a disk would be.
    pub max_pages: Option<u32>,
    /// What happens when a sync fails. Ends the process unless a test says otherwise.
    pub fatal: FatalHandler,
    /// Faults that a test puts in.
    pub faults: Option<Faults>,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self { readers: 4, page_size: 4096, max_pages: None, fatal: abort_process(), faults: None }
    }
}

/// Why a data directory cannot be used. Messages fit "failed to open the store: {..}".
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{} is not a directory; name another place with --data-dir", .0.display())]
    NotADirectory(PathBuf),
    #[error("{} cannot be written to; check its permissions and that its file system is not mounted read-only", .0.display())]
    ReadOnly(PathBuf),
    #[error("there is no space left in {}; free some and start again", .0.display())]
    NoSpace(PathBuf),
    #[error("{} is in use by another host{}; stop that one first", dir.display(), holder(*pid))]
    Locked { dir: PathBuf, pid: Option<u32> },
    #[error("{} was written by a newer version of relive (schema {found}, this one knows {known}); use that version", dir.display())]
    NewerVersion { dir: PathBuf, found: i64, known: i64 },
    #[error("the database in {} is damaged or not relive's: {message}; restore it from a backup", dir.display())]
    Corrupt { dir: PathBuf, message: String },
    #[error("the database in {} cannot be used: {message}", dir.display())]
    Unusable { dir: PathBuf, message: String },
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or(String::new(), |pid| format!(" (process {pid})"))
}

impl OpenError {
    /// Stable, for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotADirectory(_) => "data-dir-not-a-directory",
            Self::ReadOnly(_) => "data-dir-read-only",
            Self::NoSpace(_) => "data-dir-full",
            Self::Locked { .. } => "data-dir-locked",
            Self::NewerVersion { .. } => "data-dir-newer-version",
            Self::Corrupt { .. } => "data-dir-corrupt",
            Self::Unusable { .. } => "data-dir-unusable",
        }
    }

    fn io(dir: &Path, error: &std::io::Error) -> Self {
        let dir = dir.to_owned();
        match error.kind() {
            ErrorKind::NotADirectory | ErrorKind::AlreadyExists => Self::NotADirectory(dir),
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Self::ReadOnly(dir),
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::NoSpace(dir),
            _ => Self::Unusable { dir, message: error.to_string() },
        }
    }

    fn sqlite(dir: &Path, error: &rusqlite::Error) -> Self {
        let dir = dir.to_owned();
        match kind(error) {
            StoreErrorKind::NoSpace => Self::NoSpace(dir),
            StoreErrorKind::ReadOnly => Self::ReadOnly(dir),
            StoreErrorKind::Corrupt => Self::Corrupt { dir, message: error.to_string() },
            _ => Self::Unusable { dir, message: store_error(error).message },
        }
    }
}

impl SqliteStore {
    /// Opens the data directory, made if there is none, and takes it for this host until the store is dropped. The
    /// schema is brought up to date, and the host gets an epoch of its own.
    pub fn open(dir: &Path, options: OpenOptions) -> Result<Self, OpenError> {
        prepare_dir(dir)?;
        let lock = DirLock::take(dir).map_err(|error| match error {
            LockError::Held(pid) => OpenError::Locked { dir: dir.to_owned(), pid },
            LockError::Io(error) => OpenError::io(dir, &error),
        })?;
        let path = dir.join(FILE);
        let sqlite = |error: rusqlite::Error| OpenError::sqlite(dir, &error);
        let shared = Shared::new(options.fatal.clone(), options.faults.clone());
        let mut conn = connect(&path).map_err(sqlite)?;
        check_ours(dir, &conn)?;
        tune(&conn, &options).map_err(sqlite)?;
        schema::migrate(&mut conn).map_err(sqlite)?;
        let counted = shared.clone();
        conn.commit_hook(Some(move || {
            counted.commits.fetch_add(1, Ordering::Relaxed);
            false
        }))
        .map_err(sqlite)?;
        let (signal, wake, woken) = checkpoint::signal();
        checkpoint::watch(&mut conn, signal).map_err(sqlite)?;
        let writer = Arc::new(Writer::new(conn, shared.clone()));
        let claim = writer.write(schema::claim).map_err(|error| match error.kind {
            StoreErrorKind::NoSpace => OpenError::NoSpace(dir.to_owned()),
            StoreErrorKind::ReadOnly => OpenError::ReadOnly(dir.to_owned()),
            StoreErrorKind::Corrupt => OpenError::Corrupt { dir: dir.to_owned(), message: error.message },
            _ => OpenError::Unusable { dir: dir.to_owned(), message: error.message },
        })?;
        let readers = Readers::open(&path, options.readers, shared).map_err(sqlite)?;
        let checkpointer = Checkpointer::start(&path, writer.clone(), wake, woken).map_err(|error| match error {
            StartError::Sqlite(error) => OpenError::sqlite(dir, &error),
            StartError::Io(error) => OpenError::io(dir, &error),
        })?;
        let keys = Mutex::new(claim.keys);
        Ok(Self { checkpointer, readers, writer, keys, epoch: claim.epoch, was_clean: claim.was_clean, _lock: lock })
    }
}

/// Makes the directory, durably: its name must survive the loss of power as its files do.
fn prepare_dir(dir: &Path) -> Result<(), OpenError> {
    if dir.is_dir() {
        return Ok(());
    }
    let made = std::fs::create_dir_all(dir).and_then(|()| {
        let parent = dir.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::File::open(parent)?.sync_all()
    });
    made.map_err(|error| OpenError::io(dir, &error))
}

/// Plans do not depend on what is bound: else SQLite prepares a statement with a range anew for each value, which cost
/// a sixth of a wake.
pub(super) fn stable_plans(conn: &Connection) -> rusqlite::Result<()> {
    conn.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(|_| ())
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(BUSY_TIMEOUT)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    stable_plans(&conn)?;
    Ok(conn)
}

fn tune(conn: &Connection, options: &OpenOptions) -> rusqlite::Result<()> {
    conn.pragma_update(None, "page_size", options.page_size)?;
    conn.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    conn.pragma_update(None, "foreign_keys", false)?;
    conn.pragma_update(None, "trusted_schema", false)?;
    // Without it, REPLACE would delete events past their trigger.
    conn.pragma_update(None, "recursive_triggers", true)?;
    conn.pragma_update_and_check(None, "journal_size_limit", checkpoint::LOG_LIMIT, |row| row.get::<_, i64>(0))?;
    if let Some(pages) = options.max_pages {
        conn.pragma_update_and_check(None, "max_page_count", pages, |row| row.get::<_, i64>(0))?;
    }
    Ok(())
}

/// Refuses databases of a newer relive and of other programs before anything is written to them.
fn check_ours(dir: &Path, conn: &Connection) -> Result<(), OpenError> {
    let sqlite = |error: rusqlite::Error| OpenError::sqlite(dir, &error);
    let found = schema::version(conn).map_err(sqlite)?;
    if found > schema::KNOWN_VERSION {
        return Err(OpenError::NewerVersion { dir: dir.to_owned(), found, known: schema::KNOWN_VERSION });
    }
    let id: i64 = conn.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(sqlite)?;
    let tables: i64 = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(sqlite)?;
    if id != schema::APPLICATION_ID && (found != 0 || tables != 0) {
        return Err(OpenError::Corrupt { dir: dir.to_owned(), message: "it is another program's".to_owned() });
    }
    Ok(())
}
