//! Which shards this host owns right now, and under which epoch. A host that has its store to itself owns all of them
//! for ever; in a cluster they come and go with leases, and the keeper (`cluster/`) writes here what it holds.
//!
//! Asked before every turn and every request: no lock, no allocation.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use relive_core::{RunKey, SHARDS, Shard, ShardSet};

pub(crate) struct Ownership {
    /// Of a host that owns everything; 0 in a cluster.
    alone: u64,
    /// By shard; 0: another's.
    epochs: [AtomicU64; SHARDS],
    began: Instant,
    /// ns since `began` until which the lease holds.
    until: AtomicU64,
}

impl Ownership {
    /// All shards are this host's, under one epoch.
    pub fn alone(epoch: u64) -> Self {
        Self { alone: epoch.max(1), ..Self::shared() }
    }

    /// None yet.
    pub fn shared() -> Self {
        let epochs = [const { AtomicU64::new(0) }; SHARDS];
        Self { alone: 0, epochs, began: Instant::now(), until: AtomicU64::new(0) }
    }

    pub fn is_alone(&self) -> bool {
        self.alone != 0
    }

    /// The epoch under which this host owns the shard; none: it does not, or its lease has run out.
    pub fn epoch(&self, shard: Shard) -> Option<u64> {
        if self.is_alone() {
            return Some(self.alone);
        }
        let epoch = self.epochs[shard.index()].load(Ordering::Acquire);
        (epoch != 0 && self.holds()).then_some(epoch)
    }

    pub fn epoch_of(&self, run: RunKey) -> Option<u64> {
        self.epoch(run.shard())
    }

    /// What this host owns.
    pub fn owned(&self) -> ShardSet {
        if self.is_alone() {
            return ShardSet::ALL;
        }
        if self.holds() { self.noted() } else { ShardSet::NONE }
    }

    /// What it owned when it last knew, whether the lease holds or not.
    pub fn noted(&self) -> ShardSet {
        Shard::all().filter(|s| self.epochs[s.index()].load(Ordering::Acquire) != 0).collect()
    }

    pub fn noted_epoch(&self, shard: Shard) -> u64 {
        self.epochs[shard.index()].load(Ordering::Acquire)
    }

    /// Whether the lease holds, by this host's own clock.
    pub fn holds(&self) -> bool {
        self.is_alone() || self.elapsed() < self.until.load(Ordering::Acquire)
    }

    /// The lease holds for `lease` from `since` on, when the beat that renewed it was sent.
    pub fn hold(&self, since: Instant, lease: Duration) {
        let until = (since + lease).saturating_duration_since(self.began);
        self.until.store(u64::try_from(until.as_nanos()).unwrap_or(u64::MAX), Ordering::Release);
    }

    pub fn take(&self, shard: Shard, epoch: u64) {
        self.epochs[shard.index()].store(epoch, Ordering::Release);
    }

    pub fn lose(&self, shard: Shard) {
        self.take(shard, 0);
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_that_ran_out_owns_nothing_and_renewed_owns_what_it_had() {
        let own = Ownership::shared();
        own.take(Shard(7), 3);
        assert_eq!((own.epoch(Shard(7)), own.owned()), (None, ShardSet::NONE));
        own.hold(Instant::now(), Duration::from_secs(600));
        assert_eq!((own.epoch(Shard(7)), own.epoch(Shard(8)), own.owned().len()), (Some(3), None, 1));
        own.hold(Instant::now(), Duration::ZERO);
        assert_eq!((own.epoch(Shard(7)), own.noted().len()), (None, 1));
        own.hold(Instant::now(), Duration::from_secs(600));
        own.lose(Shard(7));
        assert_eq!(own.epoch(Shard(7)), None);
    }

    #[test]
    fn alone_it_owns_everything() {
        let own = Ownership::alone(9);
        assert_eq!(
            (own.epoch(Shard(0)), own.epoch_of(RunKey(1_000_001)), own.owned()),
            (Some(9), Some(9), ShardSet::ALL)
        );
    }
}
