//! Workers of a cluster: any host serves any worker, wherever the execution is; who is gone is gone for all hosts; with a
//! broker and without one.

mod common;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use common::{
    BASE,
    cluster::{Cluster, ask, deploy, get, shared},
    until,
};
use relive_core::{Namespace, Shard, WorkflowId};
use relive_testkit::process::Host;
use serde_json::{Value, json};

struct Two {
    cluster: Cluster,
    a: Host,
    b: Host,
}

impl Two {
    fn start(broker: bool) -> Option<Self> {
        let mut cluster = Cluster::new()?;
        if broker {
            cluster.env.push(("RELIVE_QUEUE", prefix()));
        }
        let (a, b) = (cluster.host("a"), cluster.host("b"));
        until("both hosts to have shards", || shared(&a) && shared(&b));
        deploy(&a);
        Some(Self { cluster, a, b })
    }

    /// A workflow id of an execution that the host owns.
    fn id_of(host: &str, view: &Host, prefix: &str) -> String {
        let shards = get(view, "/v1/shards")["shards"].as_array().cloned().expect("shards");
        let of = |id: &str| {
            let shard = Shard::of(&Namespace::default(), &WorkflowId::new(id).expect("an id"));
            shards.iter().any(|row| row["shard"] == u64::from(shard.0) && row["owner"] == host)
        };
        (0..).map(|n| format!("{prefix}-{n}")).find(|id| of(id)).expect("one of many")
    }

    /// Starts an execution that the host owns, with one step for a worker.
    fn start_on(&self, host: &str, prefix: &str) -> String {
        let id = Self::id_of(host, &self.a, prefix);
        let options = json!({"initial-interval-ms": 1, "jitter": 0.0, "max-attempts": 3});
        let step = json!({"activity": {"name": "send", "input": {"to": id}, "options": options}});
        let body = json!({"workflow": "script", "workflow_id": id, "input": {"program": [step]}});
        let (status, answer) = ask(&self.a, "POST", &format!("{BASE}/executions"), &body);
        assert_eq!(status, 201, "{answer}");
        id
    }

    fn completes(&self, id: &str) {
        let path = format!("{BASE}/executions/{id}/result?wait_ms=10000");
        until("the execution to end", || get(&self.b, &path)["status"] == "completed");
    }
}

/// The broker of the tests, under a prefix of its own.
fn prefix() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let server = std::env::var("RELIVE_TEST_NATS")
        .expect("RELIVE_TEST_NATS names no server. Type: scripts/servers run cargo nextest run ..");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros();
    format!("{server}/c{now:x}-{:x}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn register(host: &Host, more: &Value) -> String {
    let mut body = json!({"identity": "test:1", "task_queues": ["default"]});
    body.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
    let (status, answer) = ask(host, "POST", &format!("{BASE}/workers"), &body);
    assert_eq!(status, 201, "{answer}");
    answer["worker_id"].as_str().expect("an id").to_owned()
}

fn poll(host: &Host, worker: &str, wait_ms: u64) -> Vec<Value> {
    let body = json!({"worker_id": worker, "max_tasks": 10, "wait_ms": wait_ms});
    let (status, answer) = ask(host, "POST", &format!("{BASE}/task-queues/default/poll"), &body);
    assert_eq!(status, 200, "{answer}");
    answer["tasks"].as_array().expect("tasks").clone()
}

fn complete(host: &Host, task: &Value) {
    let path = format!("{BASE}/tasks/{}/complete", task["token"].as_str().expect("a token"));
    let (status, answer) = ask(host, "POST", &path, &json!({"result": "sent"}));
    assert_eq!(status, 200, "{answer}");
}

fn workers(host: &Host) -> Vec<Value> {
    get(host, &format!("{BASE}/workers"))["workers"].as_array().expect("workers").clone()
}

#[test]
fn any_host_serves_any_worker() {
    let Some(two) = Two::start(false) else { return };
    let (of_a, of_b) = (two.start_on("a", "x"), two.start_on("b", "y"));
    until("both wait, over all hosts", || get(&two.a, &format!("{BASE}/task-queues/default"))["backlog"] == 2);
    let list = get(&two.b, &format!("{BASE}/task-queues"));
    assert_eq!(
        (&list["task_queues"][0]["backlog"], list["task_queues"].as_array().map(Vec::len)),
        (&json!(2), Some(1))
    );
    let worker = register(&two.a, &json!({}));
    let mut tasks = Vec::new();
    while tasks.len() < 2 {
        // It asks the other host as if it had registered there.
        tasks.extend(poll(&two.b, &worker, 20_000));
    }
    let mut seen: Vec<&str> = tasks.iter().map(|task| task["workflow_id"].as_str().expect("an id")).collect();
    seen.sort_unstable();
    assert_eq!(seen, [of_a.as_str(), of_b.as_str()]);
    until("the list tells what it has", || workers(&two.a)[0]["running"] == 2);
    assert_eq!((&workers(&two.b)[0]["state"], workers(&two.b).len()), (&json!("busy"), 1));
    let (status, answer) = ask(&two.a, "POST", &format!("{BASE}/workers/{worker}/beat"), &json!({}));
    assert_eq!(status, 200, "{answer}");
    for task in &tasks {
        let path = format!("{BASE}/tasks/{}/heartbeat", task["token"].as_str().expect("a token"));
        assert_eq!(ask(&two.a, "POST", &path, &json!({})).0, 200);
        complete(&two.a, task);
    }
    two.completes(&of_a);
    two.completes(&of_b);
    let (status, answer) = ask(&two.b, "POST", &format!("{BASE}/verify"), &json!({}));
    assert_eq!((status, &answer["findings"]), (200, &json!([])), "{answer}");
}

#[test]
fn who_is_gone_is_gone_for_all_hosts() {
    let Some(two) = Two::start(false) else { return };
    let of_b = two.start_on("b", "y");
    let worker = register(&two.a, &json!({}));
    let first = poll(&two.a, &worker, 20_000).pop().expect("a task");
    assert_eq!((&first["workflow_id"], &first["attempt"]), (&json!(of_b), &json!(1)));
    // It comes again to the other host, and says that it never got the task.
    let again = register(&two.b, &json!({"replaces": worker, "holds": []}));
    let second = poll(&two.a, &again, 30_000).pop().expect("the next attempt");
    assert_eq!((&second["workflow_id"], &second["attempt"]), (&json!(of_b), &json!(2)));
    let path = format!("{BASE}/tasks/{}/complete", first["token"].as_str().expect("a token"));
    assert_eq!(ask(&two.b, "POST", &path, &json!({"result": "late"})).0, 409);
    // It says good-bye to the host that does not own the execution.
    let agent = ureq::Agent::from(ureq::Agent::config_builder().proxy(None).build());
    agent.delete(&two.a.url(&format!("{BASE}/workers/{again}"))).call().expect("it may go");
    let ended: Vec<_> = workers(&two.b).iter().map(|worker| worker["ended"].clone()).collect();
    assert!(ended.contains(&json!("stopped")) && ended.contains(&json!("replaced")), "{ended:?}");
    let third = register(&two.b, &json!({}));
    let last = poll(&two.b, &third, 30_000).pop().expect("the last attempt");
    assert_eq!(last["attempt"], 3);
    complete(&two.a, &last);
    two.completes(&of_b);
}

#[test]
fn a_worker_outlives_the_host_that_it_registered_with() {
    let Some(two) = Two::start(true) else { return };
    let id = two.start_on("b", "y");
    let worker = register(&two.a, &json!({}));
    let task = poll(&two.a, &worker, 20_000).pop().expect("a task");
    let Two { cluster, a, b } = two;
    a.kill();
    // Neither the claim nor the registration was the dead host's.
    complete(&b, &task);
    until("the execution to end", || {
        get(&b, &format!("{BASE}/executions/{id}/result?wait_ms=1000"))["status"] == "completed"
    });
    until("the survivor to own everything", || get(&b, "/v1/hosts")["hosts"][1]["shards"] == 256);
    assert!(poll(&b, &worker, 0).is_empty());
    assert_eq!((workers(&b).len(), &workers(&b)[0]["state"]), (1, &json!("ready")));
    drop((b, cluster));
}

#[test]
fn a_broker_tells_hosts_of_tasks_at_once() {
    /// Hosts that ask each other beside a broker do so every three seconds.
    const STEPS: u32 = 12;
    let Some(two) = Two::start(true) else { return };
    let worker = register(&two.b, &json!({}));
    let mut waited = Duration::ZERO;
    for n in 0..STEPS {
        let id = std::thread::scope(|scope| {
            let polling = scope.spawn(|| {
                let task = poll(&two.b, &worker, 20_000).pop().expect("a task");
                (task, Instant::now())
            });
            until("it waits", || get(&two.b, &format!("{BASE}/task-queues/default"))["pollers"] == 1);
            let began = Instant::now();
            let id = two.start_on("a", &format!("s{n}"));
            let (task, came) = polling.join().expect("a poll");
            assert_eq!(task["workflow_id"], json!(id));
            waited += came - began;
            complete(&two.b, &task);
            id
        });
        two.completes(&id);
    }
    assert!(waited < STEPS * Duration::from_millis(700), "{waited:?} for {STEPS} steps");
}
