//! The examples with workers, from end to end: three kinds of activities in one run, and a long activity that goes on
//! from where its killed worker was.

mod common;

use std::path::PathBuf;

use common::{
    Site,
    python::{Python, rows},
    relive, texts, until,
};
use relive_testkit::guests;
use serde_json::{Value, json};

/// A folder for what the Python processes keep.
fn folder(site: &Site, name: &str) -> PathBuf {
    let folder = site.dir.path().join(name);
    std::fs::create_dir_all(&folder).expect("a directory");
    folder
}

/// Deploys `polyglot` with the books at this address.
fn deploy_polyglot(site: &Site, books: &str) {
    let manifest = site.example("polyglot").join("relive.toml");
    let text = std::fs::read_to_string(&manifest).expect("a manifest");
    assert!(text.contains("http://127.0.0.1:7481"), "{text}");
    std::fs::write(&manifest, text.replace("http://127.0.0.1:7481", books)).expect("a manifest");
    let (code, out, err) = site.cli(&["deploy", &manifest.display().to_string()]);
    assert_eq!(code, 0, "{out}{err}");
}

fn events<'a>(history: &'a Value, event_type: &str) -> Vec<&'a Value> {
    let events = history["events"].as_array().expect("events").iter();
    events.filter(|event| event["event_type"] == event_type).collect()
}

#[test]
fn polyglot_runs_wasm_python_and_http_in_one_run() {
    let site = Site::with(&["polyglot"]);
    let (kept, charges) = (folder(&site, "kept"), folder(&site, "charges"));
    let file = kept.join("books.jsonl");
    let books =
        Python::start("examples-wasm/polyglot/books.py", &["0", file.to_str().expect("a path"), "--lose-first"], &kept);
    until("the books are open", || books.said().ends_with('\n'));
    deploy_polyglot(&site, books.said().trim());
    let input = r#"{"order_id": "o-1", "item": "tea", "quantity": 2}"#;
    assert_eq!(site.cli(&["start", "polyglot-order", "--id", "p", "--input", input]).0, 0);

    // Nobody takes the charge yet, and the host says so.
    until("the charge waits", || site.json(&["task-queue", "describe", "payments"])["backlog"] == 1);
    let pending = site.json(&["activity", "list", "--pending", "--workflow-id", "p"]);
    assert_eq!(
        (&pending["activities"][0]["activity"], &pending["activities"][0]["state"]),
        (&json!("charge"), &json!("queued"))
    );

    let server = format!("http://{}", site.host.address);
    let arguments = [&server, charges.to_str().expect("a path")];
    let mut worker = Python::start("examples-wasm/polyglot/worker.py", &arguments, &kept);
    let ended = site.ended("p");
    assert_eq!(ended["status"], "completed", "{ended}");
    let receipt = &ended["result"];
    assert_eq!((&receipt["cents"], &receipt["booking"]), (&json!(1300), &json!(1)), "{receipt}");
    let charge = receipt["charge"].as_str().expect("a charge");
    assert!(charges.join(charge).exists(), "{receipt}");

    // Its first answer was lost: two attempts, one line, one key.
    let made = rows(&file);
    assert_eq!(made.len(), 1, "{made:?}");
    let history = site.json(&["history", "p"]);
    let attempts: Vec<&Value> = events(&history, "TaskCompleted").iter().map(|e| &e["attributes"]["attempt"]).collect();
    assert_eq!(attempts, [&json!(1), &json!(1), &json!(2)]);
    let run = history["run_id"].as_str().expect("a run");
    assert_eq!(made[0]["key"], format!("default:p:{run}:3"));

    let input = r#"{"order_id": "o-2", "item": "pot", "quantity": 30}"#;
    let started = site.json_with(&["start", "polyglot-order", "--id", "q", "--input", input, "--wait"], 5);
    assert_eq!(
        (&started["failure"]["code"], &started["failure"]["kind"]),
        (&json!("limit"), &json!("application")),
        "{started}"
    );
    assert!(worker.stop().success());
    let workers = site.json(&["worker", "list"]);
    assert_eq!(workers["workers"][0]["ended"], "stopped", "{workers}");
    site.verified();
}

#[test]
fn heartbeat_goes_on_from_its_details_after_its_worker_was_killed() {
    const ITEMS: u64 = 60;
    let site = Site::with(&["heartbeat"]);
    let kept = folder(&site, "kept");
    let sink = kept.join("sink");
    let server = format!("http://{}", site.host.address);
    let worker =
        || Python::start("examples-wasm/heartbeat/worker.py", &[&server, sink.to_str().expect("a path")], &kept);
    let first = worker();
    let input = json!({"items": ITEMS, "item_ms": 20, "heartbeat_ms": 900}).to_string();
    assert_eq!(site.cli(&["start", "import-all", "--id", "i", "--input", &input]).0, 0);
    let heard = || {
        let (_, pending) = site.get("/activities/pending?workflow_id=i");
        pending["activities"][0]["heartbeat_details"]["next"].as_u64().unwrap_or(0)
    };
    until("the host heard of some items", || heard() >= 5);
    first.kill();
    let durable = heard();
    let _second = worker();
    let ended = site.ended("i");
    assert_eq!((&ended["status"], &ended["result"]["items"]), (&json!("completed"), &json!(ITEMS)), "{ended}");

    let rows = rows(&sink);
    let item = |row: &Value| row["item"].as_u64().expect("an item");
    for n in 0..ITEMS {
        assert!(rows.iter().any(|row| item(row) == n), "item {n} is missing");
    }
    let again: Vec<&Value> = rows.iter().filter(|row| row["attempt"] != 1).collect();
    assert!(again.iter().all(|row| item(row) >= durable), "before {durable}: {again:?}");
    // The last heartbeat may have come after the question.
    let from = ended["result"]["from"].as_u64().expect("a number");
    assert!(from >= durable && from < ITEMS, "{from} {durable}");
    let before = rows.iter().filter(|row| row["attempt"] == 1 && item(row) < from).count() as u64;
    assert_eq!(before, from, "what the host heard of was done");
    site.verified();
}

/// The commands of docs/workers.md, as they stand there.
#[test]
fn the_documented_protocol_works_line_by_line() {
    let site = Site::with(&[]);
    let page = std::fs::read_to_string(guests::workspace().join("docs/workers.md")).expect("the page");
    let block = page.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a block of commands");
    let address = format!("http://{}", site.host.address);
    let script = block
        .replace("http://127.0.0.1:7474", &address)
        .replace("target/guests/out", &guests::folder().display().to_string());
    let programs = relive().parent().expect("a folder").display().to_string();
    let path = format!("{programs}:{}", std::env::var("PATH").unwrap_or_default());
    let mut command = std::process::Command::new("bash");
    command.args(["-euo", "pipefail", "-c", &script]).env("PATH", path).env("RELIVE_SERVER", &address);
    let (code, out, err) = texts(command.output().expect("bash runs"));
    assert_eq!(code, 0, "{out}{err}");
    for words in [
        r#""idempotency_key": "default:by-hand:"#,
        r#"{"cancel_requested":false,"gone":false}"#,
        r#"{"accepted":true}"#,
    ] {
        assert!(out.contains(words), "{words}: {out}{err}");
    }
    assert_eq!(site.ended("by-hand")["result"], json!({"items": 3, "from": 0}));
    assert_eq!(site.json(&["worker", "list"])["workers"][0]["ended"], "stopped");
}
