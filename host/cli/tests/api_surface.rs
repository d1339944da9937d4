//! What the command line makes of the interface's newer parts: starts by key and by policy, live streams across a crash
//! of the host, pages, and the document. The interface itself is tested in `relive-api`.

mod common;

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use common::{Site, relive, until};
use relive_testkit::process::Host;
use serde_json::{Value, json};

const OK: i32 = 0;
const CONFLICT: i32 = 4;

fn ask(site: &Site, id: &str) {
    let request = json!({"subject": "a", "requested_by": "b", "approver": "c"}).to_string();
    assert_eq!(site.cli(&["start", "approval", "--id", id, "--input", &request]).0, OK);
    until("it waits", || site.get(&format!("/executions/{id}/queries/approval")).1["value"]["phase"] == "waiting");
}

#[test]
fn a_start_is_retried_by_its_key_and_ids_are_used_as_the_policies_say() {
    let site = Site::with(&["hello", "approval"]);
    let start = ["start", "hello", "--request-id", "order/17", "--input", r#"{"name": "Ada"}"#];
    let first = site.json(&start);
    site.ended(first["workflow_id"].as_str().expect("an id"));
    let again = site.json(&start);
    assert_eq!((&again["run_id"], &again["existing"]), (&first["run_id"], &json!(true)));
    let (code, _, err) = site.cli(&["start", "hello", "--request-id", "order/17", "--input", r#"{"name": "Bob"}"#]);
    assert!(code == CONFLICT && err.contains("idempotency key"), "{code} {err}");

    ask(&site, "a");
    let input = json!({"subject": "a", "requested_by": "b", "approver": "c"}).to_string();
    let start =
        |policy: [&str; 2]| site.cli(&[&["start", "approval", "--id", "a", "--input", &input], &policy[..]].concat());
    let (code, out, _) = start(["--on-conflict", "use-existing"]);
    assert!(code == OK && out.starts_with("there is a "), "{out}");
    assert_eq!(start(["--on-conflict", "fail"]).0, CONFLICT);
    let (code, out, _) = start(["--on-conflict", "terminate-existing"]);
    assert!(code == OK && out.starts_with("started a "), "{out}");
    assert_eq!(site.cli(&["terminate", "a"]).0, OK);
    assert_eq!(start(["--reuse", "reject"]).0, CONFLICT);
    assert_eq!(start(["--reuse", "allow-failed-only"]).0, OK);
    site.verified();
}

/// `relive .. --follow`, whose lines are read as they come.
struct Follower {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Follower {
    fn of(address: &str, args: &[&str]) -> Self {
        let mut command = Command::new(relive());
        command.args(args).args(["--json", "--follow", "--server", &format!("http://{address}")]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("a follower");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        Self { child, lines }
    }

    fn next(&mut self) -> Option<Value> {
        let line = self.lines.next()?.expect("a line");
        Some(serde_json::from_str(&line).expect("JSON"))
    }

    fn end(mut self) -> i32 {
        self.child.wait().expect("its end").code().expect("a code")
    }
}

/// `kill -9`, and a new host on the same directory that listens where the old one did.
fn restarted_at_its_address(site: Site) -> Site {
    let Site { host, dir, env } = site;
    let (address, data) = (host.address.clone(), dir.path().join("data"));
    host.kill();
    let mut command = Command::new(relive());
    let here = |argument: String| if argument == "127.0.0.1:0" { address.clone() } else { argument };
    command.args(Host::arguments(&data).into_iter().map(here));
    Site { host: Host::launch(command, &data).expect("a host"), dir, env }
}

#[test]
fn what_is_followed_comes_once_and_in_order_also_if_the_host_is_killed() {
    let site = Site::with(&["approval"]);
    ask(&site, "f");
    let mut history = Follower::of(&site.host.address, &["history", "f"]);
    let mut logs = Follower::of(&site.host.address, &["logs", "f"]);
    let mut events = vec![history.next().expect("the start")];
    assert_eq!(site.cli(&["signal", "f", "decision", "--input", r#"{"maybe": 1}"#]).0, OK);
    assert!(logs.next().expect("a line")["message"].as_str().expect("text").contains("not a decision"));
    let address = site.host.address.clone();
    let site = restarted_at_its_address(site);
    assert_eq!(site.host.address, address);
    assert_eq!(site.cli(&["signal", "f", "decision", "--input", r#"{"approved": true}"#]).0, OK);
    site.ended("f");
    while let Some(event) = history.next() {
        events.push(event);
    }
    let whole = site.json(&["history", "f"]);
    assert_eq!(&Value::Array(events), &whole["events"]);
    assert!(logs.next().is_none(), "no line comes twice");
    assert_eq!((history.end(), logs.end()), (OK, OK));
}

#[test]
fn lists_go_on_at_their_cursor_and_the_document_needs_no_host() {
    let site = Site::with(&["hello"]);
    for id in ["h1", "h2", "h3"] {
        assert_eq!(site.cli(&["start", "hello", "--id", id, "--input", r#"{"name": "x"}"#, "--wait"]).0, OK);
    }
    let first = site.json(&["list", "--limit", "2"]);
    let cursor = first["next_cursor"].as_str().expect("a cursor");
    let second = site.json(&["list", "--limit", "2", "--cursor", cursor]);
    let ids = |page: &Value| -> Vec<String> {
        let rows = page["executions"].as_array().expect("rows").iter();
        rows.map(|row| row["workflow_id"].as_str().expect("an id").to_owned()).collect()
    };
    assert_eq!((ids(&first), ids(&second)), (vec!["h3".to_owned(), "h2".to_owned()], vec!["h1".to_owned()]));
    assert_eq!(site.cli(&["list", "--cursor", "nonsense"]).0, 1);
    site.host.kill();
    let printed = Command::new(relive()).arg("openapi").output().expect("the document");
    let printed: Value = serde_json::from_slice(&printed.stdout).expect("JSON");
    assert_eq!(printed["openapi"], "3.1.0");
}
