//! Memory images: a table of their own, keyed like events.

use relive_core::{
    RunKey,
    ports::{ImageStore, StoreError, StoredImage},
};
use sqlx::AssertSqlSafe;

use super::{
    PostgresStore,
    error::{Result as Sql, store_error},
    rows::{self, Args},
    statement::{images, numbered, put_images},
};
use crate::columns::{row_key, split_key};

/// The rows of open runs are locked, so that none ends in between and leaves an image behind.
const SAVE: &str = concat!(
    "WITH open AS MATERIALIZED (SELECT x.key FROM executions x WHERE x.key = ANY (?::int8[]) AND x.status < 2 \
     ORDER BY x.key FOR SHARE), ",
    images!(),
    " WHERE ((n.key >> 24) IN (SELECT key FROM open)) IS TRUE",
    put_images!(),
    " SELECT"
);
pub(super) const NEWEST: &str = "SELECT key, bytes FROM images WHERE key BETWEEN $1 AND $2 ORDER BY key DESC LIMIT 1";
const DISCARD: &str = "DELETE FROM images WHERE key = $1";

/// The statement that saves images.
pub(super) fn save_sql() -> String {
    numbered(SAVE)
}

impl PostgresStore {
    fn save(&self, images: &[StoredImage]) -> Sql<()> {
        let runs: Vec<i64> = images.iter().map(|i| rows::key_of(i.run)).collect();
        let keys: Vec<i64> = images.iter().map(|i| row_key(i.run, i.event_id)).collect();
        let bytes: Vec<&[u8]> = images.iter().map(|i| &*i.bytes).collect();
        self.count_round_trip();
        let args = Args::default().add(runs).add(keys).add(bytes).done()?;
        self.writes.write(AssertSqlSafe(save_sql()), args).map(|_| ())
    }
}

impl ImageStore for PostgresStore {
    fn save_images(&self, images: &[StoredImage]) -> Result<(), StoreError> {
        // A statement does not see the rows that it makes: two images of a run are two statements.
        let repeated = |n: usize| images[..n].iter().any(|i| i.run == images[n].run);
        let many = (0..images.len()).any(repeated);
        let size = if many { 1 } else { images.len().max(1) };
        images.chunks(size).try_for_each(|chunk| self.save(chunk)).map_err(|e| store_error(&e))
    }

    fn image(&self, run: RunKey, through: u64) -> Result<Option<StoredImage>, StoreError> {
        let args = Args::default().add(row_key(run, 0)).add(row_key(run, through));
        self.one(NEWEST, args, |row| {
            let (run, event_id) = split_key(sqlx::Row::try_get(row, 0)?);
            Ok(StoredImage { run, event_id, bytes: rows::bytes(row, 1)?.into() })
        })
    }

    fn discard_image(&self, run: RunKey, event_id: u64) -> Result<(), StoreError> {
        self.count_round_trip();
        let discard = || self.writes.write(DISCARD, Args::default().add(row_key(run, event_id)).done()?).map(|_| ());
        let done: Sql<()> = discard();
        done.map_err(|e| store_error(&e))
    }
}
