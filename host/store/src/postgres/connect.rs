//! Reaching a database and finding it fit: every way in which that fails has a type and a code, and says what to do. No
//! message holds a password.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use sqlx::{
    ConnectOptions, Connection, Row,
    postgres::{PgConnectOptions, PgConnection},
};

use super::{
    PostgresStore,
    bridge::Bridge,
    error::{Result as Sql, silent, state},
    heads::Heads,
    links::{self, Generation, Links},
    schema,
    statement::Statements,
};

/// Connections that append. One commits while another's batch is prepared; more only fight over the same disk.
const WRITERS: usize = 3;
/// One that beats, one for whoever asks how everybody stands.
const BEATERS: usize = 2;
/// The first major version of PostgreSQL that has all that is used.
const OLDEST_SERVER: i32 = 13;
/// More than the server itself gives a statement that waits for locks, and less than anybody's patience.
const LIMIT: Duration = Duration::from_secs(20);
/// The same for beats, which are worth nothing when they are late.
const BEAT_LIMIT: Duration = Duration::from_secs(3);

/// How to reach the database.
#[derive(Clone)]
pub struct PostgresOptions {
    /// `postgres://user:password@host:port/database?sslmode=verify-full&sslrootcert=/path`.
    pub url: String,
    /// Connections for everything but appends and beats.
    pub readers: usize,
    /// How long a statement may take, by this side's clock: a connection may be silent without being closed.
    pub limit: Duration,
    /// Appends note in the outbox what other systems are to be told.
    pub feeds: bool,
}

impl PostgresOptions {
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), readers: 8, limit: LIMIT, feeds: false }
    }
}

/// Why a database cannot be used. Messages fit "failed to open the store: {..}".
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("the store's URL is wrong: {0}; it looks like postgres://user:password@host:5432/database")]
    BadUrl(String),
    #[error("PostgreSQL at {server} cannot be reached: {message}; check that it runs, and the address and port")]
    Unreachable { server: String, message: String },
    #[error(
        "PostgreSQL at {server} does not let user {user:?} in: {message}; check the user, the password and pg_hba.conf"
    )]
    Refused { server: String, user: String, message: String },
    #[error("PostgreSQL at {server} has no such database: {message}; make it with createdb, encoding UTF8")]
    NoDatabase { server: String, message: String },
    #[error("no secure connection to PostgreSQL at {server}: {message}; check sslmode and sslrootcert in the URL")]
    Tls { server: String, message: String },
    #[error("the database at {server} has no relive schema; make it with relive migrate-store")]
    NoSchema { server: String },
    #[error(
        "the schema of the database at {server} is older (version {found}) than this program needs ({known}); bring it up to date with relive migrate-store"
    )]
    OlderSchema { server: String, found: i64, known: i64 },
    #[error(
        "the schema of the database at {server} is newer (version {found}) than this program knows ({known}); use the version of relive that made it"
    )]
    NewerSchema { server: String, found: i64, known: i64 },
    #[error("the database at {server} has the encoding {encoding}; make one with encoding UTF8")]
    Encoding { server: String, encoding: String },
    #[error("the database at {server} cannot be used: {message}")]
    Unusable { server: String, message: String },
}

impl ConnectError {
    /// Stable, for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadUrl(_) => "store-url-invalid",
            Self::Unreachable { .. } => "store-unreachable",
            Self::Refused { .. } => "store-access-refused",
            Self::NoDatabase { .. } => "store-database-missing",
            Self::Tls { .. } => "store-tls-failed",
            Self::NoSchema { .. } => "store-schema-missing",
            Self::OlderSchema { .. } => "store-schema-older",
            Self::NewerSchema { .. } => "store-schema-newer",
            Self::Encoding { .. } => "store-encoding",
            Self::Unusable { .. } => "store-unusable",
        }
    }

    fn of(options: &PgConnectOptions, error: &sqlx::Error) -> Self {
        let (server, message) = (server(options), error.to_string());
        let user = options.get_username().to_owned();
        match state(error).as_deref() {
            Some("28P01" | "28000") => Self::Refused { server, user, message },
            Some("3D000") => Self::NoDatabase { server, message },
            Some(s) if s.starts_with("57P") || s.starts_with("53") => Self::Unreachable { server, message },
            Some(_) => Self::Unusable { server, message },
            None => match error {
                sqlx::Error::Io(_) => Self::Unreachable { server, message },
                sqlx::Error::Tls(_) => Self::Tls { server, message },
                sqlx::Error::Configuration(_) => Self::BadUrl(message),
                _ => Self::Unusable { server, message },
            },
        }
    }
}

/// What a migration did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migrated {
    pub from: i64,
    pub to: i64,
}

/// Where the server is, for people.
fn server(options: &PgConnectOptions) -> String {
    let database = options.get_database().unwrap_or(options.get_username());
    match options.get_socket() {
        Some(socket) => format!("{}/{database}", socket.display()),
        None => format!("{}:{}/{database}", options.get_host(), options.get_port()),
    }
}

fn parse(url: &str) -> Result<PgConnectOptions, ConnectError> {
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(ConnectError::BadUrl("it does not begin with postgres://".to_owned()));
    }
    let options: PgConnectOptions = url.parse().map_err(|e: sqlx::Error| ConnectError::BadUrl(e.to_string()))?;
    // A statement is a few lines of SQL and bytes of histories: nothing for a log.
    Ok(options.application_name("relive").statement_cache_capacity(256).disable_statement_logging())
}

fn bridge() -> Result<Arc<Bridge>, ConnectError> {
    let unusable =
        |e: std::io::Error| ConnectError::Unusable { server: "this host".to_owned(), message: e.to_string() };
    Bridge::new().map(Arc::new).map_err(unusable)
}

impl PostgresStore {
    /// Connects to a database whose schema is this program's. Nothing is written.
    pub fn connect(options: &PostgresOptions) -> Result<Self, ConnectError> {
        let (pg, bridge) = (parse(&options.url)?, bridge()?);
        let mut conn = links::connect(&bridge, &pg).map_err(|e| ConnectError::of(&pg, &e))?;
        let found = bridge.wait(look(&mut conn)).map_err(|e| ConnectError::of(&pg, &e))?;
        bridge.wait(conn.close()).unwrap_or_else(|error| tracing::debug!(%error, "closing a connection failed"));
        found.check(server(&pg))?;
        let generation = Generation::default();
        let links = |max, limit| Links::new(bridge.clone(), pg.clone(), generation.clone(), max, limit);
        Ok(Self {
            writes: links(WRITERS, options.limit),
            reads: links(options.readers, options.limit),
            beats: links(BEATERS, BEAT_LIMIT.min(options.limit)),
            heads: Mutex::new(Heads::new()),
            statements: Statements::default(),
            keys: Mutex::default(),
            round_trips: std::sync::atomic::AtomicU64::new(0),
            feeds: options.feeds,
        })
    }

    /// Brings the database's schema up to this program's; an empty database gets all of it. Several may try at once: one
    /// does it.
    pub fn migrate(url: &str) -> Result<Migrated, ConnectError> {
        let (pg, bridge) = (parse(url)?, bridge()?);
        let migrated = bridge.wait(async {
            let connected = tokio::time::timeout(links::CONNECT, pg.connect()).await;
            let mut conn = connected.unwrap_or_else(|_| Err(silent()))?;
            check_encoding(&mut conn).await?;
            let from = schema::migrate(&mut conn).await;
            conn.close().await.unwrap_or_else(|error| tracing::debug!(%error, "closing a connection failed"));
            from
        });
        let (from, known) = (migrated.map_err(|e| ConnectError::of(&pg, &e))?, schema::KNOWN_VERSION);
        if from > known {
            return Err(ConnectError::NewerSchema { server: server(&pg), found: from, known });
        }
        Ok(Migrated { from, to: known })
    }
}

/// Refuses to put the schema into a database that could not hold every text.
async fn check_encoding(conn: &mut PgConnection) -> Sql<()> {
    let encoding: String = sqlx::query("SHOW server_encoding").fetch_one(conn).await?.try_get(0)?;
    if encoding == "UTF8" {
        return Ok(());
    }
    Err(sqlx::Error::InvalidArgument(format!("its encoding is {encoding}; make a database with encoding UTF8")))
}

/// What a look at the database shows.
struct Found {
    server_version: i32,
    version: i64,
    encoding: String,
    /// Settings without which an acknowledged commit may be lost.
    unsafe_settings: Vec<String>,
}

const SERVER_VERSION: &str = "SELECT current_setting('server_version_num')::int4 / 10000";
const SETTINGS: &str = "SELECT name, reset_val FROM pg_settings \
    WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit') AND reset_val = 'off' ORDER BY name";

async fn look(conn: &mut PgConnection) -> Sql<Found> {
    let server_version: i32 = sqlx::query(SERVER_VERSION).fetch_one(&mut *conn).await?.try_get(0)?;
    let version = schema::version(conn).await?;
    let encoding = sqlx::query("SHOW server_encoding").fetch_one(&mut *conn).await?.try_get(0)?;
    let off = sqlx::query(SETTINGS).fetch_all(conn).await?;
    let unsafe_settings = off.iter().map(|row| row.try_get(0)).collect::<Sql<Vec<String>>>()?;
    Ok(Found { server_version, version, encoding, unsafe_settings })
}

impl Found {
    fn check(self, server: String) -> Result<(), ConnectError> {
        let known = schema::KNOWN_VERSION;
        if self.server_version < OLDEST_SERVER {
            let message = format!("it runs PostgreSQL {}; {OLDEST_SERVER} or later is needed", self.server_version);
            return Err(ConnectError::Unusable { server, message });
        }
        if self.encoding != "UTF8" {
            return Err(ConnectError::Encoding { server, encoding: self.encoding });
        }
        for setting in &self.unsafe_settings {
            tracing::error!(
                setting,
                server,
                "PostgreSQL runs with {setting} = off: what this host acknowledges may be lost with the power; \
                 turn it on in postgresql.conf"
            );
        }
        match self.version {
            0 => Err(ConnectError::NoSchema { server }),
            found if found < known => Err(ConnectError::OlderSchema { server, found, known }),
            found if found > known => Err(ConnectError::NewerSchema { server, found, known }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_checked_and_passwords_kept_out() {
        for url in ["", "mysql://a@b/c", "postgres://", "postgres://a:secret@host:notaport/db", "postgres://[::1"] {
            if let Err(error) = parse(url) {
                assert_eq!(error.code(), "store-url-invalid", "{url}");
                assert!(!error.to_string().contains("secret"), "{error}");
            }
        }
        let options = parse("postgres://ann:secret@db.example:5433/relive?sslmode=require").unwrap();
        assert_eq!(server(&options), "db.example:5433/relive");
    }
}
