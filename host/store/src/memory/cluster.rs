//! Hosts and leases in memory: the meaning of the cluster's port in its plainest form.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use relive_core::{
    SHARDS, Shard, ShardSet, Timestamp,
    ports::{BeatError, Claimed, ClusterStore, ClusterView, HostBeat, HostRow, ShardRow, StoreError},
};

use super::MemoryStore;

struct Host {
    beat: HostBeat,
    heard: Instant,
}

impl Host {
    fn alive(&self, now: Instant) -> bool {
        now < self.heard + self.beat.lease
    }
}

#[derive(Clone, Default)]
struct Owned {
    owner: Option<(Arc<str>, u64)>,
    epoch: u64,
}

/// The hosts, and who owns what.
pub(super) struct Hosts {
    hosts: BTreeMap<Arc<str>, Host>,
    shards: Vec<Owned>,
    /// How far the clock was moved.
    ahead: Duration,
}

impl Default for Hosts {
    fn default() -> Self {
        Self { hosts: BTreeMap::new(), shards: vec![Owned::default(); SHARDS], ahead: Duration::ZERO }
    }
}

impl Hosts {
    pub(super) fn epoch(&self, shard: Shard) -> u64 {
        self.shards[shard.index()].epoch
    }

    fn now(&self) -> Instant {
        Instant::now() + self.ahead
    }

    fn view(&self, catalog_revision: u64) -> ClusterView {
        let now = self.now();
        let host = |host: &Host| HostRow {
            id: host.beat.id.clone(),
            incarnation: host.beat.incarnation,
            address: host.beat.address.clone(),
            version: host.beat.version.clone(),
            draining: host.beat.draining,
            alive: host.alive(now),
            silent_for: now.saturating_duration_since(host.heard),
        };
        let shard =
            |(shard, owned): (Shard, &Owned)| ShardRow { shard, owner: owned.owner.clone(), epoch: owned.epoch };
        ClusterView {
            hosts: self.hosts.values().map(host).collect(),
            shards: Shard::all().zip(&self.shards).map(shard).collect(),
            catalog_revision,
            now: wall_clock(),
        }
    }

    /// Whether the process lives and has the name.
    fn lives(&self, id: &str, incarnation: u64) -> bool {
        let now = self.now();
        self.hosts.get(id).is_some_and(|host| host.beat.incarnation == incarnation && host.alive(now))
    }
}

pub(super) fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

impl MemoryStore {
    /// Moves the clock by which leases are measured.
    pub fn advance_leases(&self, by: Duration) {
        self.hosts.lock().ahead += by;
    }
}

impl ClusterStore for MemoryStore {
    fn beat(&self, beat: &HostBeat) -> Result<ClusterView, BeatError> {
        let revision = self.catalog.revision();
        let mut hosts = self.hosts.lock();
        let now = hosts.now();
        if let Some(other) = hosts.hosts.get(&beat.id)
            && other.beat.incarnation != beat.incarnation
            && other.alive(now)
        {
            return Err(BeatError::Taken { id: beat.id.clone(), address: other.beat.address.clone() });
        }
        hosts.hosts.insert(beat.id.clone(), Host { beat: beat.clone(), heard: now });
        Ok(hosts.view(revision))
    }

    fn cluster(&self) -> Result<ClusterView, StoreError> {
        Ok(self.hosts.lock().view(self.catalog.revision()))
    }

    fn claim_shards(&self, host: &str, incarnation: u64, shards: &ShardSet) -> Result<Vec<Claimed>, StoreError> {
        let mut hosts = self.hosts.lock();
        if !hosts.lives(host, incarnation) || hosts.hosts.get(host).is_none_or(|h| h.beat.draining) {
            return Ok(Vec::new());
        }
        let mut claimed = Vec::new();
        for shard in shards.iter() {
            let owner = hosts.shards[shard.index()].owner.clone();
            if owner.as_ref().is_some_and(|(id, incarnation)| hosts.lives(id, *incarnation)) {
                continue;
            }
            let owned = &mut hosts.shards[shard.index()];
            owned.epoch += 1;
            owned.owner = Some((host.into(), incarnation));
            claimed.push(Claimed { shard, epoch: owned.epoch, unclean: owner.is_some() });
        }
        Ok(claimed)
    }

    fn release_shards(&self, host: &str, incarnation: u64, shards: &ShardSet) -> Result<(), StoreError> {
        let mut hosts = self.hosts.lock();
        for shard in shards.iter() {
            let owned = &mut hosts.shards[shard.index()];
            owned.owner.take_if(|(id, of)| **id == *host && *of == incarnation);
        }
        Ok(())
    }

    fn leave(&self, host: &str, incarnation: u64) -> Result<(), StoreError> {
        self.release_shards(host, incarnation, &ShardSet::ALL)?;
        let mut hosts = self.hosts.lock();
        if hosts.hosts.get(host).is_some_and(|h| h.beat.incarnation == incarnation) {
            hosts.hosts.remove(host);
        }
        Ok(())
    }
}
