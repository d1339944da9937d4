//! What PostgreSQL's and sqlx's errors mean to callers.

use relive_core::ports::{StoreError, StoreErrorKind};
use sqlx::Error;

pub(super) type Result<T> = std::result::Result<T, Error>;

/// A stored value that is not what the schema's comments say.
#[derive(Debug, thiserror::Error)]
#[error("a stored value cannot be read: {0}")]
struct Unreadable(String);

/// The error for a stored value that cannot be read.
pub(super) fn unreadable(what: impl Into<String>) -> Error {
    Error::Decode(Box::new(Unreadable(what.into())))
}

/// The error of a call that got no answer in time.
pub(super) fn silent() -> Error {
    Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "the server did not answer in time"))
}

/// The error of a connection that could not be made: nothing was sent.
pub(super) fn unreached(error: Error) -> Error {
    match error {
        Error::Io(error) => Error::Io(std::io::Error::new(std::io::ErrorKind::NotConnected, error)),
        error => error,
    }
}

/// The error of a transaction that others came in between of, time after time.
pub(super) fn overtaken() -> Error {
    Error::Io(std::io::Error::other("other transactions came in between, time after time"))
}

/// The SQLSTATE of the error, if the server told one.
pub(super) fn state(error: &Error) -> Option<String> {
    error.as_database_error().and_then(|e| e.code()).map(|code| code.into_owned())
}

/// Whether the connection is of no use any more. What was under way may have been committed or not.
pub(super) fn is_lost(error: &Error) -> bool {
    match error {
        Error::Io(_) | Error::Tls(_) | Error::Protocol(_) | Error::WorkerCrashed => true,
        // Classes 08 (connection) and 57P (operator); a transaction that idled for too long, and a prepared statement
        // that a migration made stale for good.
        Error::Database(_) => {
            state(error).is_some_and(|s| s.starts_with("08") || s.starts_with("57P") || s == "25P03" || s == "0A000")
        }
        _ => false,
    }
}

/// Whether what was under way may have been committed: the server had it, and nobody heard what became of it.
fn in_doubt(error: &Error) -> bool {
    match error {
        Error::Io(error) => error.kind() != std::io::ErrorKind::NotConnected,
        // The server takes no connections (57P03), or refuses the statement as such (0A000).
        Error::Database(_) => is_lost(error) && !state(error).is_some_and(|s| s == "57P03" || s == "0A000"),
        error => is_lost(error),
    }
}

/// Whether the transaction lost a race and may be tried again at once: nothing of it was committed.
pub(super) fn is_race(error: &Error) -> bool {
    // Serialization failure, deadlock.
    state(error).is_some_and(|s| matches!(s.as_str(), "40001" | "40P01"))
}

/// Whether the error may be one item's fault, so that its neighbours fare better without it.
pub(super) fn is_of_an_item(error: &Error) -> bool {
    match error {
        // Data exceptions, violated constraints, limits of the program.
        Error::Database(_) => {
            state(error).is_some_and(|s| s.starts_with("22") || s.starts_with("23") || s.starts_with("54"))
        }
        Error::Encode(_) | Error::Decode(_) | Error::ColumnDecode { .. } => true,
        _ => false,
    }
}

/// What the error means to the caller.
pub(super) fn kind(error: &Error) -> StoreErrorKind {
    match error {
        Error::PoolTimedOut => StoreErrorKind::Transient,
        Error::Decode(_) | Error::ColumnDecode { .. } => StoreErrorKind::Corrupt,
        Error::Database(_) if !is_lost(error) => match state(error).as_deref() {
            // No space on the device.
            Some("53100") => StoreErrorKind::NoSpace,
            // Read-only transaction (a standby), insufficient privilege.
            Some("25006" | "42501") => StoreErrorKind::ReadOnly,
            // Data or index corrupted.
            Some("XX001" | "XX002") => StoreErrorKind::Corrupt,
            // Lock not available, canceled by a timeout, an input/output error of the server's.
            Some("55P03" | "57014" | "58030") => StoreErrorKind::Transient,
            // Transaction rollback, out of resources (memory, connections).
            Some(s) if s.starts_with("40") || s.starts_with("53") => StoreErrorKind::Transient,
            _ => StoreErrorKind::Fatal,
        },
        error if is_lost(error) => StoreErrorKind::Transient,
        _ => StoreErrorKind::Fatal,
    }
}

/// The port's error for sqlx's.
pub(super) fn store_error(error: &Error) -> StoreError {
    let kind = kind(error);
    let what = match kind {
        StoreErrorKind::Transient if matches!(error, Error::PoolTimedOut) => "all connections to PostgreSQL are busy",
        StoreErrorKind::Transient if is_lost(error) => "the connection to PostgreSQL failed",
        StoreErrorKind::Transient => "PostgreSQL is busy",
        StoreErrorKind::NoSpace => "PostgreSQL's disk is full; free some space and try again",
        StoreErrorKind::ReadOnly => "PostgreSQL refuses to write; check that it is no standby, and the user's grants",
        StoreErrorKind::Corrupt => "the database holds damaged data",
        StoreErrorKind::Fatal => "the database failed",
    };
    StoreError::new(kind, format!("{what}: {error}")).in_doubt(in_doubt(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a server says.
    #[derive(Debug, thiserror::Error)]
    #[error("as told")]
    struct Told(&'static str);

    impl sqlx::error::DatabaseError for Told {
        fn message(&self) -> &str {
            "as told"
        }
        fn kind(&self) -> sqlx::error::ErrorKind {
            sqlx::error::ErrorKind::Other
        }
        fn code(&self) -> Option<std::borrow::Cow<'_, str>> {
            Some(self.0.into())
        }
        fn as_error(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
            self
        }
        fn as_error_mut(&mut self) -> &mut (dyn std::error::Error + Send + Sync + 'static) {
            self
        }
        fn into_error(self: Box<Self>) -> Box<dyn std::error::Error + Send + Sync + 'static> {
            self
        }
    }

    #[test]
    fn what_a_server_says_is_told_for_what_it_is() {
        let told = |state| Error::Database(Box::new(Told(state)));
        for (state, kind_of) in [
            ("53100", StoreErrorKind::NoSpace),
            ("25006", StoreErrorKind::ReadOnly),
            ("42501", StoreErrorKind::ReadOnly),
            ("XX001", StoreErrorKind::Corrupt),
            ("40001", StoreErrorKind::Transient),
            ("40P01", StoreErrorKind::Transient),
            ("55P03", StoreErrorKind::Transient),
            ("57014", StoreErrorKind::Transient),
            ("57P01", StoreErrorKind::Transient),
            ("42703", StoreErrorKind::Fatal),
        ] {
            assert_eq!(kind(&told(state)), kind_of, "{state}");
            assert_eq!(is_race(&told(state)), matches!(state, "40001" | "40P01"), "{state}");
            // Ended by an operator, the server may have committed before it said so.
            assert_eq!(store_error(&told(state)).in_doubt, state == "57P01", "{state}");
        }
        assert!(!store_error(&told("57P03")).in_doubt, "it took nothing");
        assert!(is_of_an_item(&told("23505")) && !is_of_an_item(&told("53100")));
    }

    #[test]
    fn what_cuts_a_connection_is_transient_and_lost() {
        let cut = || Error::Io(std::io::ErrorKind::ConnectionReset.into());
        for error in [cut(), silent(), Error::Protocol("half a message".to_owned())] {
            assert!(is_lost(&error) && !is_race(&error) && !is_of_an_item(&error), "{error}");
            assert_eq!(kind(&error), StoreErrorKind::Transient, "{error}");
            assert!(store_error(&error).in_doubt, "{error}");
            let never = unreached(error);
            assert!(is_lost(&never), "{never}");
        }
        assert!(!store_error(&unreached(cut())).in_doubt && !store_error(&Error::PoolTimedOut).in_doubt);
        assert_eq!(kind(&Error::PoolTimedOut), StoreErrorKind::Transient);
        assert_eq!(kind(&unreadable("x")), StoreErrorKind::Corrupt);
    }
}
