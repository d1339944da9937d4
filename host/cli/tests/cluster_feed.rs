//! The event feed of a cluster: what is in the histories arrives at other systems, in the order of each run, also what a
//! host that died had not published, and what came while the broker was away.

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use async_nats::jetstream::{self, consumer::pull};
use common::{
    BASE,
    cluster::{Cluster, ask, deploy, get, shared},
    until,
};
use futures_util::StreamExt;
use relive_testkit::{process::Host, servers::Nats};
use serde_json::{Value, json};

/// What came, by workflow id: event ids in the order in which they came first.
type Seen = BTreeMap<String, Vec<u64>>;

fn run(host: &Host, id: &str) {
    let program = json!([{"activity": {"name": "echo", "input": id}}, {"timer": {"ms": 1}}]);
    let body = json!({"workflow": "script", "workflow_id": id, "correlation_id": format!("of-{id}"),
        "input": {"program": program}});
    let (status, answer) = ask(host, "POST", &format!("{BASE}/executions"), &body);
    assert_eq!(status, 201, "{answer}");
}

fn completes(host: &Host, id: &str) {
    let path = format!("{BASE}/executions/{id}/result?wait_ms=5000");
    until("the execution to end", || get(host, &path)["status"] == "completed");
}

fn events(host: &Host, id: &str) -> Vec<u64> {
    let history = get(host, &format!("{BASE}/executions/{id}/history?limit=1000"));
    let events = history["events"].as_array().expect("events").iter();
    events.map(|event| event["event_id"].as_u64().expect("an id")).collect()
}

/// Reads the feed until all of `expected` has come.
async fn read(url: &str, expected: &Seen) -> Seen {
    let client = async_nats::connect(url).await.expect("a connection");
    let stream = jetstream::new(client).get_stream("relive-events").await.expect("the feed's stream");
    let consumer = stream.create_consumer(pull::Config::default()).await.expect("a consumer");
    let mut messages = consumer.messages().await.expect("messages");
    let (mut seen, mut ids) = (Seen::new(), BTreeSet::new());
    while seen != *expected {
        let next = tokio::time::timeout(Duration::from_secs(30), messages.next()).await;
        let message =
            next.unwrap_or_else(|_| panic!("{seen:?} came, {expected:?} should")).expect("open").expect("read");
        message.ack().await.expect("acknowledged");
        let headers = message.headers.as_ref().expect("headers");
        let header = |name: &str| headers.get(name).map(ToString::to_string).unwrap_or_default();
        let (id, number) = (header("Relive-Workflow-Id"), header("Relive-Event-Id").parse().expect("a number"));
        let body: Value = serde_json::from_slice(&message.payload).expect("JSON");
        assert_eq!((&body["event_id"], &body["event_type"]), (&json!(number), &json!(header("Relive-Event-Type"))));
        let subject = format!("relive.events.default.script.{}", header("Relive-Event-Type"));
        assert_eq!(message.subject.as_str(), subject);
        assert_eq!(header("Relive-Correlation-Id"), format!("of-{id}"));
        if ids.insert(header("Nats-Msg-Id")) {
            seen.entry(id).or_default().push(number);
        }
    }
    seen
}

#[test]
fn every_event_reaches_other_systems() {
    let dir = tempfile::tempdir().expect("a directory");
    let Some(mut cluster) = Cluster::new() else { return };
    let mut nats = Nats::start(dir.path()).expect("NATS").expect("RELIVE_TEST_NATS_SERVER names no program");
    cluster.env = vec![("RELIVE_QUEUE", nats.url()), ("RELIVE_EVENT_FEED", "true".to_owned())];
    let (a, b) = (cluster.host("a"), cluster.host("b"));
    until("both hosts to have shards", || shared(&a) && shared(&b));
    deploy(&a);
    let ids = |from: usize| (from..from + 20).map(|n| format!("w{n}")).collect::<Vec<_>>();
    for id in ids(0) {
        run(&a, &id);
        completes(&a, &id);
    }
    // The broker is away, and then a host dies with what it could not publish.
    nats.kill();
    for id in ids(20) {
        run(&a, &id);
        completes(&b, &id);
    }
    until("the lag shows", || {
        let (_, text) = ask(&b, "GET", "/metrics", &Value::Null);
        let lag =
            text.as_str().and_then(|text| text.lines().find_map(|l| l.strip_prefix("relive_outbox_lag_seconds ")));
        lag.and_then(|lag| lag.parse::<f64>().ok()).is_some_and(|lag| lag > 0.0)
    });
    a.kill();
    nats.start_again().expect("NATS");
    until("the survivor to own everything", || get(&b, "/v1/hosts")["hosts"][1]["shards"] == 256);
    for id in ids(40) {
        run(&b, &id);
        completes(&b, &id);
    }
    let expected: Seen = (0..60).map(|n| format!("w{n}")).map(|id| (id.clone(), events(&b, &id))).collect();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let seen = runtime.block_on(read(&nats.url(), &expected));
    assert_eq!(seen, expected);
    until("nothing waits any more", || {
        relive_store::contract::database::query_sql(&cluster.database.url, "SELECT count(*)::text FROM outbox") == ["0"]
    });
}
