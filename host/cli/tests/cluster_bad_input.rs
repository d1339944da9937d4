//! What hosts of a cluster say and do where the world is not as it should be: a broker that cannot work, a store that is
//! cut off, a clock that jumps.

mod common;

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use async_nats::jetstream::{self, stream};
use common::{
    BASE,
    cluster::{Cluster, ask, command, deploy, get, shared},
    shim::Shim,
    until,
};
use relive_testkit::{
    process::Host,
    proxy::Proxy,
    servers::{Nats, free_port},
};
use serde_json::{Value, json};

fn nats(dir: &Path, arguments: &[&str]) -> Nats {
    std::fs::create_dir_all(dir).expect("a directory");
    Nats::with(dir, arguments).expect("NATS").expect("RELIVE_TEST_NATS_SERVER names no program")
}

/// Runs a host that does not come up; its exit code and what it says.
fn refused(mut command: Command) -> (Option<i32>, String) {
    let output = command.output().expect("it runs");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn brokers_that_cannot_work_are_told_with_what_to_do() {
    let Some(cluster) = Cluster::new() else { return };
    let dir = cluster.dir.path();
    let attempt = |url: &str, more: &[(&str, &str)]| {
        let env = [&[("RELIVE_QUEUE", url)], more].concat();
        refused(command(&cluster.database.url, &env, &dir.join("host"), "a"))
    };
    let plain = nats(&dir.join("plain"), &[]);
    let (code, err) = attempt(&plain.url(), &[]);
    assert!(code == Some(2) && err.contains("JetStream") && err.contains("nats-server -js"), "{code:?} {err}");

    let locked = nats(&dir.join("locked"), &["--jetstream", "--user", "me", "--pass", "secret"]);
    let wrong = locked.url().replace("nats://", "nats://me:hush@");
    let (code, err) = attempt(&wrong, &[]);
    assert!(code == Some(2) && err.contains("password") && !err.contains("hush"), "{code:?} {err}");

    let other = nats(&dir.join("other"), &["--jetstream"]);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let client = async_nats::connect(other.url()).await.expect("a connection");
        let subjects = vec!["relive.tasks.>".to_owned()];
        let config =
            stream::Config { name: "relive-tasks".into(), subjects, max_messages: 7, ..stream::Config::default() };
        jetstream::new(client).create_stream(config).await.expect("a stream");
    });
    let (code, err) = attempt(&other.url(), &[]);
    assert!(code == Some(2) && err.contains("relive-tasks") && err.contains("PREFIX"), "{code:?} {err}");

    for (url, wanted) in [("mqtt://127.0.0.1:1", "no address of a broker"), ("nats://10.9.9.9:4222", "credentials")] {
        let (code, err) = attempt(url, &[]);
        assert!(code == Some(2) && err.contains(wanted), "{code:?} {err}");
    }
    let feed = command(&cluster.database.url, &[("RELIVE_EVENT_FEED", "true")], &dir.join("host"), "a");
    let (code, err) = refused(feed);
    assert!(code == Some(2) && err.contains("needs a broker"), "{code:?} {err}");
}

fn start(host: &Host, id: &str, program: &Value) -> (u16, Value) {
    let body = json!({"workflow": "script", "workflow_id": id, "input": {"program": program}});
    ask(host, "POST", &format!("{BASE}/executions"), &body)
}

fn completes(host: &Host, id: &str) {
    let path = format!("{BASE}/executions/{id}/result?wait_ms=5000");
    until("the execution to end", || get(host, &path)["status"] == "completed");
}

fn owns_all(host: &Host) -> bool {
    get(host, "/v1/hosts")["hosts"][0]["shards"] == 256
}

#[test]
fn a_host_starts_without_its_broker() {
    let Some(mut cluster) = Cluster::new() else { return };
    let nowhere = format!("nats://127.0.0.1:{}", free_port().expect("a port"));
    cluster.env.push(("RELIVE_QUEUE", nowhere));
    let host = cluster.host("a");
    until("it to own all", || owns_all(&host));
    deploy(&host);
    assert_eq!(start(&host, "x", &json!([{"timer": {"ms": 1}}])).0, 201);
    completes(&host, "x");
    let log = std::fs::read_to_string(cluster.dir.path().join("a/host.log")).expect("a log");
    assert!(log.contains("the broker is not reached"), "{log}");
}

#[test]
fn a_host_that_is_cut_off_from_the_store_refuses_and_comes_back() {
    let Some(cluster) = Cluster::new() else { return };
    let (_, rest) = cluster.database.url.split_once('@').expect("a user");
    let (server, _) = rest.split_once('/').expect("a database");
    let proxy = Proxy::start(server.parse().expect("an address")).expect("a proxy");
    let url = cluster.database.url.replace(server, &proxy.address.to_string());
    let data = cluster.dir.path().join("a");
    let host = Host::launch(command(&url, &[], &data, "a"), &data).expect("a host");
    until("it to own all", || owns_all(&host));
    deploy(&host);
    proxy.refuse();
    proxy.cut();
    until("it says that it is not ready", || ask(&host, "GET", "/readyz", &Value::Null).0 == 503);
    // Neither done nor promised; within the time that a request waits for an owner.
    let began = Instant::now();
    let (status, answer) = start(&host, "x", &json!([{"timer": {"ms": 1}}]));
    assert_eq!(status, 503, "{answer}");
    assert!(["not-owner", "store-unavailable"].contains(&answer["code"].as_str().unwrap_or_default()), "{answer}");
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
    proxy.pass();
    until("it is ready again", || ask(&host, "GET", "/readyz", &Value::Null).0 == 200);
    until("it starts again", || start(&host, "y", &json!([{"timer": {"ms": 1}}])).0 == 201);
    completes(&host, "y");
    let (status, report) = ask(&host, "POST", &format!("{BASE}/verify"), &json!({}));
    assert_eq!((status, &report["findings"]), (200, &json!([])), "{report}");
}

#[test]
fn a_clock_that_jumps_by_an_hour_moves_nothing() {
    const NAP: Duration = Duration::from_millis(2_500);
    let Some(cluster) = Cluster::new() else { return };
    let shim = Shim::build(cluster.dir.path());
    let data = cluster.dir.path().join("a");
    let mut jumping = command(&cluster.database.url, &[], &data, "a");
    shim.clock(&mut jumping);
    let a = Host::launch(jumping, &data).expect("a host");
    let b = cluster.host("b");
    until("both hosts to have shards", || shared(&a) && shared(&b));
    deploy(&a);
    let began = Instant::now();
    let nap = json!([{"timer": {"ms": u64::try_from(NAP.as_millis()).expect("short")}}]);
    let ids: Vec<String> = (0..20).map(|n| format!("nap-{n}")).collect();
    for id in &ids {
        assert_eq!(start(&a, id, &nap).0, 201);
    }
    shim.is_ahead(true);
    completes(&b, &ids[0]);
    assert!(began.elapsed() >= NAP, "fired after {:?}", began.elapsed());
    ids.iter().for_each(|id| completes(&b, id));
    assert!(began.elapsed() < NAP + Duration::from_secs(20), "fired after {:?}", began.elapsed());
    // The leases are where they were, and histories know nothing of the jump, nor of its end.
    assert!(shared(&a) && shared(&b));
    assert_eq!(start(&a, "later", &json!([{"timer": {"ms": 1}}])).0, 201);
    shim.is_ahead(false);
    completes(&a, "later");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_nanos();
    let history = get(&b, &format!("{BASE}/executions/later/history"));
    for event in history["events"].as_array().expect("events") {
        let at = u128::from(event["timestamp"].as_u64().expect("a time"));
        assert!(at.abs_diff(now) < Duration::from_secs(600).as_nanos(), "{event}");
    }
    let (status, report) = ask(&b, "POST", &format!("{BASE}/verify"), &json!({}));
    assert_eq!((status, &report["findings"]), (200, &json!([])), "{report}");
}
