//! Workers over NATS: the same work with the same promises as over HTTP, from Python and Rust, through the real server
//! that `scripts/servers` starts.

mod common;

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use common::{
    Site,
    python::{Python, rows},
    until,
};
use relive_worker::{Failure, Task, Worker};
use serde_json::{Value, json};
use tokio::{runtime::Runtime, sync::oneshot, task::JoinHandle};

/// More than a message of NATS may have, less than a payload of the host.
const LARGE: usize = 1_200_000;

/// A host that answers under a prefix of its own; where its workers reach it, and where they leave their traces.
fn site() -> (Site, String, PathBuf) {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let server = std::env::var("RELIVE_TEST_NATS")
        .expect("RELIVE_TEST_NATS names no server. Type: scripts/servers run cargo nextest run ..");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros();
    let url = format!("{server}/w{now:x}-{:x}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let options: &'static [(&'static str, &'static str)] =
        Box::leak(Box::new([("RELIVE_WORKERS_NATS", &*Box::leak(url.clone().into_boxed_str()))]));
    let site = Site::with_options(&["script"], options);
    let traces = site.dir.path().join("traces");
    std::fs::create_dir_all(&traces).expect("a directory");
    (site, url, traces)
}

fn step(activity: &str, input: &Value, options: &Value) -> Value {
    json!({"activity": {"name": activity, "input": input, "options": options}})
}

/// What the one step of an execution saw.
fn seen(site: &Site, id: &str, step: &Value) -> Value {
    site.script(id, &json!([step]));
    let ended = site.ended(id);
    assert_eq!(ended["status"], "completed", "{ended}");
    ended["result"]["seen"][0].clone()
}

fn traces_of(traces: &Path, what: &str) -> Vec<Value> {
    rows(&traces.join("sink")).into_iter().filter(|row| row["what"] == what).collect()
}

fn quick() -> Value {
    json!({"initial-interval-ms": 1, "jitter": 0.0, "max-attempts": 3, "heartbeat-timeout-ms": 60_000})
}

#[test]
fn python_works_over_nats_as_over_http() {
    let (site, url, traces) = site();
    let mut worker = Python::worker_of(&url, &traces, 4);
    assert_eq!(seen(&site, "t", &step("tries", &json!(null), &quick()))["ok"], 3);
    let declined = seen(&site, "d", &step("declines", &json!({"card": "\u{fc}"}), &quick()));
    assert_eq!((&declined["err"]["code"], &declined["err"]["message"]), (&json!("declined"), &json!("as told")));
    assert_eq!(seen(&site, "r", &step("resumes", &json!(null), &quick()))["ok"], json!({"position": 2}));
    // A task that takes several messages.
    let large = "x".repeat(LARGE);
    let declined = seen(&site, "l", &step("declines", &json!(large), &quick()));
    assert_eq!(declined["err"]["code"], "declined");

    let options = json!({"cancellation": "wait", "heartbeat-timeout-ms": 600});
    site.script("c", &json!([step("beats", &json!(null), &options)]));
    until("it has begun", || !traces_of(&traces, "begun").is_empty());
    assert_eq!(site.cli(&["cancel", "c"]).0, 0);
    until("it was told", || traces_of(&traces, "canceled").len() == 1);
    assert_eq!(site.ended("c")["result"]["seen"][0]["err"]["kind"], "canceled");

    assert!(worker.stop().success(), "{}", worker.said());
    let listed = site.json(&["worker", "list"]);
    assert_eq!(listed["workers"][0]["ended"], "stopped", "{listed}");
    site.verified();
}

#[test]
fn python_over_nats_outlives_a_kill_9_of_its_host() {
    let (site, url, traces) = site();
    let worker = Python::worker_of(&url, &traces, 2);
    site.script("k", &json!([step("effect", &json!(null), &json!({}))]));
    until("it runs", || !traces_of(&traces, "effect").is_empty());
    let site = site.restart();
    std::fs::write(traces.join("gate"), "").expect("a gate");
    assert_eq!(site.ended("k")["result"]["seen"][0]["ok"]["attempt"], 1, "{}", worker.said());
    // It is known again, and has the next.
    assert_eq!(seen(&site, "n", &step("tries", &json!(null), &quick()))["ok"], 3, "{}", worker.said());
    assert_eq!(traces_of(&traces, "effect").len(), 1);
    site.verified();
}

/// A Rust worker in this process.
struct Rust {
    runtime: Runtime,
    stop: oneshot::Sender<()>,
    working: JoinHandle<Result<(), relive_worker::WorkerError>>,
}

impl Rust {
    fn start(url: &str) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let worker = Worker::builder(url)
            .activity("length", |_: Task, text: String| async move { Ok::<usize, Failure>(text.len()) })
            .activity("repeat", |_: Task, count: usize| async move { Ok::<String, Failure>("x".repeat(count)) })
            .build()
            .expect("a worker");
        let (stop, stopped) = oneshot::channel();
        let working = runtime.spawn(worker.run(async { drop(stopped.await) }));
        Self { runtime, stop, working }
    }

    fn stop(self) {
        self.stop.send(()).expect("it works");
        self.runtime.block_on(self.working).expect("no panic").expect("in good order");
    }
}

#[test]
fn rust_works_over_nats_as_over_http() {
    let (site, url, _) = site();
    let worker = Rust::start(&url);
    // A task in several messages; an answer may not be: it fails the attempt for good.
    assert_eq!(seen(&site, "l", &step("length", &json!("x".repeat(LARGE)), &quick()))["ok"], LARGE);
    let large = seen(&site, "r", &step("repeat", &json!(LARGE), &quick()));
    assert_eq!(large["err"]["code"], "payload-too-large", "{large}");
    let program: Vec<Value> = (0..50).map(|count| step("repeat", &json!(count), &quick())).collect();
    site.script("m", &json!(program));
    assert_eq!(site.ended("m")["result"]["seen"][49]["ok"], "x".repeat(49));
    worker.stop();
    let listed = site.json(&["worker", "list"]);
    assert_eq!(listed["workers"][0]["ended"], "stopped", "{listed}");
    site.verified();
}
