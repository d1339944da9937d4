//! Migrations: which there are, how far a database is, and bringing it up to date.

use sqlx::{Row, SqlStr, postgres::PgConnection};

use super::error::Result;

/// Every migration in order; `schema_version` in `meta` is how many a database has had.
const MIGRATIONS: &[&str] = &[
    include_str!("../../../../migrations/postgres/0001_initial.sql"),
    include_str!("../../../../migrations/postgres/0002_cluster.sql"),
    include_str!("../../../../migrations/postgres/0003_queues_and_failed_tasks.sql"),
    include_str!("../../../../migrations/postgres/0004_workers.sql"),
    include_str!("../../../../migrations/postgres/0005_outbox.sql"),
    include_str!("../../../../migrations/postgres/0006_artifacts.sql"),
    include_str!("../../../../migrations/postgres/0007_activations.sql"),
    include_str!("../../../../migrations/postgres/0008_versions_end.sql"),
];

/// The newest schema version that this program knows.
pub(super) const KNOWN_VERSION: i64 = MIGRATIONS.len() as i64;

/// "RLIV": one migrates at a time, the others wait.
const LOCK: &str = "SELECT pg_advisory_xact_lock(1380731222)";

const HAS_META: &str = "SELECT to_regclass('meta') IS NOT NULL AND to_regclass('run_numbers') IS NOT NULL";
const VERSION: &str = "SELECT value FROM meta WHERE key = 'schema_version'";
const NOTE_VERSION: &str = "INSERT INTO meta (key, value) VALUES ('schema_version', $1) \
    ON CONFLICT (key) DO UPDATE SET value = excluded.value";

/// How far the database is; 0: it has no tables of relive's.
pub(super) async fn version(conn: &mut PgConnection) -> Result<i64> {
    let has_meta: bool = sqlx::query(HAS_META).fetch_one(&mut *conn).await?.try_get(0)?;
    if !has_meta {
        return Ok(0);
    }
    match sqlx::query(VERSION).fetch_optional(conn).await? {
        Some(row) => row.try_get(0),
        None => Ok(0),
    }
}

/// Brings the schema from where it is to `KNOWN_VERSION`, all in one transaction, and tells from where. A schema that is
/// newer is left alone.
pub(super) async fn migrate(conn: &mut PgConnection) -> Result<i64> {
    sqlx::raw_sql("BEGIN").execute(&mut *conn).await?;
    sqlx::raw_sql(LOCK).execute(&mut *conn).await?;
    let from = version(conn).await?;
    for sql in MIGRATIONS.iter().skip(usize::try_from(from).unwrap_or(usize::MAX)) {
        sqlx::raw_sql(SqlStr::from_static(sql)).execute(&mut *conn).await?;
    }
    if from < KNOWN_VERSION {
        sqlx::query(NOTE_VERSION).bind(KNOWN_VERSION).execute(&mut *conn).await?;
    }
    sqlx::raw_sql("COMMIT").execute(conn).await?;
    Ok(from)
}
