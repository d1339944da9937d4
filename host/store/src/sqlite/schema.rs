//! Migrations and the few numbers in `meta`.

use rusqlite::{Connection, OptionalExtension, Result, params};

use crate::check::MAX_RUN_KEY;

/// Every migration in order; the database's `user_version` is how many it has had.
const MIGRATIONS: &[&str] = &[
    include_str!("../../../../migrations/sqlite/0001_initial.sql"),
    include_str!("../../../../migrations/sqlite/0002_images.sql"),
    include_str!("../../../../migrations/sqlite/0003_workers.sql"),
    include_str!("../../../../migrations/sqlite/0004_activity_kinds.sql"),
    include_str!("../../../../migrations/sqlite/0005_list_index.sql"),
    include_str!("../../../../migrations/sqlite/0006_queues_and_failed_tasks.sql"),
    include_str!("../../../../migrations/sqlite/0007_artifacts.sql"),
    include_str!("../../../../migrations/sqlite/0008_activations.sql"),
    include_str!("../../../../migrations/sqlite/0009_versions_end.sql"),
];
/// "RLIV" in the file's header: the database is ours.
pub(super) const APPLICATION_ID: i64 = 0x524c_4956;
/// Run keys reserved at once: one commit in this many starts. What a host does not use is lost.
const KEY_BLOCK: u64 = 1 << 16;

const EPOCH: &str = "host_epoch";
const NEXT_KEY: &str = "next_run_key";
/// Means nothing: it was written to see whether anything can be.
pub(super) const PROBED: &str = "probed";
/// 1 while no host runs and the last one closed the store in good order.
pub(super) const CLEAN: &str = "clean";

/// The newest schema version that this program knows.
pub(super) const KNOWN_VERSION: i64 = MIGRATIONS.len() as i64;

/// The version of the database's schema; 0 for a new one.
pub(super) fn version(conn: &Connection) -> Result<i64> {
    conn.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Brings the schema up to date, each migration in a transaction.
pub(super) fn migrate(conn: &mut Connection) -> Result<()> {
    let from = usize::try_from(version(conn)?).unwrap_or(0);
    for (n, sql) in MIGRATIONS.iter().enumerate().skip(from) {
        let transaction = conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        transaction.execute_batch(sql)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", n as i64 + 1)?;
        transaction.commit()?;
    }
    Ok(())
}

pub(super) fn set_meta(conn: &Connection, key: &str, value: u64) -> Result<()> {
    let sql = "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value";
    conn.prepare_cached(sql)?.execute(params![key, value.cast_signed()]).map(|_| ())
}

fn meta(conn: &Connection, key: &str) -> Result<Option<u64>> {
    conn.prepare_cached("SELECT value FROM meta WHERE key = ?1")?
        .query_row([key], |row| super::rows::number(row, 0))
        .optional()
}

/// Reserves the next block of run keys.
pub(super) fn reserve_keys(conn: &Connection) -> Result<std::ops::Range<u64>> {
    let first = meta(conn, NEXT_KEY)?.unwrap_or(1);
    let end = first + KEY_BLOCK;
    if end > MAX_RUN_KEY {
        return Err(super::error::unreadable("run keys that were all given out"));
    }
    set_meta(conn, NEXT_KEY, end)?;
    Ok(first..end)
}

/// What a host finds and claims when it opens the store.
pub(super) struct Claim {
    pub(super) epoch: u64,
    pub(super) was_clean: bool,
    pub(super) keys: std::ops::Range<u64>,
}

/// Takes the next epoch, and notes that a host runs.
pub(super) fn claim(conn: &Connection) -> Result<Claim> {
    let epoch = meta(conn, EPOCH)?.unwrap_or(0) + 1;
    let was_clean = meta(conn, CLEAN)?.is_none_or(|clean| clean == 1);
    set_meta(conn, EPOCH, epoch)?;
    set_meta(conn, CLEAN, 0)?;
    Ok(Claim { epoch, was_clean, keys: reserve_keys(conn)? })
}
