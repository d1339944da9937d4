//! Hosts and shards: functions of the schema (`migrations/postgres/0002_cluster.sql`), one call each, measured by the
//! server's clock. Over a connection of their own.

use std::{sync::Arc, time::Duration};

use relive_core::{
    Timestamp,
    ports::{BeatError, Claimed, ClusterStore, ClusterView, HostBeat, HostRow, ShardRow, StoreError},
    shard::{SHARDS, Shard, ShardSet},
};
use serde_json::Value;
use sqlx::{Row, postgres::PgRow};

use super::{
    PostgresStore,
    error::{Result as Sql, store_error, unreadable},
    read::shards_of,
    rows::{self, Args},
};

const BEAT: &str = "SELECT taken_by, view FROM relive_beat($1, $2, $3, $4, $5, $6)";
const VIEW: &str = "SELECT relive_cluster()";
const CLAIM: &str = "SELECT claimed, under, unclean FROM relive_claim($1, $2, $3) ORDER BY claimed";
const RELEASE: &str = "SELECT FROM relive_release($1, $2, $3)";
const LEAVE: &str = "SELECT FROM relive_leave($1, $2)";

/// Reads the view's JSON.
fn view(text: &str) -> Sql<ClusterView> {
    let bad = || unreadable("the cluster's view");
    let value: Value = serde_json::from_str(text).map_err(|_| bad())?;
    let hosts = value["hosts"].as_array().ok_or_else(bad)?;
    let shards = value["shards"].as_array().filter(|s| s.len() == SHARDS).ok_or_else(bad)?;
    Ok(ClusterView {
        hosts: hosts.iter().map(|h| host(h).ok_or_else(bad)).collect::<Sql<_>>()?,
        shards: Shard::all().zip(shards).map(|(shard, s)| owner(shard, s).ok_or_else(bad)).collect::<Sql<_>>()?,
        catalog_revision: value["revision"].as_u64().ok_or_else(bad)?,
        now: Timestamp(value["now"].as_u64().ok_or_else(bad)?),
    })
}

fn host(value: &Value) -> Option<HostRow> {
    let text = |n: usize| value[n].as_str().map(Arc::from);
    Some(HostRow {
        id: text(0)?,
        incarnation: value[1].as_i64()?.cast_unsigned(),
        address: text(2)?,
        version: text(3)?,
        draining: value[4].as_bool()?,
        alive: value[5].as_bool()?,
        silent_for: Duration::from_nanos(value[6].as_u64()?),
    })
}

fn owner(shard: Shard, value: &Value) -> Option<ShardRow> {
    let owner = match (value[0].as_str(), value[1].as_i64()) {
        (Some(host), Some(incarnation)) => Some((Arc::from(host), incarnation.cast_unsigned())),
        _ => None,
    };
    Some(ShardRow { shard, owner, epoch: value[2].as_u64()? })
}

impl PostgresStore {
    fn cluster_call(&self, sql: &'static str, args: Args) -> Result<Vec<PgRow>, StoreError> {
        self.count_round_trip();
        let call = || self.beats.write(sql, args.done()?);
        let rows: Sql<Vec<PgRow>> = call();
        rows.map_err(|e| store_error(&e))
    }
}

fn who(host: &str, incarnation: u64) -> Args {
    Args::default().add(host.to_owned()).add(incarnation.cast_signed())
}

impl ClusterStore for PostgresStore {
    fn beat(&self, host: &HostBeat) -> Result<ClusterView, BeatError> {
        let lease = i64::try_from(host.lease.as_nanos()).unwrap_or(i64::MAX >> 1);
        let args = who(&host.id, host.incarnation).add(&*host.address).add(&*host.version);
        let rows = self.cluster_call(BEAT, args.add(host.draining).add(lease))?;
        let read = |row: &PgRow| Ok((row.try_get::<Option<String>, _>(0)?, row.try_get::<Option<String>, _>(1)?));
        let answer: Sql<Option<(Option<String>, Option<String>)>> = rows.first().map(read).transpose();
        match answer.map_err(|e| store_error(&e))? {
            Some((_, Some(text))) => Ok(view(&text).map_err(|e| store_error(&e))?),
            Some((taken_by, None)) => {
                Err(BeatError::Taken { id: host.id.clone(), address: taken_by.unwrap_or_default().into() })
            }
            // The other process left in the same moment: the next beat gets the name.
            None => Err(BeatError::Taken { id: host.id.clone(), address: "".into() }),
        }
    }

    fn cluster(&self) -> Result<ClusterView, StoreError> {
        let rows = self.cluster_call(VIEW, Args::default())?;
        let text = rows.first().map(|row| rows::text(row, 0)).transpose().map_err(|e| store_error(&e))?;
        view(text.unwrap_or_default()).map_err(|e| store_error(&e))
    }

    fn claim_shards(&self, host: &str, incarnation: u64, shards: &ShardSet) -> Result<Vec<Claimed>, StoreError> {
        let rows = self.cluster_call(CLAIM, who(host, incarnation).add(shards_of(shards)))?;
        let read = |row: &PgRow| {
            let shard = Shard(rows::tiny(row, 0)?);
            Ok(Claimed { shard, epoch: rows::number(row, 1)?, unclean: row.try_get(2)? })
        };
        let claimed: Sql<Vec<Claimed>> = rows.iter().map(read).collect();
        claimed.map_err(|e| store_error(&e))
    }

    fn release_shards(&self, host: &str, incarnation: u64, shards: &ShardSet) -> Result<(), StoreError> {
        self.cluster_call(RELEASE, who(host, incarnation).add(shards_of(shards))).map(|_| ())
    }

    fn leave(&self, host: &str, incarnation: u64) -> Result<(), StoreError> {
        self.cluster_call(LEAVE, who(host, incarnation)).map(|_| ())
    }
}
