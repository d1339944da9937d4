//! What SQLite's result codes mean to callers, and the one error that ends the process.

use std::sync::Arc;

use relive_core::ports::{StoreError, StoreErrorKind};
use rusqlite::{Error, ErrorCode, ffi};

/// Called when a sync failed: what the disk holds is unknown, and the kernel may have dropped the pages, so that a
/// second sync that succeeds would prove nothing. Ends the process; tests put something else here.
pub type FatalHandler = Arc<dyn Fn(&str) + Send + Sync>;

/// Logs and aborts.
pub(super) fn abort_process() -> FatalHandler {
    Arc::new(|message| {
        tracing::error!(error = message, "a sync failed; what is on disk is unknown, so this process ends");
        std::process::abort()
    })
}

/// A stored value that is not what the schema's comments say.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unreadable(pub String);

/// The error for a stored value that cannot be read.
pub(super) fn unreadable(what: impl Into<String>) -> Error {
    Error::FromSqlConversionFailure(0, rusqlite::types::Type::Null, Box::new(Unreadable(what.into())))
}

/// An SQLite error of this extended result code, for injected faults.
pub(super) fn injected(code: i32) -> Error {
    Error::SqliteFailure(ffi::Error::new(code), Some(format!("injected fault {code}")))
}

/// Whether the error says that a sync failed.
pub(super) fn is_failed_sync(error: &Error) -> bool {
    let codes = [ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_IOERR_DIR_FSYNC];
    matches!(error, Error::SqliteFailure(e, _) if codes.contains(&e.extended_code))
}

/// What the error means to the caller.
pub(super) fn kind(error: &Error) -> StoreErrorKind {
    match error {
        Error::SqliteFailure(e, _) => match e.code {
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed => {
                StoreErrorKind::Transient
            }
            ErrorCode::OperationInterrupted | ErrorCode::OutOfMemory | ErrorCode::SchemaChanged => {
                StoreErrorKind::Transient
            }
            ErrorCode::SystemIoFailure if is_failed_sync(error) => StoreErrorKind::Fatal,
            ErrorCode::SystemIoFailure if e.extended_code == ffi::SQLITE_IOERR_CORRUPTFS => StoreErrorKind::Corrupt,
            ErrorCode::SystemIoFailure => StoreErrorKind::Transient,
            ErrorCode::DiskFull => StoreErrorKind::NoSpace,
            ErrorCode::ReadOnly | ErrorCode::PermissionDenied => StoreErrorKind::ReadOnly,
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => StoreErrorKind::Corrupt,
            _ => StoreErrorKind::Fatal,
        },
        Error::FromSqlConversionFailure(..)
        | Error::IntegralValueOutOfRange(..)
        | Error::Utf8Error(..)
        | Error::InvalidColumnType(..) => StoreErrorKind::Corrupt,
        _ => StoreErrorKind::Fatal,
    }
}

/// The port's error for SQLite's.
pub(super) fn store_error(error: &Error) -> StoreError {
    let kind = kind(error);
    let what = match kind {
        StoreErrorKind::Transient => "the database is busy or the disk failed for now",
        StoreErrorKind::NoSpace => "the disk is full; free some space and try again",
        StoreErrorKind::ReadOnly => "the database is read-only; check the permissions of the data directory",
        StoreErrorKind::Corrupt => "the database holds damaged data",
        StoreErrorKind::Fatal => "the database failed",
    };
    StoreError::new(kind, format!("{what}: {error}"))
}
