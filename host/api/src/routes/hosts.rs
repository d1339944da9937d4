//! `GET /v1/hosts` and `GET /v1/shards`: the hosts of the cluster, and who owns what.

use std::collections::HashMap;

use axum::{Json, extract::State};
use relive_engine::Engine;
use serde::Serialize;
use utoipa::ToSchema;

#[derive(Serialize, ToSchema)]
pub struct Hosts {
    /// Whether hosts share the store; else this one has it to itself, and there is nothing to list.
    clustered: bool,
    /// The host that answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    answered_by: Option<String>,
    hosts: Vec<Host>,
}

#[derive(Serialize, ToSchema)]
struct Host {
    id: String,
    /// Where the others reach it.
    address: String,
    version: String,
    /// `alive`, `draining` (it ends, and gives its shards away), or `silent` (its lease has run out).
    state: &'static str,
    /// Since it was last heard of, by the store's clock.
    silent_ms: u64,
    shards: usize,
}

/// The hosts of the cluster
#[utoipa::path(
    get,
    path = "/v1/hosts",
    tag = "host",
    operation_id = "hosts",
    responses((status = 200, description = "As of the newest beat of the host that answers", body = Hosts)),
)]
pub async fn hosts(State(engine): State<Engine>) -> Json<Hosts> {
    let Some(view) = engine.cluster() else {
        return Json(Hosts { clustered: false, answered_by: None, hosts: Vec::new() });
    };
    let mut shards: HashMap<(&str, u64), usize> = HashMap::new();
    for (id, incarnation) in view.shards.iter().filter_map(|row| row.owner.as_ref()) {
        *shards.entry((id, *incarnation)).or_default() += 1;
    }
    let host = |row: &relive_core::ports::HostRow| Host {
        id: row.id.to_string(),
        address: row.address.to_string(),
        version: row.version.to_string(),
        state: match (row.alive, row.draining) {
            (false, _) => "silent",
            (true, true) => "draining",
            (true, false) => "alive",
        },
        silent_ms: u64::try_from(row.silent_for.as_millis()).unwrap_or(u64::MAX),
        shards: shards.get(&(&*row.id, row.incarnation)).copied().unwrap_or(0),
    };
    let hosts = view.hosts.iter().map(host).collect();
    Json(Hosts { clustered: true, answered_by: engine.host_id().map(|id| id.to_string()), hosts })
}

#[derive(Serialize, ToSchema)]
pub struct Shards {
    /// All 256, by number; none where a host has its store to itself.
    shards: Vec<Owned>,
}

#[derive(Serialize, ToSchema)]
struct Owned {
    shard: u8,
    /// The host that owns it; absent while it is free.
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    /// Grows with each new owner: what an older one writes is refused.
    epoch: u64,
}

/// Who owns which shard
#[utoipa::path(
    get,
    path = "/v1/shards",
    tag = "host",
    operation_id = "shards",
    responses((status = 200, description = "As of the newest beat of the host that answers", body = Shards)),
)]
pub async fn shards(State(engine): State<Engine>) -> Json<Shards> {
    let row = |row: &relive_core::ports::ShardRow| Owned {
        shard: row.shard.0,
        owner: row.owner.as_ref().map(|(id, _)| id.to_string()),
        epoch: row.epoch,
    };
    let shards = engine.cluster().map(|view| view.shards.iter().map(row).collect()).unwrap_or_default();
    Json(Shards { shards })
}
