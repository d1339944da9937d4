//! Hosts and shards. Time is not waited for: a lease of no length has run out at once.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use relive_core::{
    Digest, Json, Namespace, Timestamp,
    ports::{
        ActivityRow, AppendError, AppendItem, Appended, BeatError, Claimed, ClusterView, HostBeat, Implementation,
    },
    shard::{SHARDS, Shard, ShardSet},
};

use super::{
    SharedStore,
    support::{Script, signal},
};

const LONG: Duration = Duration::from_secs(600);

fn host(id: &str, incarnation: u64) -> HostBeat {
    HostBeat {
        id: id.into(),
        incarnation,
        address: format!("http://{id}:8080").into(),
        version: "0.1.0".into(),
        draining: false,
        lease: LONG,
    }
}

/// A beat whose lease has run out when it returns.
fn expired(beat: &HostBeat) -> HostBeat {
    HostBeat { lease: Duration::ZERO, ..beat.clone() }
}

fn set(shards: impl IntoIterator<Item = u8>) -> ShardSet {
    shards.into_iter().map(Shard).collect()
}

fn claim(store: &dyn SharedStore, host: &HostBeat, shards: &ShardSet) -> Vec<Claimed> {
    store.claim_shards(&host.id, host.incarnation, shards).unwrap()
}

fn owned(view: &ClusterView, host: &HostBeat) -> ShardSet {
    let mine = |owner: &(Arc<str>, u64)| owner.0 == host.id && owner.1 == host.incarnation;
    view.shards.iter().filter(|s| s.owner.as_ref().is_some_and(mine)).map(|s| s.shard).collect()
}

pub fn two_hosts_see_each_other(store: &dyn SharedStore) {
    let empty = store.cluster().unwrap();
    assert_eq!((empty.hosts.len(), empty.shards.len()), (0, SHARDS));
    assert!(empty.shards.iter().all(|s| s.owner.is_none() && s.epoch == 0));
    let (a, b) = (host("a", u64::MAX), host("b", 2));
    store.beat(&a).unwrap();
    let view = store.beat(&b).unwrap();
    let seen: Vec<_> = view.hosts.iter().map(|h| (&*h.id, h.incarnation, &*h.address, h.alive, h.draining)).collect();
    assert_eq!(seen, [("a", u64::MAX, "http://a:8080", true, false), ("b", 2, "http://b:8080", true, false)]);
    assert_eq!(&*view.hosts[0].version, "0.1.0");
    assert!(view.hosts.iter().all(|h| h.silent_for < LONG));
    let view = store.beat(&HostBeat { draining: true, ..a.clone() }).unwrap();
    assert!(view.hosts[0].draining && !view.hosts[1].draining);
    let view = store.beat(&expired(&a)).unwrap();
    assert_eq!(view.hosts.iter().map(|h| h.alive).collect::<Vec<_>>(), [false, true]);
    assert_eq!(store.cluster().unwrap().hosts.len(), 2, "the dead are listed");
}

pub fn one_id_belongs_to_one_process(store: &dyn SharedStore) {
    let (first, second) = (host("a", 1), HostBeat { address: "http://elsewhere".into(), ..host("a", 2) });
    store.beat(&first).unwrap();
    claim(store, &first, &set([7]));
    assert_eq!(store.beat(&second), Err(BeatError::Taken { id: "a".into(), address: "http://a:8080".into() }));
    assert_eq!(claim(store, &second, &set([8])), [], "who is not known gets nothing");
    // The first one dies: its name is free, its shards are not the second's.
    store.beat(&expired(&first)).unwrap();
    let view = store.beat(&second).unwrap();
    assert_eq!((owned(&view, &first).len(), owned(&view, &second).len()), (1, 0));
    assert_eq!(claim(store, &second, &set([7])), [Claimed { shard: Shard(7), epoch: 2, unclean: true }]);
    assert_eq!(store.beat(&first), Err(BeatError::Taken { id: "a".into(), address: "http://elsewhere".into() }));
    // Neither letting go nor leaving of the first one concerns the second.
    store.release_shards("a", 1, &ShardSet::ALL).unwrap();
    store.leave("a", 1).unwrap();
    assert_eq!(owned(&store.cluster().unwrap(), &second), set([7]));
}

pub fn free_shards_are_claimed_once(store: &dyn SharedStore) {
    let (a, b) = (host("a", 1), host("b", 1));
    store.beat(&a).unwrap();
    store.beat(&b).unwrap();
    let claimed = claim(store, &a, &set([1, 2, 3]));
    assert_eq!(claimed, [1, 2, 3].map(|n| Claimed { shard: Shard(n), epoch: 1, unclean: false }));
    assert_eq!(claim(store, &a, &set([1, 2, 3])), [], "what it has is not told again");
    let claimed = claim(store, &b, &set([3, 4]));
    assert_eq!(claimed, [Claimed { shard: Shard(4), epoch: 1, unclean: false }]);
    let view = store.cluster().unwrap();
    assert_eq!((owned(&view, &a), owned(&view, &b)), (set([1, 2, 3]), set([4])));
    assert_eq!(claim(store, &host("nobody", 1), &ShardSet::ALL), []);
    assert_eq!(claim(store, &a, &ShardSet::NONE), []);
    assert_eq!(claim(store, &a, &ShardSet::ALL).len(), SHARDS - 4);
}

pub fn a_dead_hosts_shards_are_taken(store: &dyn SharedStore) {
    let (a, b) = (host("a", 1), host("b", 1));
    store.beat(&a).unwrap();
    store.beat(&b).unwrap();
    claim(store, &a, &set([1, 2]));
    assert_eq!(claim(store, &b, &set([1, 2])), []);
    store.beat(&expired(&a)).unwrap();
    assert_eq!(claim(store, &a, &set([3])), [], "a lease that has run out gets nothing");
    assert_eq!(claim(store, &b, &set([1])), [Claimed { shard: Shard(1), epoch: 2, unclean: true }]);
    // What nobody took is still the first one's when it comes back, under the same epoch.
    let view = store.beat(&a).unwrap();
    assert_eq!((owned(&view, &a), owned(&view, &b)), (set([2]), set([1])));
    assert_eq!(view.shards[2].epoch, 1);
    assert_eq!(claim(store, &b, &set([2])), []);
    assert_eq!(claim(store, &a, &set([1, 2])), []);
}

pub fn shards_are_let_go_in_good_order(store: &dyn SharedStore) {
    let (a, b) = (host("a", 1), host("b", 1));
    store.beat(&a).unwrap();
    store.beat(&b).unwrap();
    claim(store, &a, &set([1, 2, 3]));
    store.release_shards("b", 1, &set([1])).unwrap();
    assert_eq!(owned(&store.cluster().unwrap(), &a), set([1, 2, 3]), "nobody lets go of another's");
    store.release_shards("a", 1, &set([1, 2, 9])).unwrap();
    assert_eq!(claim(store, &b, &set([1])), [Claimed { shard: Shard(1), epoch: 2, unclean: false }]);
    store.leave("a", 1).unwrap();
    let view = store.cluster().unwrap();
    assert_eq!(view.hosts.iter().map(|h| &*h.id).collect::<Vec<_>>(), ["b"]);
    assert_eq!(view.shards.iter().filter(|s| s.owner.is_some()).count(), 1);
    assert_eq!(claim(store, &b, &set([3])), [Claimed { shard: Shard(3), epoch: 2, unclean: false }]);
}

pub fn a_draining_host_gets_no_more(store: &dyn SharedStore) {
    let a = host("a", 1);
    store.beat(&a).unwrap();
    claim(store, &a, &set([1]));
    let view = store.beat(&HostBeat { draining: true, ..a.clone() }).unwrap();
    assert_eq!(owned(&view, &a), set([1]), "it keeps what it has");
    assert_eq!(claim(store, &a, &set([2])), []);
}

pub fn claims_at_once_give_a_shard_to_one(store: &dyn SharedStore) {
    const HOSTS: usize = 4;
    let dead = host("dead", 1);
    store.beat(&dead).unwrap();
    claim(store, &dead, &set(0..128));
    store.beat(&expired(&dead)).unwrap();
    let claimed: Mutex<BTreeMap<Shard, Vec<(usize, Claimed)>>> = Mutex::default();
    std::thread::scope(|scope| {
        for n in 0..HOSTS {
            let claimed = &claimed;
            scope.spawn(move || {
                let me = host(&format!("h{n}"), 1);
                store.beat(&me).unwrap();
                // Each wants everything, in pieces that meet the others' in another order.
                for piece in 0..8_u8 {
                    let first = (piece.wrapping_add(n as u8 * 2) % 8) * 32;
                    for one in claim(store, &me, &set(first..=first + 31)) {
                        claimed.lock().unwrap().entry(one.shard).or_default().push((n, one));
                    }
                    store.beat(&me).unwrap();
                }
            });
        }
    });
    let claimed = claimed.into_inner().unwrap();
    assert_eq!(claimed.len(), SHARDS);
    let view = store.cluster().unwrap();
    for (shard, by) in claimed {
        let [(n, one)] = by.as_slice() else { panic!("shard {shard} was given to {by:?}") };
        let was_dead = shard.0 < 128;
        assert_eq!((one.epoch, one.unclean), (if was_dead { 2 } else { 1 }, was_dead));
        let row = &view.shards[shard.index()];
        assert_eq!((row.owner.as_ref().map(|o| &*o.0), row.epoch), (Some(&*format!("h{n}")), one.epoch));
    }
}

pub fn who_takes_a_run_fences_the_owner_before(store: &dyn SharedStore) {
    let mut script = Script::new(store, "a");
    let start = script.start(Some(1));
    append(store, &start).unwrap();
    script.took(&start);
    assert_eq!(store.take(script.run, 3).unwrap().unwrap().row.epoch, 3);
    assert_eq!(store.take(script.run, 2), Err(AppendError::Fenced { epoch: 2, owner: 3 }));
    let stale = script.item(Some(1), [signal("x")]);
    assert_eq!(append(store, &stale), Err(AppendError::Fenced { epoch: 1, owner: 3 }));
    append(store, &script.item(Some(3), [signal("x")])).unwrap();
}

pub fn an_owner_of_before_begins_no_run(store: &dyn SharedStore) {
    let (a, b) = (host("a", 1), host("b", 2));
    let shard = Script::new(store, "x").run.shard();
    let claimed = |host: &HostBeat| {
        store.beat(host).unwrap();
        claim(store, host, &set([shard.0])).remove(0).epoch
    };
    let first = claimed(&a);
    append(store, &Script::new(store, "of-a").start(Some(first))).unwrap();
    let late = Script::new(store, "late").start(Some(first));
    store.beat(&expired(&a)).unwrap();
    let second = claimed(&b);
    let fenced = AppendError::Fenced { epoch: first, owner: second };
    assert_eq!(append(store, &late), Err(fenced.clone()));
    // In one batch with what is good.
    let good = Script::new(store, "of-b").start(Some(second));
    let outcomes = store.append(&[late.clone(), good.clone()]);
    assert_eq!((&outcomes[0], outcomes[1].is_ok()), (&Err(fenced), true));
    let again = AppendError::Conflict { expected: 0, actual: 1, tail: good.events.clone() };
    assert_eq!(append(store, &good), Err(again), "what was taken is found again");
    assert!(store.find(&Namespace::default(), &super::support::workflow_id("late"), None).unwrap().is_none());
}

fn append(store: &dyn SharedStore, item: &AppendItem) -> Result<Appended, AppendError> {
    store.append(std::slice::from_ref(item)).remove(0)
}

pub fn the_catalogs_revision_grows(store: &dyn SharedStore) {
    let ns = Namespace::default();
    let revision = || store.cluster().unwrap().catalog_revision;
    let row = ActivityRow {
        name: "pay".into(),
        implementation: Implementation::Wasm { digest: Digest::of(b"1"), grants: Json::null() },
        deployed_at: Timestamp(1),
    };
    let before = revision();
    store.put_activity(&ns, &row).unwrap();
    let between = revision();
    assert!(between > before);
    store.add_version(&ns, &super::catalog::version("order", "1")).unwrap();
    let after = store.beat(&host("a", 1)).unwrap().catalog_revision;
    assert!(after > between);
    assert_eq!(revision(), after, "reading changes nothing");
}
