//! Memory images in the engine: waking from them, noticing those that do not fit, forks, and states at any event.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use relive_core::{
    Namespace, RunKey, WorkflowId,
    image::Image,
    ports::{HistoryStore, ImageStore, Status, StoreError, StoreErrorKind, StoredImage},
};
use relive_engine::{CacheLimits, EngineConfig, ImageConfig};
use relive_store::MemoryStore;
use relive_testkit::{clock::SystemClock, embedded::Embedded, model::Op};

fn activity(input: &str) -> Op {
    Op::Activity { name: "echo".into(), input: input.into(), cancellation: Default::default() }
}

fn config(every: u64) -> EngineConfig {
    EngineConfig { images: ImageConfig { every, ..ImageConfig::default() }, ..EngineConfig::default() }
}

async fn host(store: &Arc<MemoryStore>, epoch: u64, config: EngineConfig) -> Embedded {
    Embedded::start(store.clone(), Arc::new(SystemClock), epoch, config).await
}

/// Five steps, a message, five steps; draws, publishes and logs on the way.
fn program() -> Vec<Op> {
    let steps = |from: usize| (from..from + 5).flat_map(|n| [activity(&n.to_string()), Op::Await(n), Op::Random]);
    let mut program: Vec<Op> = steps(0).collect();
    program.extend([Op::Publish("early".into()), Op::Message("a".into()), Op::Await(5), Op::Publish("late".into())]);
    program.extend(steps(6));
    program
}

async fn waits_for_message(host: &Embedded, id: &str) {
    let at = || async {
        let detail = host.engine.show(Embedded::target(id)).await.expect("it is there");
        detail.waits_for == ["message"]
    };
    host.until("it waits for its message", at).await;
}

fn run_of(store: &MemoryStore, id: &str) -> relive_core::ports::ExecutionRow {
    let id = WorkflowId::new(id).expect("an id");
    store.find(&Namespace::default(), &id, None).expect("readable").expect("there")
}

async fn count(host: &Embedded, id: &str, kind: &str) -> usize {
    let page = host.engine.history(Embedded::target(id), 1, 1000).await.expect("a history");
    page.events.iter().filter(|e| e.event_type().name() == kind).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_host_wakes_from_what_the_last_one_kept() {
    let store = Arc::new(MemoryStore::new());
    let first = host(&store, 1, config(100)).await;
    for n in 0..10 {
        first.run(&format!("w{n}"), &program()).await.expect("started");
    }
    for n in 0..10 {
        waits_for_message(&first, &format!("w{n}")).await;
    }
    first.engine.shutdown().await;
    let second = host(&store, 2, config(100)).await;
    for n in 0..10 {
        let id = format!("w{n}");
        second.send(&id, "a", "m", "1").await.expect("sent");
        assert_eq!(second.ended(&id).await.status, Status::Completed);
    }
    let status = second.engine.status();
    assert_eq!((status.relives, status.images.laid, status.images.ignored), (0, 10, 0));
    second.verify().await;
}

/// What is wrong with an image, and how often it is found out.
async fn spoilt(spoil: impl Fn(StoredImage) -> StoredImage) {
    let store = Arc::new(MemoryStore::new());
    let first = host(&store, 1, config(100)).await;
    first.run("w", &program()).await.expect("started");
    waits_for_message(&first, "w").await;
    first.engine.shutdown().await;
    let run = run_of(&store, "w").key;
    let image = store.image(run, u64::MAX).expect("readable").expect("an image");
    let spoilt = spoil(image.clone());
    store.discard_image(run, image.event_id).expect("discarded");
    store.save_images(&[spoilt]).expect("saved");

    let second = host(&store, 2, config(100)).await;
    let deep = second.engine.verify(Namespace::default(), None, true).await.expect("a report");
    assert_eq!(deep.findings.len(), 1, "{:?}", deep.findings);
    second.send("w", "a", "m", "1").await.expect("sent");
    assert_eq!(second.ended("w").await.status, Status::Completed);
    let status = second.engine.status();
    assert_eq!((status.relives, status.images.laid, status.images.ignored), (1, 0, 1));
    assert_eq!(count(&second, "w", "SnapshotDiscarded").await, 1, "the history says so");
    assert!(second.sink.attempts().values().all(|n| *n == 1));
    second.verify().await;
}

fn changed(image: &StoredImage, change: impl Fn(&mut Image)) -> StoredImage {
    let mut decoded = Image::decode(&image.bytes).expect("an image");
    change(&mut decoded);
    StoredImage { bytes: decoded.encode().expect("bytes").into(), ..image.clone() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_is_noticed_and_the_execution_relives() {
    for at in [0, 5, 40, usize::MAX] {
        spoilt(|image| {
            let mut bytes = image.bytes.to_vec();
            let at = at.min(bytes.len() - 1);
            bytes[at] ^= 4;
            StoredImage { bytes: bytes.into(), ..image }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_of_another_history_run_or_code_is_noticed() {
    spoilt(|image| changed(&image, |i| i.header.hash[0] ^= 1)).await;
    spoilt(|image| changed(&image, |i| i.header.run_id = relive_core::RunId(uuid::Uuid::nil()))).await;
    spoilt(|image| changed(&image, |i| i.header.digest.0[0] ^= 1)).await;
    spoilt(|image| changed(&image, |i| i.header.event_id += 1)).await;
    spoilt(|image| changed(&image, |i| i.header.event_id -= 1)).await;
    spoilt(|image| changed(&image, |i| i.body.truncate(3))).await;
}

/// One that chains and lays, and is not what a relived guest has: only a deep check can know.
#[tokio::test(flavor = "multi_thread")]
async fn a_deep_check_finds_a_memory_that_is_not_the_relived_one() {
    let store = Arc::new(MemoryStore::new());
    let first = host(&store, 1, config(100)).await;
    first.run("w", &program()).await.expect("started");
    waits_for_message(&first, "w").await;
    first.engine.shutdown().await;
    let run = run_of(&store, "w").key;
    let image = store.image(run, u64::MAX).expect("readable").expect("an image");
    let forged = changed(&image, |i| {
        let text = String::from_utf8(i.body.clone()).expect("the model's state is text");
        i.body = text.replacen("trace\":\"", "trace\":\"x", 1).into_bytes();
    });
    store.save_images(&[forged]).expect("saved");
    let second = host(&store, 2, config(100)).await;
    let report = second.engine.verify(Namespace::default(), None, true).await.expect("a report");
    assert_eq!(report.findings.len(), 1);
    assert!(report.findings[0].violation.starts_with("I13: the image through event"), "{:?}", report.findings);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_so_many_events_an_image_rides_on_a_commit() {
    let store = Arc::new(MemoryStore::new());
    let host = host(&store, 1, config(4)).await;
    host.run("w", &program()).await.expect("started");
    waits_for_message(&host, "w").await;
    let made = count(&host, "w", "SnapshotCreated").await;
    assert!((2..=3).contains(&made), "{made} of 11 events");
    let run = run_of(&store, "w");
    let newest = store.image(run.key, u64::MAX).expect("readable").expect("an image");
    assert!(newest.event_id >= run.last_event_id - 6, "{} of {}", newest.event_id, run.last_event_id);
    let deep = host.engine.verify(Namespace::default(), None, true).await.expect("a report");
    assert!(deep.findings.is_empty() && deep.images >= 3, "the live guest's too: {deep:?}");
    host.send("w", "a", "m", "1").await.expect("sent");
    assert_eq!(host.ended("w").await.status, Status::Completed);
    assert_eq!(store.image(run.key, u64::MAX).expect("readable"), None, "images go with the run");
    host.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_at_an_event_is_the_same_from_image_and_history() {
    let (with, without) = (Arc::new(MemoryStore::new()), Arc::new(MemoryStore::new()));
    let mut states: Vec<BTreeMap<u64, String>> = Vec::new();
    for (store, every) in [(with, 3), (without, 0)] {
        let host = host(&store, 1, config(every)).await;
        host.run("w", &program()).await.expect("started");
        waits_for_message(&host, "w").await;
        let mut seen = BTreeMap::new();
        let last = run_of(&store, "w").last_event_id;
        for at in 1..=last {
            let state = host.engine.state(Embedded::target("w"), Some(at)).await.expect("a state");
            let open: Vec<String> = state.open_promises.iter().map(|p| format!("{} {}", p.promise, p.kind)).collect();
            let done = state.steps.iter().filter(|s| s.state == "completed").count();
            // Snapshots make event ids differ: what is compared is what stands there after so many steps.
            seen.entry(done as u64 * 2 + open.len() as u64)
                .or_insert_with(|| format!("{open:?} {:?} {:?}", state.published, state.unread_messages.len()));
        }
        states.push(seen);
    }
    assert_eq!(states[0], states[1]);
    assert!(states[0].len() >= 6, "{} places", states[0].len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_goes_on_from_any_event() {
    let store = Arc::new(MemoryStore::new());
    let host = host(&store, 1, config(4)).await;
    host.run("w", &program()).await.expect("started");
    waits_for_message(&host, "w").await;
    host.send("w", "a", "m", "1").await.expect("sent");
    let expected = host.ended("w").await;
    let last = run_of(&store, "w").last_event_id;
    for at in 1..=last {
        let id = format!("fork-{at}");
        let name = Some(WorkflowId::new(&id).expect("an id"));
        let forked = host.engine.fork(Embedded::target("w"), at, name).await.expect("a fork");
        assert!(forked.through <= at && forked.through > 0);
        // Those from before the message wait for theirs.
        let has_message = store.read_from(run_of(&store, &id).key, 1, 1000).expect("readable");
        let has_message = has_message.iter().any(|e| e.event_type == relive_core::EventType::SignalReceived.code());
        if !has_message {
            host.send(&id, "a", "m", "1").await.expect("sent");
        }
        let view = host.ended(&id).await;
        assert_eq!((view.status, view.result), (expected.status, expected.result.clone()), "forked at {at}");
        assert_eq!(count(&host, &id, "ExecutionForked").await, 1);
    }
    assert_eq!(host.verify().await, last + 1);
    let keys = host.sink.attempts();
    assert!(keys.values().all(|n| *n == 1) && keys.keys().any(|k| k.contains("fork-")), "keys of their own");
    let refused = host.engine.fork(Embedded::target("w"), 0, None).await.expect_err("nothing to take");
    assert_eq!(refused.code, "invalid-argument");
    let refused = host.engine.fork(Embedded::target("w"), last + 1, None).await.expect_err("beyond the end");
    assert!(refused.to_string().contains("the history has"), "{refused}");
}

/// A cache of one guest and no memory for images: everything goes through the store, again and again.
#[tokio::test(flavor = "multi_thread")]
async fn evictions_under_load_lose_and_double_nothing() {
    let store = Arc::new(MemoryStore::new());
    let images = ImageConfig { every: 3, memory_bytes: 2_000 };
    let cache = CacheLimits { memory_bytes: 1, maps: 1_000 };
    let host = Arc::new(host(&store, 1, EngineConfig { cache, images, ..EngineConfig::default() }).await);
    let mut program = Vec::new();
    for n in 0..6 {
        program.extend([Op::Message("a".into()), Op::Await(n * 2), activity(&n.to_string()), Op::Await(n * 2 + 1)]);
    }
    let runs = 40;
    for n in 0..runs {
        host.run(&format!("w{n}"), &program).await.expect("started");
    }
    let senders = (0..4).map(|lane| {
        let host = host.clone();
        tokio::spawn(async move {
            for message in 0..6 {
                for n in (lane..runs).step_by(4) {
                    host.send(&format!("w{n}"), "a", &format!("m{message}"), "1").await.expect("sent");
                }
            }
        })
    });
    for sender in senders.collect::<Vec<_>>() {
        sender.await.expect("all sent");
    }
    for n in 0..runs {
        assert_eq!(host.ended(&format!("w{n}")).await.status, Status::Completed);
    }
    let status = host.engine.status();
    assert!(status.images.laid > 40 && status.images.ignored == 0, "{:?}", status.images);
    assert!(host.sink.attempts().values().all(|n| *n == 1));
    host.verify().await;
}

/// A disk that has no room for images.
struct NoRoom {
    inner: Arc<MemoryStore>,
    full: AtomicBool,
    refused: AtomicU64,
}

impl ImageStore for NoRoom {
    fn save_images(&self, images: &[StoredImage]) -> Result<(), StoreError> {
        if self.full.load(Ordering::Acquire) {
            self.refused.fetch_add(images.len() as u64, Ordering::AcqRel);
            return Err(StoreError::new(StoreErrorKind::NoSpace, "no space left on device"));
        }
        self.inner.save_images(images)
    }

    fn image(&self, run: RunKey, through: u64) -> Result<Option<StoredImage>, StoreError> {
        self.inner.image(run, through)
    }

    fn discard_image(&self, run: RunKey, event_id: u64) -> Result<(), StoreError> {
        self.inner.discard_image(run, event_id)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_images_have_no_room_executions_relive_and_nothing_is_lost() {
    let memory = Arc::new(MemoryStore::new());
    let images = Arc::new(NoRoom { inner: memory.clone(), full: AtomicBool::new(true), refused: AtomicU64::new(0) });
    let cache = CacheLimits { memory_bytes: 1, maps: 1_000 };
    let config =
        EngineConfig { cache, images: ImageConfig { every: 1_000, memory_bytes: 0 }, ..EngineConfig::default() };
    let host =
        Embedded::with_images(memory.clone(), memory.clone(), images.clone(), Arc::new(SystemClock), 1, config).await;
    for n in 0..10 {
        host.run(&format!("w{n}"), &program()).await.expect("started");
        waits_for_message(&host, &format!("w{n}")).await;
    }
    host.until("images were refused", || async { images.refused.load(Ordering::Acquire) >= 5 }).await;
    for n in 0..10 {
        if n == 5 {
            images.full.store(false, Ordering::Release);
        }
        host.send(&format!("w{n}"), "a", "m", "1").await.expect("sent");
        assert_eq!(host.ended(&format!("w{n}")).await.status, Status::Completed);
    }
    assert!(host.engine.status().relives > 0);
    host.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_auditor_finds_what_a_deep_check_finds() {
    let store = Arc::new(MemoryStore::new());
    let first = host(&store, 1, config(100)).await;
    for id in ["good", "forged"] {
        first.run(id, &program()).await.expect("started");
        waits_for_message(&first, id).await;
    }
    first.engine.shutdown().await;
    let run = run_of(&store, "forged").key;
    let image = store.image(run, u64::MAX).expect("readable").expect("an image");
    let forged = changed(&image, |i| {
        let text = String::from_utf8(i.body.clone()).expect("the model's state is text");
        i.body = text.replacen("trace\":\"", "trace\":\"x", 1).into_bytes();
    });
    store.save_images(&[forged]).expect("saved");
    let second = host(&store, 2, EngineConfig { audits_per_minute: 6_000, ..EngineConfig::default() }).await;
    let audited = || async { second.engine.status().audited >= 4 };
    second.until("both were audited", audited).await;
    assert!(second.engine.status().audit_findings >= 1);
    assert!(second.engine.status().audit_findings < second.engine.status().audited);
    second.engine.shutdown().await;
}
