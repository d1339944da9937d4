//! Two hosts of a cluster as processes, on a PostgreSQL of the tests: any host answers any request, a host that is
//! killed is taken over, one that ends hands over, and what is set up wrongly says so.

mod common;

use std::{
    net::SocketAddr,
    process::Command,
    time::{Duration, Instant},
};

use relive_store::contract::database::TestDatabase;
use relive_testkit::{process::Host, proxy::Proxy};
use serde_json::json;

use common::{
    BASE, cli,
    cluster::{Cluster, ask, command, deploy, fenced, get, shared, shares},
    relive, until,
};

const EXECUTIONS: usize = 120;
/// From the death of a host until everything that it had goes on elsewhere.
const FAILOVER: Duration = Duration::from_secs(10);

fn start(host: &Host, id: &str) {
    let activity = json!({"activity": {"name": "ledger", "input": {"n": 1, "step": "first"}}});
    let program = json!([activity, {"message": {"channel": "a"}}, {"timer": {"ms": 1}}]);
    let body = json!({"workflow": "script", "workflow_id": id, "input": {"program": program}});
    let (status, answer) = ask(host, "POST", &format!("{BASE}/executions"), &body);
    assert_eq!(status, 201, "{id}: {answer}");
}

fn signal(host: &Host, id: &str) {
    let path = format!("{BASE}/executions/{id}/signals/a");
    let (status, answer) = ask(host, "POST", &path, &json!({}));
    assert_eq!(status, 200, "{id}: {answer}");
}

fn completes(host: &Host, id: &str) {
    let path = format!("{BASE}/executions/{id}/result?wait_ms=10000");
    // A host that ends answers those who wait at once.
    until("the execution to end", || get(host, &path)["status"] == "completed");
}

fn verified(host: &Host) {
    let (status, report) = ask(host, "POST", &format!("{BASE}/verify"), &json!({}));
    assert_eq!((status, &report["findings"]), (200, &json!([])), "{report:#}");
    assert!(report["executions"].as_u64().is_some_and(|n| n >= EXECUTIONS as u64), "{report}");
}

fn ids() -> Vec<String> {
    (0..EXECUTIONS).map(|n| format!("order-{n}")).collect()
}

#[test]
fn any_host_answers_and_the_death_of_one_loses_nothing() {
    let Some(cluster) = Cluster::new() else { return };
    let (a, b) = (cluster.host("a"), cluster.host("b"));
    until("both hosts to have shards", || shared(&a) && shared(&b));
    deploy(&a);
    for (n, id) in ids().iter().enumerate() {
        start(if n % 2 == 0 { &a } else { &b }, id);
    }
    // Half of the signals go to the host that does not own the execution.
    for id in &ids()[..EXECUTIONS / 4] {
        signal(&a, id);
        completes(&b, id);
    }
    let died = Instant::now();
    a.kill();
    for id in &ids()[EXECUTIONS / 4..] {
        signal(&b, id);
    }
    let failover = died.elapsed();
    for id in &ids()[EXECUTIONS / 4..] {
        completes(&b, id);
    }
    until("the survivor to own everything", || shares(&b).contains(&("b".to_owned(), 256)));
    verified(&b);
    println!("failover in {failover:?}");
    assert!(failover < FAILOVER, "{failover:?}");
    // The same name again is the same host to its operators: it waits for its own lease and takes its share.
    let a = cluster.host("a");
    until("the host to be back", || shared(&a) && shared(&b));
    let (code, out, err) = cli(&a.address, &["hosts"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("alive") && out.contains('b'), "{out}");
    let (code, out, err) = cli(&b.address, &["shards"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.lines().count() > 2, "{out}");
}

#[test]
fn a_host_that_ends_in_good_order_drops_no_request() {
    let Some(cluster) = Cluster::new() else { return };
    let (a, b) = (cluster.host("a"), cluster.host("b"));
    until("both hosts to have shards", || shared(&a) && shared(&b));
    deploy(&b);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            for id in &ids() {
                start(&b, id);
                signal(&b, id);
                completes(&b, id);
            }
        });
        until("some load", || {
            get(&b, &format!("{BASE}/executions?status=completed&limit=5"))["executions"]
                .as_array()
                .is_some_and(|l| l.len() == 5)
        });
        assert_eq!(a.stop(), Some(0));
        load.join().expect("no request failed");
    });
    verified(&b);
    assert_eq!(b.stop(), Some(0));
}

/// Runs a host that does not come up; its exit code and what it says.
fn refused(mut command: Command) -> (Option<i32>, String) {
    let output = command.output().expect("it runs");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn what_is_set_up_wrongly_says_so() {
    let Some(empty) = TestDatabase::empty() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let (code, err) = refused(command(&empty.url, &[], dir.path(), "a"));
    assert!(code == Some(1) && err.contains("relive migrate-store"), "{code:?} {err}");
    let migrate = || {
        let output = Command::new(relive()).args(["migrate-store", "--store", &empty.url]).output().expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    assert!(migrate().1.contains("went from version 0"));
    assert!(migrate().1.contains("up to date"));
    let data = dir.path().join("first");
    let first = Host::launch(command(&empty.url, &[], &data, "twin"), &data).expect("a host");
    let (code, err) = refused(command(&empty.url, &[], &dir.path().join("second"), "twin"));
    assert!(
        code == Some(1) && err.contains("host id \"twin\" is taken") && err.contains("--host-id"),
        "{code:?} {err}"
    );
    assert_eq!(first.stop(), Some(0));
}

/// `relive list` followed at one host tells of what another does.
#[test]
fn the_list_is_followed_whoever_changes_it() {
    let Some(cluster) = Cluster::new() else { return };
    let (a, b) = (cluster.host("a"), cluster.host("b"));
    until("both hosts to have shards", || shared(&a) && shared(&b));
    deploy(&a);
    let stream = std::net::TcpStream::connect(&a.address).expect("a connection");
    let request = format!("GET {BASE}/executions?follow=true HTTP/1.1\r\nhost: {}\r\n\r\n", a.address);
    std::io::Write::write_all(&mut &stream, request.as_bytes()).expect("sent");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(stream));
    assert!(lines.any(|line| line.expect("the stream goes on") == "event: snapshot"));
    // Half of them are the other host's.
    let mut missing: Vec<String> = ids()[..20].to_vec();
    for id in &missing {
        start(&b, id);
        signal(&b, id);
        completes(&b, id);
    }
    while !missing.is_empty() {
        let line = lines.next().expect("the stream goes on").expect("a line");
        missing.retain(|id| !(line.contains(&format!("\"{id}\"")) && line.contains("\"completed\"")));
    }
}

/// A host is silent for longer than its lease with appends on their way. It is taken over, and they come too late.
#[test]
fn appends_that_arrive_after_a_take_over_are_refused() {
    let Some(cluster) = Cluster::new() else { return };
    let url = &cluster.database.url;
    let (_, place) = url.rsplit_once('@').expect("user@host");
    let server: SocketAddr = place.split('/').next().and_then(|text| text.parse().ok()).expect("an address");
    let proxy = Proxy::start(server).expect("a proxy");
    let through = url.replace(&server.to_string(), &proxy.address.to_string());
    let data = cluster.dir.path().join("a");
    let a = Host::launch(command(&through, &[], &data, "a"), &data).expect("a host");
    let b = cluster.host("b");
    until("both hosts to have shards", || shared(&a) && shared(&b));
    deploy(&a);
    let ids: Vec<String> = ids()[..24].to_vec();
    for id in &ids {
        // It rings while the host still believes in its lease, and what follows cannot be written.
        let program = json!([{"timer": {"ms": 2_500}}, {"message": {"channel": "a"}}]);
        let body = json!({"workflow": "script", "workflow_id": id, "input": {"program": program}});
        assert_eq!(ask(&a, "POST", &format!("{BASE}/executions"), &body).0, 201);
    }
    proxy.stall();
    until("the other host to own everything", || shares(&b).contains(&("b".to_owned(), 256)));
    for id in &ids {
        let path = format!("{BASE}/executions/{id}");
        until("it waits for its message", || get(&b, &path)["waits_for"].to_string().contains("message"));
    }
    proxy.pass();
    until("the appends to be refused", || fenced(&a) > 0);
    for id in &ids {
        signal(&b, id);
        completes(&b, id);
    }
    let (status, report) = ask(&b, "POST", &format!("{BASE}/verify"), &json!({}));
    assert_eq!((status, &report["findings"]), (200, &json!([])), "{report:#}");
}

#[test]
fn a_host_that_takes_over_wakes_executions_from_their_images() {
    let Some(mut cluster) = Cluster::new() else { return };
    cluster.env.push(("RELIVE_IMAGE_EVERY", "10".to_owned()));
    let (a, b) = (cluster.host("a"), cluster.host("b"));
    until("both hosts to have shards", || shared(&a) && shared(&b));
    deploy(&a);
    let ids: Vec<String> = ids()[..12].to_vec();
    for id in &ids {
        let steps = json!({"repeat": {"times": 20, "steps": [{"activity": {"name": "echo"}}]}});
        let program = json!([steps, {"message": {"channel": "a"}}]);
        let body = json!({"workflow": "script", "workflow_id": id, "input": {"program": program}});
        assert_eq!(ask(&a, "POST", &format!("{BASE}/executions"), &body).0, 201);
    }
    for id in &ids {
        let path = format!("{BASE}/executions/{id}");
        until("it waits", || get(&b, &path)["waits_for"].to_string().contains("message"));
    }
    a.kill();
    let laid = || get(&b, "/v1/status")["images"]["laid"].as_u64().expect("a count");
    let before = laid();
    for id in &ids {
        until("the message to be taken", || {
            let body = json!({"message_id": id}).to_string();
            b.call("POST", &format!("{BASE}/executions/{id}/signals/a"), body.as_bytes()).is_ok_and(|(s, _)| s == 200)
        });
        completes(&b, id);
    }
    assert!(laid() > before, "those of the dead host were relived from their first events");
}
