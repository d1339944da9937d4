//! Guests that take the process down: after three crashes in a row they are left to a person, and a start whose first
//! turn is the end of every host is among them.

mod common;

use std::{
    path::Path,
    process::{Command, Stdio},
};

use common::{BASE, PATIENCE, cli, relive, until};
use relive_testkit::{guests, process::Host};
use serde_json::{Value, json};

/// A host that dies as soon as a guest has a turn.
const FATAL: (&str, &str) = ("RELIVE_ABORT_AT", "inside-turn:1");

fn host(data: &Path, env: &[(&str, &str)]) -> Option<Host> {
    Host::start(relive(), data, env)
}

fn start(host: &Host, id: &str) -> Result<(u16, Value), String> {
    let program = json!([{"activity": {"name": "echo", "input": id}}]);
    let body = json!({"workflow": "script", "workflow_id": id, "input": {"program": program}});
    host.call("POST", &format!("{BASE}/executions"), body.to_string().as_bytes())
}

fn show(host: &Host, id: &str) -> (u16, Value) {
    host.call("GET", &format!("{BASE}/executions/{id}"), b"").expect("an answer")
}

#[test]
fn a_start_that_crashes_every_host_is_quarantined() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let first = host(&data, &[]).expect("a host");
    let folder = guests::folder().join("script").display().to_string();
    let (code, out, err) = cli(&first.address, &["deploy", &folder]);
    assert_eq!(code, 0, "{out}{err}");
    first.kill();

    // The first time nothing is known of it, and nothing of it is kept.
    let mut unsuspecting = host(&data, &[FATAL]).expect("a host");
    assert!(start(&unsuspecting, "fatal").is_err(), "the host is gone before it can answer");
    assert!(unsuspecting.ends_within(PATIENCE));

    // The next host suspects the component: the run is there before its turn.
    let mut suspecting = host(&data, &[FATAL]).expect("a host");
    assert_eq!(show(&suspecting, "fatal").0, 404, "nothing of the first start was kept");
    let _ = start(&suspecting, "fatal");
    assert!(suspecting.ends_within(PATIENCE));

    // From here on each crash is counted: two more hosts find it and die of it.
    for round in 2..=3 {
        if let Some(mut next) = host(&data, &[FATAL]) {
            assert!(next.ends_within(PATIENCE), "round {round}: it got no turn");
        }
    }
    let last = host(&data, &[FATAL]).expect("a host");
    until("the quarantine", || show(&last, "fatal").1["blocked"] == "quarantined");
    let (status, detail) = show(&last, "fatal");
    assert_eq!((status, &detail["crashes"]), (200, &json!(3)), "{detail:#}");
    last.kill();

    // A host without the fault: a person lets it go on, and others were never touched.
    let well = host(&data, &[]).expect("a host");
    let (code, out, err) = cli(&well.address, &["unblock", "fatal", "--reason", "the fault was the host's"]);
    assert_eq!(code, 0, "{out}{err}");
    let (status, answer) = start(&well, "other").expect("an answer");
    assert_eq!(status, 201, "{answer}");
    until("both to complete", || ["fatal", "other"].iter().all(|id| show(&well, id).1["status"] == "completed"));
    let (status, report) = well.call("POST", &format!("{BASE}/verify"), b"{}").expect("an answer");
    assert_eq!((status, &report["findings"]), (200, &json!([])), "{report:#}");
}

/// An activity that takes the host down with it uses up its attempts, one a host; then it is held where operators see it,
/// other executions go on, and with the cause mended it begins again and completes.
#[test]
fn a_poison_activity_exhausts_its_attempts_is_listed_and_begins_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let first = host(&data, &[]).expect("a host");
    let folder = guests::folder().join("script").display().to_string();
    let (code, out, err) = cli(&first.address, &["deploy", &folder]);
    assert_eq!(code, 0, "{out}{err}");
    let program = json!([{"activity": {"name": "fatal", "input": "well", "options": {"max-attempts": 3}}}]);
    let body = json!({"workflow": "script", "workflow_id": "poison", "input": {"program": program}}).to_string();
    // The answer may be lost with the host.
    let _ = first.call("POST", &format!("{BASE}/executions"), body.as_bytes());
    let mut dying = Some(first);
    for attempt in 1..=3 {
        if let Some(mut host) = dying {
            assert!(host.ends_within(PATIENCE), "attempt {attempt} left the host alive");
        }
        dying = host(&data, &[]);
    }
    let fourth = dying.expect("the fourth host lives");
    until("it is held", || show(&fourth, "poison").1["steps"][0]["state"] == "exhausted");
    let (_, detail) = show(&fourth, "poison");
    let step = &detail["steps"][0];
    assert_eq!((&detail["status"], &step["attempts"]), (&json!("running"), &json!(3)), "{detail:#}");
    assert_eq!(step["failure"]["code"], "attempt-lost", "{detail:#}");
    assert!(detail["waits_for"][0].as_str().expect("text").contains("failed-tasks redrive poison 1"), "{detail:#}");
    assert_eq!(detail["crashes"], 0, "the guest is not to blame");
    assert_eq!(start(&fourth, "neighbour").expect("an answer").0, 201);
    until("others complete", || show(&fourth, "neighbour").1["status"] == "completed");
    let listed = |host: &Host| {
        let (code, out, err) = cli(&host.address, &["failed-tasks", "list", "--json"]);
        assert_eq!(code, 0, "{out}{err}");
        let listed: Value = serde_json::from_str(&out).expect("JSON");
        listed["failed_tasks"].as_array().expect("tasks").clone()
    };
    let tasks = listed(&fourth);
    assert_eq!((tasks.len(), &tasks[0]["activity"], &tasks[0]["attempts"]), (1, &json!("fatal"), &json!(3)));
    verified(&fourth);
    fourth.kill();

    // A host that runs it no longer: a worker has taken it over.
    let mut command = Command::new(relive());
    command.args(Host::arguments(&data).into_iter().filter(|argument| argument != "--bench-activities"));
    let mended = Host::launch(command, &data).expect("a host");
    assert_eq!(listed(&mended), tasks, "it waits as it was");
    let (code, out, err) =
        cli(&mended.address, &["failed-tasks", "redrive", "poison", "1", "--note", "a worker has it"]);
    assert_eq!(code, 0, "{out}{err}");
    let mut worker = Command::new(relive());
    worker.args(["worker", "--server", &mended.url(""), "--type", "fatal", "--exec", "cat"]);
    let mut worker = worker.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("a worker");
    until("it completes", || show(&mended, "poison").1["status"] == "completed");
    let _ = worker.kill();
    let _ = worker.wait();
    let (_, detail) = show(&mended, "poison");
    let step = &detail["steps"][0];
    assert_eq!((&step["attempts"], &step["output"]), (&json!(1), &json!("well")), "{detail:#}");
    assert!(listed(&mended).is_empty());
    verified(&mended);
}

fn verified(host: &Host) {
    let (status, report) = host.call("POST", &format!("{BASE}/verify?deep=true"), b"{}").expect("an answer");
    assert_eq!((status, &report["findings"]), (200, &json!([])), "{report:#}");
}
