//! The outbox: events that other systems have not been told of. Appends write it (`statement`), if the host is told to.

use relive_core::{
    ports::{Outbox, StoreError, Unpublished},
    shard::ShardSet,
};
use sqlx::postgres::PgRow;

use super::{
    PostgresStore,
    error::{Result as Sql, store_error},
    read::shards_of,
    rows::{self, Args, limit_of},
};
use crate::columns::{row_key, split_key};

/// A shard's rows are one range of an index. What another host is at just now is left to it.
pub(super) const UNPUBLISHED: &str = "SELECT key, last FROM outbox WHERE shard = ANY ($1) AND key > $2 ORDER BY key LIMIT $3 \
    FOR UPDATE SKIP LOCKED";
pub(super) const PUBLISHED: &str = "DELETE FROM outbox o USING unnest($1::int8[]) AS n(key) \
    WHERE o.key = n.key";

fn unpublished(row: &PgRow) -> Sql<Unpublished> {
    let (run, first) = split_key(sqlx::Row::try_get(row, 0)?);
    Ok(Unpublished { run, first, last: rows::number(row, 1)? })
}

impl Outbox for PostgresStore {
    fn unpublished(
        &self,
        shards: &ShardSet,
        after: Option<Unpublished>,
        limit: usize,
    ) -> Result<Vec<Unpublished>, StoreError> {
        let after = after.map_or(-1, |row| row_key(row.run, row.first));
        self.count_round_trip();
        let read = || {
            let args = Args::default().add(shards_of(shards)).add(after).add(limit_of(limit)).done()?;
            self.writes.write(UNPUBLISHED, args)?.iter().map(unpublished).collect()
        };
        let rows: Sql<Vec<Unpublished>> = read();
        rows.map_err(|e| store_error(&e))
    }

    fn published(&self, events: &[Unpublished]) -> Result<(), StoreError> {
        let keys: Vec<i64> = events.iter().map(|row| row_key(row.run, row.first)).collect();
        self.count_round_trip();
        let delete = || self.writes.write(PUBLISHED, Args::default().add(keys).done()?).map(|_| ());
        let done: Sql<()> = delete();
        done.map_err(|e| store_error(&e))
    }
}
