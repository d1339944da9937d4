//! What the tests of the queue share: names, messages, and servers.
#![allow(dead_code, reason = "each test uses its part")]

pub mod server;

use std::{
    future::Future,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use relive_core::{
    Namespace, RunKey,
    ports::{Fetched, QueueName, TaskMessage, TaskQueue},
};
use relive_queue::{NatsOptions, NatsQueue, QueueLimits};

/// Longer than anything takes that comes at all.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How often a condition is looked at that tells nobody.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Limits with a time for acknowledgements that a test can wait for, and that a slow machine can keep.
pub fn limits() -> QueueLimits {
    QueueLimits { ack_wait: Duration::from_millis(1_500), ..QueueLimits::default() }
}

/// A prefix that no other test has, in this process or another, now or before.
pub fn fresh_prefix() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros();
    format!("t{now:x}-{:x}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The server of all tests, of which each has a prefix.
pub fn shared_server() -> String {
    std::env::var("RELIVE_TEST_NATS")
        .expect("RELIVE_TEST_NATS names no server. Type: scripts/servers run cargo nextest run -p relive-queue")
}

pub fn options(url: &str, prefix: &str) -> NatsOptions {
    NatsOptions { prefix: prefix.to_owned(), limits: limits(), ..NatsOptions::new(url) }
}

pub async fn connect(url: &str, prefix: &str) -> NatsQueue {
    NatsQueue::connect(options(url, prefix)).await.expect("a connection")
}

/// The server as anybody else sees it.
pub async fn raw(url: &str) -> async_nats::Client {
    async_nats::connect(url).await.expect("a connection")
}

pub fn queue(name: &str) -> QueueName {
    QueueName { namespace: Namespace::default(), queue: name.into() }
}

/// The first attempt of command `number` of a run.
pub fn task(queue: &QueueName, number: u64) -> TaskMessage {
    TaskMessage {
        queue: queue.clone(),
        run: RunKey(77),
        command_no: number,
        attempt: 1,
        republish: 0,
        activity: "charge".into(),
        correlation_id: Some(format!("order {number}").into()),
        trace_id: Some("4bf92f3577b34da6a3ce929d0e0e4736".into()),
    }
}

pub fn tasks(queue: &QueueName, numbers: std::ops::Range<u64>) -> Vec<TaskMessage> {
    numbers.map(|number| task(queue, number)).collect()
}

/// What is there right now.
pub async fn take(from: &(impl TaskQueue + ?Sized), queue: &QueueName, max: usize) -> Fetched {
    from.fetch(queue, max, Duration::ZERO).await.expect("a fetch")
}

/// What comes within the tests' patience.
pub async fn wait(from: &(impl TaskQueue + ?Sized), queue: &QueueName, max: usize) -> Fetched {
    let fetched = from.fetch(queue, max, PATIENCE).await.expect("a fetch");
    assert!(!fetched.is_empty(), "nothing came");
    fetched
}

/// The result of `work`, which must not hang.
pub async fn in_time<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("{what}: hangs"))
}

/// Repeats `work` until it gives something.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut work: impl FnMut() -> F) -> T {
    in_time(what, async {
        loop {
            if let Some(done) = work().await {
                return done;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    })
    .await
}
