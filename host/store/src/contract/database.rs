//! Databases for tests: each test gets one of its own on the server that `RELIVE_TEST_PG` names, and drops it.

use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::{AssertSqlSafe, Connection, postgres::PgConnection};

use crate::{PostgresOptions, PostgresStore};

/// The URL of a server where databases may be made: `postgres://user:password@host:port/postgres`.
pub const TEST_SERVER: &str = "RELIVE_TEST_PG";

/// A database that is dropped with this value.
pub struct TestDatabase {
    admin: String,
    name: String,
    pub url: String,
}

/// Runs statements on a database.
///
/// # Panics
/// If one of them fails.
pub fn run_sql(url: &str, sql: &str) {
    try_sql(url, sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// Runs statements on a database, and tells what became of them.
pub fn try_sql(url: &str, sql: &str) -> Result<(), sqlx::Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut conn = PgConnection::connect(url).await?;
        let result = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut conn).await;
        conn.close().await?;
        result.map(|_| ())
    })
}

/// The first column of the rows that a query gives, as text.
///
/// # Panics
/// If it fails.
#[must_use]
pub fn query_sql(url: &str, sql: &str) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut conn = PgConnection::connect(url).await.expect("a connection");
        let query = sqlx::query_scalar::<_, Option<String>>(AssertSqlSafe(sql)).fetch_all(&mut conn).await;
        conn.close().await.expect("a closed connection");
        query.unwrap_or_else(|error| panic!("{sql}: {error}")).into_iter().map(Option::unwrap_or_default).collect()
    })
}

impl TestDatabase {
    /// A database without tables. Nothing if no server is named, which is a failure where `CI` is set.
    ///
    /// # Panics
    /// If the server cannot be used.
    #[must_use]
    pub fn empty() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let Ok(admin) = std::env::var(TEST_SERVER) else {
            assert!(std::env::var_os("CI").is_none(), "{TEST_SERVER} is not set: PostgreSQL is not tested");
            eprintln!("skipped: {TEST_SERVER} is not set (scripts/servers sets it)");
            return None;
        };
        let name = format!("relive_test_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let (server, options) = admin.split_once('?').map_or((admin.as_str(), ""), |(s, o)| (s, o));
        let (server, _) = server.rsplit_once('/').expect("a URL that names a database");
        let url = format!("{server}/{name}{}{options}", if options.is_empty() { "" } else { "?" });
        run_sql(&admin, &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
        run_sql(
            &admin,
            &format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'"),
        );
        Some(Self { admin, name, url })
    }

    /// A database with relive's schema.
    ///
    /// # Panics
    /// If the server cannot be used.
    #[must_use]
    pub fn migrated() -> Option<Self> {
        let database = Self::empty()?;
        PostgresStore::migrate(&database.url).expect("a schema");
        Some(database)
    }

    /// A store on it, as one more host would open it.
    ///
    /// # Panics
    /// If it cannot be opened.
    #[must_use]
    pub fn store(&self) -> PostgresStore {
        PostgresStore::connect(&PostgresOptions::new(&*self.url)).expect("a store")
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        if let Err(error) = try_sql(&self.admin, &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name)) {
            eprintln!("{} was not dropped: {error}", self.name);
        }
    }
}
