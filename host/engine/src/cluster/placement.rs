//! Who should own what: rendezvous hashing over the hosts that live. Each host computes it for itself, from the same
//! view, so nobody has to be asked; a host that comes or goes moves only the shards that it wins or held.

use relive_core::{
    Shard, ShardSet,
    ports::{ClusterView, HostRow},
};

/// How much the host is worth for the shard: FNV-1a over both, mixed so that all bits count.
fn weight(host: &str, shard: Shard) -> u64 {
    let bytes = host.bytes().chain([0, shard.0]);
    let mut hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

fn candidates(view: &ClusterView) -> impl Iterator<Item = &HostRow> {
    view.hosts.iter().filter(|host| host.alive && !host.draining)
}

/// The host that should own the shard; none if nobody may.
pub(super) fn winner(view: &ClusterView, shard: Shard) -> Option<&HostRow> {
    candidates(view).max_by_key(|host| (weight(&host.id, shard), host.id.clone()))
}

/// The shards that `host` should own.
pub(super) fn wanted(view: &ClusterView, host: &str) -> ShardSet {
    Shard::all().filter(|shard| winner(view, *shard).is_some_and(|w| *w.id == *host)).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn view(hosts: &[(&str, bool, bool)]) -> ClusterView {
        let host = |(id, alive, draining): &(&str, bool, bool)| HostRow {
            id: (*id).into(),
            incarnation: 1,
            address: "".into(),
            version: "".into(),
            draining: *draining,
            alive: *alive,
            silent_for: Duration::ZERO,
        };
        ClusterView {
            hosts: hosts.iter().map(host).collect(),
            shards: Vec::new(),
            catalog_revision: 0,
            now: relive_core::Timestamp(0),
        }
    }

    #[test]
    fn every_shard_has_one_winner_and_shares_are_fair() {
        let three =
            view(&[("a", true, false), ("b", true, false), ("c", true, false), ("d", false, false), ("e", true, true)]);
        let shares: Vec<ShardSet> = ["a", "b", "c"].iter().map(|h| wanted(&three, h)).collect();
        assert_eq!(shares.iter().map(ShardSet::len).sum::<usize>(), 256);
        assert!(shares.iter().all(|s| s.len() > 50), "{shares:?}");
        assert!(wanted(&three, "d").is_empty() && wanted(&three, "e").is_empty());
    }

    #[test]
    fn a_host_that_goes_moves_only_what_it_had() {
        let three = view(&[("a", true, false), ("b", true, false), ("c", true, false)]);
        let two = view(&[("a", true, false), ("b", false, false), ("c", true, false)]);
        let (before, after) = (wanted(&three, "a"), wanted(&two, "a"));
        assert!(before.iter().all(|s| after.contains(s)) && after.len() > before.len());
        assert!(wanted(&view(&[]), "a").is_empty());
    }
}
