//! Bad input, and what it gets: a typed problem with a code and a sentence that says what to do. After each the host
//! goes on, and a `hello` completes.

mod common;
#[path = "../../sandbox/tests/support/mod.rs"]
mod guest_text;

use std::{
    fs::Permissions,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
};

use common::{BASE, Site, relive, shim::Shim, texts, until};
use guest_text::{FOREVER, GuestText, RECURSION, TIMER};
use relive_testkit::{guests, process::Host};
use serde_json::{Value, json};

fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("the test's text is well-formed")
}

/// A problem document: its status, its code, and a sentence.
fn problem(what: &str, answer: &(u16, Value), status: u16, code: &str) -> String {
    let (got, body) = answer;
    assert_eq!((*got, body["code"].as_str()), (status, Some(code)), "{what}: {body}");
    let detail = body["detail"].as_str().unwrap_or_default();
    assert!(detail.split_whitespace().count() >= 4, "{what}: {detail:?} is no sentence");
    assert!(body["correlation_id"].is_string(), "{what}: nothing to ask an operator for: {body}");
    detail.to_owned()
}

/// An upload that is refused, by the API and by the command line.
fn refused(site: &Site, what: &str, upload: &[u8], status: u16, code: &str) -> String {
    let answer = site.host.call("POST", &format!("{BASE}/workflows"), upload).expect("an answer");
    let detail = problem(what, &answer, status, code);
    let file = site.dir.path().join("upload.wasm");
    std::fs::write(&file, upload).expect("a file");
    let (exit, out, err) = site.cli(&["deploy", &file.display().to_string()]);
    assert!(exit == 1 && out.is_empty() && err.contains(&detail[..20]), "{what}: {exit} {out} {err}");
    site.still_works();
    detail
}

#[test]
fn uploads_that_are_no_workflows() {
    let site = Site::with(&["hello"]);
    let hello = std::fs::read(guests::folder().join("hello/hello.wasm")).expect("hello");
    let says = |detail: String, texts: &[&str]| {
        for text in texts {
            assert!(detail.contains(text), "{detail:?} should say {text:?}");
        }
    };
    says(refused(&site, "a script", b"#!/bin/sh\necho hello\n", 422, "not-wasm"), &["upload the .wasm file"]);
    refused(&site, "nothing", b"", 422, "not-wasm");
    refused(&site, "a truncated component", &hello[..hello.len() / 2], 422, "truncated");
    refused(&site, "a truncated header", &hello[..6], 422, "truncated");
    says(refused(&site, "a core module", &wat("(module)"), 422, "no-metadata"), &["wit-bindgen"]);
    let foreign = wat(r#"(component (import "golem:api/host@0.2.0" (instance)))"#);
    says(refused(&site, "another host's import", &foreign, 422, "import-refused"), &["golem:api/host@0.2.0"]);
    let version = wat(r#"(component (import "relive:workflow/durable@0.7.0" (instance)))"#);
    let detail = refused(&site, "an unknown version of ours", &version, 422, "unknown-interface-version");
    says(detail, &["relive:workflow/durable@0.7.0", "0.1.0"]);
    refused(&site, "no workflow", &wat("(component)"), 422, "no-workflow");
    let activities = std::fs::read(guests::folder().join("order/order_activities.wasm")).expect("order");
    refused(&site, "activities in place of a workflow", &activities, 422, "no-workflow");
    let mut large = hello;
    large.resize((32 << 20) + 1, 0);
    refused(&site, "one byte too large", &large, 413, "too-large");
    // So large that the host stops reading: it may have hung up before the client has seen the answer.
    large.resize(40 << 20, 0);
    if let Ok(answer) = site.host.call("POST", &format!("{BASE}/workflows"), &large) {
        problem("far too large", &answer, 413, "too-large");
    }
    site.still_works();
}

#[test]
fn uploads_that_mean_harm_when_they_are_described() {
    let site = Site::with(&["hello"]);
    let upload = |text: GuestText| text.module();
    let describe = GuestText { describe: FOREVER, ..GuestText::default() };
    refused(&site, "an endless description", &upload(describe), 422, "describe-fuel");
    let begin = GuestText { fields: "(func $f (loop $l (br $l))) (start $f)", ..GuestText::default() };
    refused(&site, "an endless instantiation", &upload(begin), 422, "instantiate-fuel");
    let deep = "(drop (call $deep (i64.const 0))) (i32.const 256)";
    let recursion = GuestText { fields: RECURSION, describe: deep, ..GuestText::default() };
    refused(&site, "a bottomless description", &upload(recursion), 422, "describe-stack");
    refused(
        &site,
        "4 GiB to begin with",
        &upload(GuestText { memory: "65536", ..GuestText::default() }),
        422,
        "instantiate-memory",
    );
    let trap = GuestText { describe: "unreachable", ..GuestText::default() };
    refused(&site, "a description that traps", &upload(trap), 422, "describe-trap");
}

/// Code that goes wrong when it runs: the execution is blocked with a report, and stays in the operator's hands.
fn blocks(site: &Site, name: &str, guest: &GuestText, says: &str) {
    let path = format!("{BASE}/workflows?name={name}");
    let (status, answer) = site.host.call("POST", &path, &guest.component()).expect("an answer");
    assert_eq!(status, 201, "{name}: {answer}");
    let (status, answer) = site.post("/executions", &json!({"workflow": name, "workflow_id": name}));
    assert_eq!(status, 201, "{name}: {answer}");
    // It burns its CPU meanwhile; others do not wait for it.
    site.still_works();
    let view = site.ended(name);
    let (_, detail) = site.get(&format!("/executions/{name}"));
    let report = detail["block_report"].as_str().unwrap_or_default();
    assert!(view["status"] == "blocked" && report.contains(says), "{name}: {view} {detail:#}");
    let (exit, _, err) = site.cli(&["result", name]);
    assert!(exit == 5 && err.contains("blocked"), "{name}: {exit} {err}");
    site.still_works();
    let (exit, _, err) = site.cli(&["terminate", name]);
    assert_eq!(exit, 0, "{name}: {err}");
}

#[test]
fn guests_that_mean_harm_when_they_run() {
    let site = Site::with(&["hello"]);
    blocks(&site, "endless", &GuestText { start: FOREVER, ..GuestText::default() }, "fuel");
    let deep = "(drop (call $deep (i64.const 0))) (i32.const 512)";
    blocks(&site, "bottomless", &GuestText { fields: RECURSION, start: deep, ..GuestText::default() }, "stack");
    let grow = "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable";
    blocks(&site, "memory-bomb", &GuestText { start: grow, ..GuestText::default() }, "67108864 are allowed");
    let grow =
        "(loop $l (br_if $l (i32.ne (table.grow $t (ref.null func) (i32.const 10000)) (i32.const -1)))) unreachable";
    let table = GuestText { fields: "(table $t 1 funcref)", start: grow, ..GuestText::default() };
    blocks(&site, "table-bomb", &table, "table");
    // In the middle: after its first step, when the timer has fired.
    let start =
        "(call $timer (i64.const 1) (i32.const 768)) (i32.store8 (i32.const 512) (i32.const 0)) (i32.const 512)";
    let middle = GuestText { imports: TIMER, start, resume: "unreachable", ..GuestText::default() };
    blocks(&site, "trap", &middle, "trapped");
    site.verified();
}

#[test]
fn a_trap_in_the_middle_keeps_what_was_done_and_a_message_still_enters() {
    let site = Site::with(&["hello", "script"]);
    let program = json!([{"activity": {"name": "echo", "input": 1}}, {"publish": {"key": "k", "value": 7}},
        {"activity": {"name": "echo", "input": 2}}, "trap"]);
    site.script("t", &program);
    assert_eq!(site.ended("t")["status"], "blocked");
    let (_, detail) = site.get("/executions/t");
    let done = detail["steps"].as_array().expect("steps").iter().filter(|s| s["state"] == "completed").count();
    assert_eq!(done, 2, "{detail:#}");
    assert_eq!(site.get("/executions/t/queries/k").1["value"], 7);
    let (status, answer) = site.post("/executions/t/signals/late", &json!({"message_id": "m", "input": 1}));
    assert_eq!(status, 200, "blocked executions go on recording: {answer}");
    let site = site.restart();
    assert_eq!(site.ended("t")["status"], "blocked", "also after a crash");
    let (_, page) = site.get("/executions/t/history");
    let events = page["events"].as_array().expect("events");
    assert!(events.iter().any(|e| e["attributes"]["message_id"] == "m"), "{page:#}");
    site.verified();
    site.still_works();
}

fn start(site: &Site, body: &str) -> (u16, Value) {
    site.host.call("POST", &format!("{BASE}/executions"), body.as_bytes()).expect("an answer")
}

#[test]
fn inputs_that_are_not_acceptable() {
    let site = Site::with(&["hello", "script"]);
    let started =
        |input: &str| start(&site, &format!(r#"{{"workflow": "hello", "workflow_id": "x", "input": {input}}}"#));
    for (what, input) in [("no JSON", "{\"name\": nul}"), ("unfinished", "{\"name\": \"a\""), ("a comma", "[1,]")] {
        problem(what, &started(input), 400, "invalid-json");
        site.still_works();
    }
    problem("duplicate keys", &started(r#"{"name": "a", "name": "b"}"#), 400, "invalid-json");
    problem("a lone surrogate", &started(r#"{"name": "\ud800"}"#), 400, "invalid-json");
    let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    problem("too deep", &started(&deep), 400, "invalid-json");
    let detail = problem("another type", &started(r#"{"name": 5}"#), 422, "schema-mismatch");
    assert!(detail.contains("name"), "{detail}");
    problem("a member missing", &started("{}"), 422, "schema-mismatch");
    // 2 MiB is the limit of a payload.
    let large = format!(r#"{{"name": "{}"}}"#, "a".repeat((2 << 20) + 1));
    problem("too large", &started(&large), 413, "payload-too-large");
    if let Ok(answer) = site.host.call("POST", &format!("{BASE}/executions"), &vec![b' '; 8 << 20]) {
        problem("far too large", &answer, 413, "payload-too-large");
    }
    problem("an unknown member", &start(&site, r#"{"workflow": "hello", "color": "red"}"#), 400, "invalid-body");
    problem(
        "an id with a line feed",
        &start(&site, r#"{"workflow": "hello", "workflow_id": "a\nb"}"#),
        400,
        "invalid-body",
    );
    site.still_works();
    assert_eq!(site.get("/executions/x").0, 404, "nothing of it was started");

    site.script("open", &json!([{"message": {"channel": "go"}}]));
    let send = |body: &str| {
        site.host.call("POST", &format!("{BASE}/executions/open/signals/go"), body.as_bytes()).expect("an answer")
    };
    problem("a message that is no JSON", &send("{\"input\": tru}"), 400, "invalid-json");
    let large = format!(r#"{{"input": "{}"}}"#, "a".repeat((2 << 20) + 1));
    problem("a message too large", &send(&large), 413, "payload-too-large");
    assert_eq!(site.get("/executions/open").1["status"], "running");
    let (exit, _, err) = site.cli(&["start", "hello", "--input", "{name: 1}"]);
    assert!(exit == 2 && err.contains("line 1, column 2"), "{exit} {err}");
    let (exit, _, err) = site.cli(&["start", "hello", "--input", "{}"]);
    assert!(exit == 1 && err.contains("name"), "{exit} {err}");
    site.still_works();
    site.verified();
}

#[test]
fn names_that_nobody_has() {
    let site = Site::with(&["hello", "script", "order"]);
    problem("a workflow", &start(&site, r#"{"workflow": "nobody"}"#), 404, "unknown-workflow");
    for (method, path) in [
        ("GET", ""),
        ("GET", "/history"),
        ("GET", "/result"),
        ("GET", "/state"),
        ("GET", "/queries"),
        ("GET", "/queries/k"),
        ("POST", "/signals/go"),
        ("POST", "/cancel"),
        ("POST", "/terminate"),
        ("POST", "/unblock"),
        ("POST", "/replay"),
        ("POST", "/verify"),
    ] {
        let answer = site.host.call(method, &format!("{BASE}/executions/nobody{path}"), b"").expect("an answer");
        problem(path, &answer, 404, "unknown-execution");
    }
    site.script("open", &json!([{"message": {"channel": "go"}}]));
    problem("a published key", &site.get("/executions/open/queries/none"), 404, "unknown-key");
    problem("a route", &site.host.call("GET", "/v2/nothing", b"").expect("an answer"), 404, "unknown-route");
    let elsewhere = site.host.call("GET", "/v1/namespaces/elsewhere/executions/open", b"").expect("an answer");
    problem("another namespace", &elsewhere, 404, "unknown-execution");
    // An activity that nobody offers waits for a worker, as long as the workflow says.
    let options = json!({"schedule-to-start-ms": 20});
    site.script("a", &json!([{"activity": {"name": "nobody", "options": options}}]));
    let view = site.ended("a");
    let seen = &view["result"]["seen"][0]["err"];
    assert_eq!((&view["status"], &seen["code"]), (&json!("completed"), &json!("schedule-to-start")), "{view:#}");
    // A workflow that says which channels it reads is sent nothing else.
    let order = r#"{"workflow": "order", "workflow_id": "o", "input": {"order_id": "o", "sku": "tea", "quantity": 1,
        "card": "4242", "cents": 1, "pause_ms": 60000}}"#;
    assert_eq!(start(&site, order).0, 201);
    problem("a channel", &site.post("/executions/o/signals/unheard", &json!({"input": 1})), 404, "unknown-channel");
    let (exit, _, err) = site.cli(&["signal", "o", "unheard"]);
    assert!(exit == 3 && err.contains("unheard"), "{exit} {err}");
    // One that does not say keeps the message, in sight; what cannot be a channel is refused.
    let (status, _) = site.post("/executions/open/signals/unheard", &json!({"message_id": "m"}));
    assert_eq!(status, 200);
    until("the message in sight", || {
        let (_, state) = site.get("/executions/open/state");
        state["unread_messages"].as_array().is_some_and(|m| m.iter().any(|m| m["channel"] == "unheard"))
    });
    let long = "c".repeat(300);
    problem("no channel", &site.post(&format!("/executions/open/signals/{long}"), &json!({})), 400, "invalid-name");
    site.still_works();
    site.verified();
}

#[test]
fn one_id_started_twice() {
    let site = Site::with(&["hello", "script"]);
    site.script("one", &json!([{"message": {"channel": "go"}}]));
    let body = r#"{"workflow": "script", "workflow_id": "one", "input": {"program": []}}"#;
    let detail = problem("a second start", &start(&site, body), 409, "already-started");
    assert!(detail.contains("choose another id"), "{detail}");
    // Many at once: one of them wins.
    let body =
        r#"{"workflow": "script", "workflow_id": "race", "input": {"program": [{"message": {"channel": "go"}}]}}"#;
    let answers: Vec<(u16, Value)> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..8).map(|_| scope.spawn(|| start(&site, body))).collect();
        all.into_iter().map(|thread| thread.join().expect("a client")).collect()
    });
    assert_eq!(answers.iter().filter(|(status, _)| *status == 201).count(), 1, "{answers:?}");
    for answer in answers.iter().filter(|(status, _)| *status != 201) {
        problem("a loser", answer, 409, "already-started");
    }
    let (_, page) = site.get("/executions?workflow_id=race");
    assert_eq!(page["executions"].as_array().map(Vec::len), Some(1), "{page}");
    site.still_works();
    site.verified();
}

/// By default such an activity is tried for ever, because a deployment may bring it. Then an operator must see why.
#[test]
fn an_activity_that_nobody_offers_waits_for_a_worker_and_says_so() {
    let site = Site::with(&["hello", "script"]);
    site.script("a", &json!([{"activity": {"name": "nobody", "options": {"initial-interval-ms": 1}}}]));
    let waits = || site.get("/executions/a").1["waits_for"][0].as_str().unwrap_or_default().to_owned();
    until("it waits", || waits().contains("activity 1 nobody (attempt 1): waits for a worker of task queue default"));
    let (_, shown, _) = site.cli(&["show", "a"]);
    assert!(shown.contains("none has polled"), "{shown}");
    site.still_works();
}

/// `relive dev` on a directory that it cannot use: exit code, and code and sentence on stderr.
fn dev_refuses(mut command: Command, data: &Path, exit: i32, code: &str) -> String {
    command.args(["dev", "--listen", "127.0.0.1:0", "--json", "--data"]).arg(data);
    let (got, out, err) = texts(command.output().expect("the binary runs"));
    let line = err.lines().find(|line| line.starts_with('{')).unwrap_or_default();
    let problem: Value = serde_json::from_str(line).unwrap_or_default();
    assert_eq!((got, problem["code"].as_str()), (exit, Some(code)), "stdout {out} stderr {err}");
    let detail = problem["detail"].as_str().unwrap_or_default().to_owned();
    assert!(detail.contains(&data.display().to_string()), "{detail:?} does not name the directory");
    detail
}

fn this() -> Command {
    Command::new(relive())
}

#[test]
fn a_data_directory_that_is_none_or_read_only() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("file");
    std::fs::write(&file, "x").expect("a file");
    dev_refuses(this(), &file, 1, "data-dir-not-a-directory");
    dev_refuses(this(), &file.join("below"), 1, "data-dir-not-a-directory");
    // Root may write everywhere, so the host runs as somebody else; the program is copied to where that one may read.
    std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("permissions");
    let program = dir.path().join("relive");
    std::fs::copy(relive(), &program).expect("a copy");
    let root = rustix::process::geteuid().is_root();
    let somebody = || {
        let mut command = Command::new(&program);
        if root {
            command.uid(65_534).gid(65_534);
        }
        command
    };
    let sealed = dir.path().join("sealed");
    std::fs::create_dir(&sealed).expect("a directory");
    std::fs::set_permissions(&sealed, Permissions::from_mode(0o555)).expect("permissions");
    let detail = dev_refuses(somebody(), &sealed, 1, "data-dir-read-only");
    assert!(detail.contains("permissions"), "{detail}");
    dev_refuses(somebody(), &sealed.join("below"), 1, "data-dir-read-only");
    // One that was in use, and that somebody has sealed since.
    let used = dir.path().join("used");
    Host::start(relive(), &used, &[]).expect("a host").stop();
    let seal = |directory: u32, file: u32| {
        for entry in std::fs::read_dir(&used).expect("entries") {
            std::fs::set_permissions(entry.expect("an entry").path(), Permissions::from_mode(file))
                .expect("permissions");
        }
        std::fs::set_permissions(&used, Permissions::from_mode(directory)).expect("permissions");
    };
    seal(0o555, 0o444);
    dev_refuses(somebody(), &used, 1, "data-dir-read-only");
    seal(0o755, 0o644);
    std::fs::set_permissions(used.join("native"), Permissions::from_mode(0o755)).expect("permissions");
    Host::start(relive(), &used, &[]).expect("nothing was spoiled").stop();
}

#[test]
fn a_data_directory_that_another_host_has() {
    let site = Site::with(&["hello"]);
    let detail = dev_refuses(this(), &site.data(), 4, "data-dir-locked");
    assert!(detail.contains(&site.host.pid().to_string()), "{detail:?} does not name the process");
    site.still_works();
}

fn sqlite(data: &Path) -> rusqlite::Connection {
    rusqlite::Connection::open(data.join("relive.db")).expect("a database")
}

#[test]
fn a_data_directory_of_a_newer_version_or_of_somebody_else() {
    let site = Site::with(&["hello"]);
    site.still_works();
    let Site { host, dir, env } = site;
    let data = dir.path().join("data");
    assert_eq!(host.stop(), Some(0));
    let version: i64 = sqlite(&data).pragma_query_value(None, "user_version", |row| row.get(0)).expect("a version");
    sqlite(&data).pragma_update(None, "user_version", version + 41).expect("a newer version");
    let detail = dev_refuses(this(), &data, 1, "data-dir-newer-version");
    assert!(detail.contains(&(version + 41).to_string()) && detail.contains("use that version"), "{detail}");
    sqlite(&data).pragma_update(None, "user_version", version).expect("the version");
    let host = Host::start(relive(), &data, &[]).expect("nothing was spoiled");
    Site { host, dir, env }.still_works();

    let other: PathBuf = tempfile::tempdir().expect("a directory").keep();
    sqlite(&other).execute_batch("CREATE TABLE cookies (name TEXT)").expect("another program's database");
    dev_refuses(this(), &other, 1, "data-dir-corrupt");
    std::fs::write(other.join("relive.db"), [7; 8192]).expect("noise");
    dev_refuses(this(), &other, 1, "data-dir-corrupt");
    std::fs::remove_dir_all(other).expect("a directory");
}

#[test]
fn a_full_disk_refuses_what_is_new_loses_nothing_and_heals() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let disk = Shim::build(dir.path());
    let site = Site { host: disk.host(&data).expect("a host"), dir, env: &[] };
    site.deploy("hello");
    site.deploy("script");
    let program =
        json!([{"message": {"channel": "go"}}, {"activity": {"name": "echo", "input": 1}}, {"timer": {"ms": 1}}]);
    for n in 0..10 {
        site.script(&format!("before-{n}"), &program);
    }
    disk.is_full(true);
    let body = r#"{"workflow": "hello", "workflow_id": "new", "input": {"name": "a"}}"#;
    problem("a start", &start(&site, body), 507, "no-space");
    problem("a message", &site.post("/executions/before-0/signals/go", &json!({"message_id": "m"})), 507, "no-space");
    let hello = std::fs::read(guests::folder().join("hello/hello.wasm")).expect("hello");
    let upload = site.host.call("POST", &format!("{BASE}/workflows?name=more"), &hello).expect("an answer");
    problem("a deployment", &upload, 507, "no-space");
    // What is there can be read.
    assert_eq!(site.get("/executions/before-3").1["status"], "running");
    assert_eq!(site.get("/executions").1["executions"].as_array().map(Vec::len), Some(10));
    let second = dir_of(&site).join("another");
    dev_refuses(disk.command(), &second, 1, "data-dir-full");

    disk.is_full(false);
    until("the disk to be seen as healed", || start(&site, body).0 == 201);
    for n in 0..10 {
        let id = format!("before-{n}");
        let (status, answer) = site.post(&format!("/executions/{id}/signals/go"), &json!({"message_id": "m"}));
        assert_eq!(status, 200, "{answer}");
        assert_eq!(site.ended(&id)["status"], "completed");
    }
    site.still_works();
    site.verified();
}

fn dir_of(site: &Site) -> &Path {
    site.dir.path()
}
