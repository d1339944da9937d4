//! The cluster port: which hosts live, and which of them owns which shard. Only stores that hosts share have it.

use std::{sync::Arc, time::Duration};

use super::StoreError;
use crate::{
    shard::{Shard, ShardSet},
    time::Timestamp,
};

/// What a host says of itself with each beat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostBeat {
    /// The name that operators gave it; one process at a time has it.
    pub id: Arc<str>,
    /// Drawn anew by each process.
    pub incarnation: u64,
    /// Where other hosts reach its API: `http://host:port`.
    pub address: Arc<str>,
    /// The program's version, for people.
    pub version: Arc<str>,
    /// It is on its way out: it keeps what it has for now, and gets nothing more.
    pub draining: bool,
    /// How long the lease holds from this beat on.
    pub lease: Duration,
}

/// A host as the others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRow {
    pub id: Arc<str>,
    pub incarnation: u64,
    pub address: Arc<str>,
    pub version: Arc<str>,
    pub draining: bool,
    /// Whether its lease holds, by the store's clock.
    pub alive: bool,
    /// Since it was last heard of, by the store's clock.
    pub silent_for: Duration,
}

/// A shard with its owner, whose lease is its host's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardRow {
    pub shard: Shard,
    /// Host and incarnation; none: free.
    pub owner: Option<(Arc<str>, u64)>,
    /// Grows by one with each new owner; never decreases.
    pub epoch: u64,
}

/// What a beat is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterView {
    pub hosts: Vec<HostRow>,
    /// All 256, by number.
    pub shards: Vec<ShardRow>,
    /// Grows with each change of the catalog.
    pub catalog_revision: u64,
    /// The store's clock when it answered.
    pub now: Timestamp,
}

/// Shards that a host was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claimed {
    pub shard: Shard,
    /// The epoch under which the host owns it.
    pub epoch: u64,
    /// The owner before did not let go of it: what it ran may have been cut off.
    pub unclean: bool,
}

/// Why a beat was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BeatError {
    /// Another process has the name, and its lease holds: a mistake in the configuration, or the host before of the same
    /// name, which has died within the lease's time.
    #[error("host id {id:?} is taken by a live host at {address}; give each host an id of its own (--host-id)")]
    Taken { id: Arc<str>, address: Arc<str> },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Hosts and shards. Each write is durable when it returns; leases are measured by the store's clock alone, so that
/// hosts' clocks do not matter. Callers repeat what failed with their next beat.
pub trait ClusterStore: Send + Sync {
    /// Makes the host known or renews its lease, and tells how everybody stands: one round trip. A lease that has run
    /// out is renewed like any other, and what nobody took meanwhile is still the host's.
    fn beat(&self, host: &HostBeat) -> Result<ClusterView, BeatError>;

    /// How everybody stands, without a beat: for tools.
    fn cluster(&self) -> Result<ClusterView, StoreError>;

    /// Gives the host those of `shards` that are free or whose owner's lease has run out, each under its epoch + 1; what
    /// it owns already stays as it is and is not told. A host whose own lease has run out, or that is draining, gets
    /// nothing.
    fn claim_shards(&self, host: &str, incarnation: u64, shards: &ShardSet) -> Result<Vec<Claimed>, StoreError>;

    /// Lets go of shards in good order: they are free at once. Those that are not the host's any more are left alone.
    fn release_shards(&self, host: &str, incarnation: u64, shards: &ShardSet) -> Result<(), StoreError>;

    /// The host ends in good order: its shards are free, and it is not listed any more.
    fn leave(&self, host: &str, incarnation: u64) -> Result<(), StoreError>;
}
