//! Shards: what hosts of a cluster own. A workflow id belongs to one of 256 for ever, and so do all its runs.

use std::fmt;

use sha2::Digest as _;

use crate::ids::{Namespace, RunKey, WorkflowId};

/// How many there are; never changes, for a shard's number is part of a run's key.
pub const SHARDS: usize = 256;

/// The number of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard(pub u8);

impl Shard {
    /// The shard of a workflow id: the first byte of SHA-256 over `namespace NUL workflow-id`.
    #[must_use]
    pub fn of(namespace: &Namespace, id: &WorkflowId) -> Self {
        let mut hash = sha2::Sha256::new();
        hash.update(namespace.as_str());
        hash.update([0]);
        hash.update(id.as_str());
        Self(hash.finalize()[0])
    }

    pub fn all() -> impl Iterator<Item = Self> {
        (0..=u8::MAX).map(Self)
    }

    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl RunKey {
    /// The shard of a run in a store that hosts share: the key's lowest byte.
    #[must_use]
    pub fn shard(self) -> Shard {
        Shard(self.0.to_le_bytes()[0])
    }

    /// The `number`th key of a shard.
    #[must_use]
    pub fn in_shard(number: u64, shard: Shard) -> Self {
        Self((number << 8) | u64::from(shard.0))
    }
}

/// A set of shards.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ShardSet([u64; SHARDS / 64]);

impl ShardSet {
    pub const ALL: Self = Self([u64::MAX; SHARDS / 64]);
    pub const NONE: Self = Self([0; SHARDS / 64]);

    #[must_use]
    pub fn contains(&self, shard: Shard) -> bool {
        self.0[shard.index() / 64] & (1 << (shard.0 % 64)) != 0
    }

    pub fn insert(&mut self, shard: Shard) {
        self.0[shard.index() / 64] |= 1 << (shard.0 % 64);
    }

    pub fn remove(&mut self, shard: Shard) {
        self.0[shard.index() / 64] &= !(1 << (shard.0 % 64));
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(|w| w.count_ones() as usize).sum()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::NONE
    }

    #[must_use]
    pub fn is_all(&self) -> bool {
        *self == Self::ALL
    }

    /// The shards, in order.
    pub fn iter(&self) -> impl Iterator<Item = Shard> + '_ {
        Shard::all().filter(|shard| self.contains(*shard))
    }
}

impl FromIterator<Shard> for ShardSet {
    fn from_iter<T: IntoIterator<Item = Shard>>(shards: T) -> Self {
        let mut set = Self::NONE;
        shards.into_iter().for_each(|shard| set.insert(shard));
        set
    }
}

impl fmt::Debug for ShardSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_all() { f.write_str("all shards") } else { f.debug_set().entries(self.iter().map(|s| s.0)).finish() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workflow_ids_shard_never_changes() {
        let shard =
            |namespace: &str, id: &str| Shard::of(&Namespace::new(namespace).unwrap(), &WorkflowId::new(id).unwrap()).0;
        // Computed with sha256sum; stores hold runs under these numbers.
        assert_eq!((shard("default", "order-1"), shard("default", "order-2")), (42, 96));
        assert_ne!(shard("a", "bc"), shard("ab", "c"));
    }

    #[test]
    fn sets_hold_what_was_put_in() {
        let mut set: ShardSet = [Shard(0), Shard(63), Shard(64), Shard(255)].into_iter().collect();
        assert_eq!((set.len(), set.contains(Shard(64)), set.contains(Shard(65))), (4, true, false));
        set.remove(Shard(64));
        assert_eq!(set.iter().map(|s| s.0).collect::<Vec<_>>(), [0, 63, 255]);
        assert!(Shard::all().collect::<ShardSet>().is_all());
        assert_eq!(RunKey::in_shard(7, Shard(9)), RunKey(7 * 256 + 9));
        assert_eq!(RunKey::in_shard(7, Shard(9)).shard(), Shard(9));
    }
}
