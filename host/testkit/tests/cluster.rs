//! Several hosts on one store, in one process: shards are shared, taken over, handed over, and a host that lost them
//! cannot append any more (I8).

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use relive_core::{
    Namespace, Shard, ShardSet, WorkflowId,
    ports::{
        BeatError, Claimed, ClusterStore, ClusterView, HistoryStore, HostBeat, ListFilter, Status, StoreError,
        StoreErrorKind,
    },
};
use relive_engine::{LEASE, Place};
use relive_store::MemoryStore;
use relive_testkit::{embedded::Embedded, model::Op};

/// A host's way to the others, which can be cut.
struct Wire {
    store: Arc<MemoryStore>,
    cut: AtomicBool,
    /// The next release gets no answer.
    keeps: AtomicBool,
}

impl Wire {
    fn new(store: &Arc<MemoryStore>) -> Arc<Self> {
        Arc::new(Self { store: store.clone(), cut: AtomicBool::new(false), keeps: AtomicBool::new(false) })
    }

    fn ask<T>(&self, answer: impl FnOnce(&MemoryStore) -> T) -> Result<T, StoreError> {
        if self.cut.load(Ordering::Acquire) {
            return Err(StoreError::new(StoreErrorKind::Transient, "the wire is cut"));
        }
        Ok(answer(&self.store))
    }
}

impl ClusterStore for Wire {
    fn beat(&self, host: &HostBeat) -> Result<ClusterView, BeatError> {
        self.ask(|store| store.beat(host))?
    }
    fn cluster(&self) -> Result<ClusterView, StoreError> {
        self.ask(ClusterStore::cluster)?
    }
    fn claim_shards(&self, host: &str, incarnation: u64, shards: &ShardSet) -> Result<Vec<Claimed>, StoreError> {
        self.ask(|store| store.claim_shards(host, incarnation, shards))?
    }
    fn release_shards(&self, host: &str, incarnation: u64, shards: &ShardSet) -> Result<(), StoreError> {
        if self.keeps.swap(false, Ordering::AcqRel) {
            return Err(StoreError::new(StoreErrorKind::Transient, "not now"));
        }
        self.ask(|store| store.release_shards(host, incarnation, shards))?
    }
    fn leave(&self, host: &str, incarnation: u64) -> Result<(), StoreError> {
        self.ask(|store| store.leave(host, incarnation))?
    }
}

fn owned(host: &Embedded) -> usize {
    Shard::all().filter(|s| host.engine.place_run(relive_core::RunKey::in_shard(1, *s)) == Place::Here).count()
}

async fn owns(host: &Embedded, what: &str, enough: impl Fn(usize) -> bool) {
    host.until(what, || async { enough(owned(host)) }).await;
}

/// The one of the hosts that owns the execution.
async fn owner<'a>(hosts: &[&'a Embedded], id: &str) -> &'a Embedded {
    let id = WorkflowId::new(id).expect("an id");
    let mut found = None;
    hosts[0]
        .until("an owner", || async {
            hosts.iter().any(|host| host.engine.place(&Namespace::default(), &id) == Place::Here)
        })
        .await;
    for host in hosts {
        if host.engine.place(&Namespace::default(), &id) == Place::Here {
            found = Some(*host);
        }
    }
    found.expect("it is owned")
}

fn program() -> Vec<Op> {
    vec![Op::Publish("begun".into()), Op::Timer(1), Op::Await(0), Op::Message("a".into()), Op::Await(1)]
}

fn ids(prefix: &str) -> Vec<String> {
    (0..40).map(|n| format!("{prefix}-{n}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_cut_off_is_fenced_and_the_other_goes_on() {
    let store = Arc::new(MemoryStore::new());
    let wire = Wire::new(&store);
    let a = Embedded::in_cluster(store.clone(), wire.clone(), "a", 1).await;
    owns(&a, "the first host to own everything", |n| n == 256).await;
    for id in ids("w") {
        a.run(&id, &program()).await.expect("started");
    }
    wire.cut.store(true, Ordering::Release);
    store.advance_leases(LEASE + Duration::from_secs(1));
    let b = Embedded::in_cluster(store.clone(), Wire::new(&store), "b", 2).await;
    owns(&b, "the second host to take everything over", |n| n == 256).await;
    // The executions are stamped with the new epoch as soon as they do something there.
    for id in ids("w") {
        b.send(&id, "a", "m", "1").await.expect("sent to the new owner");
        let error = a.send(&id, "a", "late", "2").await.expect_err("the old owner must not append");
        assert!(["fenced", "not-owner", "closed"].contains(&error.code), "{error:?}");
        assert_eq!(b.ended(&id).await.status, Status::Completed);
    }
    // Nor must it begin what the new owner may have begun.
    let error = a.run("fresh", &program()).await.expect_err("the old owner must not start");
    assert!(["fenced", "not-owner"].contains(&error.code), "{error:?}");
    wire.cut.store(false, Ordering::Release);
    owns(&a, "the first host to come back", |n| n > 0 && n < 256).await;
    owns(&b, "the second host to give its share", |n| n > 0 && n < 256).await;
    for id in ids("x") {
        let host = owner(&[&a, &b], &id).await;
        host.run(&id, &program()).await.expect("started");
        host.send(&id, "a", "m", "1").await.expect("sent");
        assert_eq!(host.ended(&id).await.status, Status::Completed);
    }
    b.verify().await;
    a.engine.shutdown().await;
    b.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_ends_in_good_order_leaves_its_executions_to_the_other_at_once() {
    let store = Arc::new(MemoryStore::new());
    let a = Embedded::in_cluster(store.clone(), store.clone(), "a", 1).await;
    let b = Embedded::in_cluster(store.clone(), store.clone(), "b", 2).await;
    owns(&a, "a share", |n| n > 0 && n < 256).await;
    owns(&b, "the rest", |n| n > 0 && n < 256).await;
    for id in ids("w") {
        owner(&[&a, &b], &id).await.run(&id, &program()).await.expect("started");
    }
    a.engine.shutdown().await;
    owns(&b, "the other to own everything", |n| n == 256).await;
    let view = b.engine.cluster().expect("it is a cluster");
    assert_eq!(view.hosts.iter().map(|h| &*h.id).collect::<Vec<_>>(), ["b"]);
    for id in ids("w") {
        b.send(&id, "a", "m", "1").await.expect("sent");
        assert_eq!(b.ended(&id).await.status, Status::Completed);
    }
    b.verify().await;
    let open = ListFilter { status: Some(Status::Running), ..ListFilter::default() };
    assert_eq!(store.list(&open, None, 10).expect("readable"), []);
    b.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_that_could_not_be_released_are_released_later() {
    let store = Arc::new(MemoryStore::new());
    let wire = Wire::new(&store);
    let a = Embedded::in_cluster(store.clone(), wire.clone(), "a", 1).await;
    owns(&a, "the first host to own everything", |n| n == 256).await;
    wire.keeps.store(true, Ordering::Release);
    let b = Embedded::in_cluster(store.clone(), store.clone(), "b", 2).await;
    owns(&b, "the second host to get its share", |n| n > 0 && n < 256).await;
    assert!(!wire.keeps.load(Ordering::Acquire), "no release was refused");
    a.engine.shutdown().await;
    b.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_of_one_name_are_a_mistake() {
    let store = Arc::new(MemoryStore::new());
    let a = Embedded::in_cluster(store.clone(), store.clone(), "a", 1).await;
    owns(&a, "everything", |n| n == 256).await;
    let beat = HostBeat {
        id: "a".into(),
        incarnation: 2,
        address: "http://other.test".into(),
        version: "test".into(),
        draining: false,
        lease: LEASE,
    };
    assert!(matches!(store.beat(&beat), Err(BeatError::Taken { .. })));
    // The lease of one that died runs out; then the name is free, and the shards too.
    store.advance_leases(LEASE + Duration::from_secs(1));
    assert!(store.beat(&beat).is_ok_and(|view| view.hosts.len() == 1));
    a.until("the first process to lose everything", || async { owned(&a) == 0 }).await;
    a.engine.shutdown().await;
}

/// Nobody took its shards while its lease had lapsed, so nobody looks for what it refused meanwhile, but itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_lease_comes_back_goes_on_with_what_it_refused() {
    let store = Arc::new(MemoryStore::new());
    let wire = Wire::new(&store);
    let a = Embedded::in_cluster(store.clone(), wire.clone(), "a", 1).await;
    owns(&a, "everything", |n| n == 256).await;
    // Due after the lease and well before it is looked for lost timers.
    let rings = LEASE + Duration::from_secs(1);
    let program = [Op::Timer(rings.as_millis() as u64), Op::Await(0)];
    for id in ids("w") {
        a.run(&id, &program).await.expect("started");
    }
    let began = Instant::now();
    wire.cut.store(true, Ordering::Release);
    owns(&a, "the lease to lapse", |n| n == 0).await;
    a.until("the timers to have rung", || async { began.elapsed() > rings }).await;
    assert!(a.run("x", &program).await.is_err(), "it takes nothing now");
    wire.cut.store(false, Ordering::Release);
    for id in ids("w") {
        assert_eq!(a.ended(&id).await.status, Status::Completed);
    }
    a.verify().await;
    a.engine.shutdown().await;
}
