//! Workers and hosts as processes that die: whatever is killed or stopped in the middle of an effect, a poll, a claim
//! or an answer, each step is resolved once, by one attempt, and every attempt carries the same idempotency key.

mod common;

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use common::{
    BASE, Site,
    python::{Python, rows},
    relive, until,
};
use relive_testkit::process::Host;
use serde_json::{Value, json};

/// A site, and the directory in which its workers leave their traces.
fn site() -> (Site, PathBuf) {
    let site = Site::with(&["script", "hello"]);
    let traces = site.dir.path().join("traces");
    std::fs::create_dir_all(&traces).expect("a directory");
    (site, traces)
}

/// `kill -9` of the host, if it still runs, and another on the same data and the same address: workers find it.
fn back(site: Site, env: &[(&str, &str)]) -> Site {
    let Site { host, dir, env: options } = site;
    let (address, data) = (host.address.clone(), host.data.clone());
    host.kill();
    let mut command = Command::new(relive());
    let listen = Host::arguments(&data).into_iter().map(|a| if a == "127.0.0.1:0" { address.clone() } else { a });
    command.args(listen).envs(env.iter().copied());
    Site { host: Host::launch(command, &data).expect("a host"), dir, env: options }
}

fn open_gate(traces: &Path) {
    std::fs::write(traces.join("gate"), "").expect("a gate");
}

fn start(site: &Site, id: &str, activity: &str, options: &Value) {
    site.script(id, &json!([{"activity": {"name": activity, "input": id, "options": options}}]));
}

/// Short pauses, and these options.
fn quick(more: &Value) -> Value {
    let mut options = json!({"initial-interval-ms": 10, "jitter": 0.0});
    let more = more.as_object().expect("options").clone();
    options.as_object_mut().expect("options").extend(more);
    options
}

fn effects(traces: &Path, count: usize) -> Vec<Value> {
    until(&format!("{count} effects"), || rows(&traces.join("sink")).len() >= count);
    rows(&traces.join("sink"))
}

/// The step's end: its result, and that its history holds one resolution, by that attempt.
fn resolved(site: &Site, id: &str, attempt: u64) {
    let ended = site.ended(id);
    assert_eq!(ended["result"]["seen"][0]["ok"], json!({"attempt": attempt}), "{ended}");
    let history = site.json(&["history", id]);
    let events = history["events"].as_array().expect("events").iter();
    let resolutions: Vec<&Value> = events
        .filter(|e| {
            ["TaskCompleted", "TaskFailed", "TaskTimedOut", "TaskCanceled"].iter().any(|t| e["event_type"] == *t)
        })
        .collect();
    assert_eq!(resolutions.len(), 1, "{resolutions:?}");
    assert_eq!(resolutions[0]["attributes"]["attempt"], attempt, "{resolutions:?}");
    site.verified();
}

fn same_key(rows: &[Value], attempts: &[u64]) {
    let told: Vec<u64> = rows.iter().map(|row| row["attempt"].as_u64().expect("an attempt")).collect();
    assert_eq!(told, attempts, "{rows:?}");
    assert!(rows.iter().all(|row| row["key"] == rows[0]["key"]), "{rows:?}");
}

fn live_workers(site: &Site) -> Vec<String> {
    let (_, listed) = site.get("/workers");
    let rows = listed["workers"].as_array().expect("workers").iter();
    let live = rows.filter(|w| w["state"] == "ready" || w["state"] == "busy");
    live.map(|w| w["id"].as_str().expect("an id").to_owned()).collect()
}

#[test]
fn a_worker_killed_in_the_middle_of_an_effect_is_followed_by_an_attempt_with_the_same_key() {
    let (site, traces) = site();
    let first = Python::worker(&site, &traces, 1);
    start(&site, "k", "effect", &quick(&json!({"heartbeat-timeout-ms": 2000})));
    effects(&traces, 1);
    first.kill();
    let _second = Python::worker(&site, &traces, 1);
    let rows = effects(&traces, 2);
    open_gate(&traces);
    resolved(&site, "k", 2);
    same_key(&rows, &[1, 2]);
    assert_ne!(rows[0]["pid"], rows[1]["pid"]);
}

#[test]
fn the_late_answer_of_a_worker_that_was_stopped_past_its_deadline_is_dropped_and_it_goes_on() {
    let (site, traces) = site();
    let mut stopped = Python::worker(&site, &traces, 1);
    start(&site, "s", "effect", &quick(&json!({"start-to-close-ms": 1000})));
    effects(&traces, 1);
    stopped.signal("STOP");
    let mut other = Python::worker(&site, &traces, 1);
    let rows = effects(&traces, 2);
    open_gate(&traces);
    same_key(&rows, &[1, 2]);
    resolved(&site, "s", 2);
    assert!(other.stop().success());
    stopped.signal("CONT");
    until("the late answer is refused", || stopped.said().contains("superseded"));
    // Nobody else is there: the next step is its own.
    start(&site, "t", "effect", &json!({}));
    resolved(&site, "t", 1);
    resolved(&site, "s", 2);
    assert!(stopped.stop().success());
}

#[test]
fn workers_that_beat_and_never_end_are_told_at_the_deadline_and_go_on() {
    let (site, traces) = site();
    let _worker = Python::worker(&site, &traces, 1);
    start(
        &site,
        "b",
        "beats",
        &quick(&json!({"start-to-close-ms": 700, "heartbeat-timeout-ms": 3000, "max-attempts": 2})),
    );
    let ended = site.ended("b");
    assert_eq!(ended["result"]["seen"][0]["err"]["kind"], "timeout", "{ended}");
    until("the worker gave both up", || rows(&traces.join("sink")).iter().filter(|r| r["what"] == "gone").count() == 2);
    open_gate(&traces);
    start(&site, "c", "effect", &json!({}));
    resolved(&site, "c", 1);
}

#[test]
fn idle_workers_come_back_when_a_host_that_was_killed_in_the_middle_of_their_polls_does() {
    let (site, traces) = site();
    let workers: Vec<Python> = (0..2).map(|_| Python::worker(&site, &traces, 1)).collect();
    let polled = |site: &Site| site.get("/task-queues/default").1["pollers"] == 2;
    until("both poll", || polled(&site));
    let before = live_workers(&site);
    let site = back(site, &[]);
    until("both poll again", || polled(&site));
    let after = live_workers(&site);
    assert_eq!((before.len(), after.len()), (2, 2));
    assert!(after.iter().all(|id| !before.contains(id)), "a host that started anew knows no workers: {after:?}");
    for worker in &workers {
        assert!(worker.said().contains("registering again"), "{}", worker.said());
    }
    open_gate(&traces);
    start(&site, "i", "effect", &json!({}));
    resolved(&site, "i", 1);
}

#[test]
fn what_was_claimed_before_the_host_was_killed_is_completed_after_it() {
    let (site, traces) = site();
    let worker = Python::worker(&site, &traces, 5);
    start(&site, "h", "effect", &json!({}));
    effects(&traces, 1);
    site.host.strike();
    // The answer finds nobody.
    open_gate(&traces);
    until("the worker noticed", || worker.said().contains("answering http"));
    let site = back(site, &[]);
    resolved(&site, "h", 1);
    same_key(&effects(&traces, 1), &[1]);
}

#[test]
fn an_answer_that_the_host_died_of_is_sent_again_and_counts_once() {
    for point in ["completion-before-commit:1", "after-commit:3"] {
        let (site, traces) = site();
        let site = back(site, &[("RELIVE_ABORT_AT", point)]);
        let _worker = Python::worker(&site, &traces, 5);
        open_gate(&traces);
        start(&site, "a", "effect", &json!({}));
        let mut site = site;
        assert!(site.host.ends_within(common::PATIENCE), "the host reaches {point}");
        let site = back(site, &[]);
        resolved(&site, "a", 1);
        same_key(&effects(&traces, 1), &[1]);
    }
}

#[test]
fn a_claim_of_which_the_worker_never_learnt_goes_back() {
    let (site, traces) = site();
    let mut site = back(site, &[("RELIVE_ABORT_AT", "claim-committed:1")]);
    let worker = Python::worker(&site, &traces, 1);
    open_gate(&traces);
    start(&site, "l", "effect", &quick(&json!({"start-to-close-ms": 2000})));
    assert!(site.host.ends_within(common::PATIENCE), "the host dies with the claim");
    let site = back(site, &[]);
    resolved(&site, "l", 2);
    same_key(&effects(&traces, 1), &[2]);
    drop(worker);
}

/// A way to a host that breaks off, once, when the first task passes it.
fn lossy(host: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let (host, lost) = (host.to_owned(), Arc::new(AtomicBool::new(false)));
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(server) = TcpStream::connect(&host) else { continue };
            let (mut there, mut back) = (client.try_clone().expect("a socket"), server.try_clone().expect("a socket"));
            std::thread::spawn(move || std::io::copy(&mut there, &mut back));
            let lost = lost.clone();
            std::thread::spawn(move || pass_back(&server, &client, &lost));
        }
    });
    address
}

fn pass_back(mut server: &TcpStream, mut client: &TcpStream, lost: &AtomicBool) {
    let mut bytes = vec![0; 1 << 16];
    while let Ok(read @ 1..) = server.read(&mut bytes) {
        let task = bytes[..read].windows(8).any(|w| w == b"\"token\":");
        if (task && !lost.swap(true, Ordering::SeqCst)) || client.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Both);
}

#[test]
fn a_task_that_is_lost_on_its_way_to_the_worker_goes_back() {
    let (site, traces) = site();
    let server = format!("http://{}", lossy(&site.host.address));
    let arguments = [&server, traces.to_str().expect("a path"), "1"];
    let _worker = Python::start("host/cli/tests/common/activities.py", &arguments, &traces);
    open_gate(&traces);
    // No deadline of the activity's comes to its help: that is 300 s.
    start(&site, "l", "effect", &quick(&json!({})));
    resolved(&site, "l", 2);
    same_key(&effects(&traces, 1), &[2]);
}

/// A worker that a test plays itself.
struct Raw<'a> {
    site: &'a Site,
    id: String,
}

impl<'a> Raw<'a> {
    fn register(site: &'a Site) -> Self {
        let (status, answer) = site.post("/workers", &json!({"identity": "raw"}));
        assert_eq!(status, 201, "{answer}");
        Self { site, id: answer["worker_id"].as_str().expect("an id").to_owned() }
    }

    /// The token of the next task.
    fn token(&self) -> String {
        let (status, polled) = self.site.post("/task-queues/default/poll", &json!({"worker_id": self.id}));
        assert_eq!(status, 200, "{polled}");
        polled["tasks"][0]["token"].as_str().unwrap_or_else(|| panic!("a task: {polled}")).to_owned()
    }

    fn complete(&self, token: &str, result: &Value) -> (u16, Value) {
        self.site.post(&format!("/tasks/{token}/complete"), &json!({"result": result}))
    }
}

fn code((status, answer): (u16, Value)) -> (u16, String) {
    (status, answer["code"].as_str().unwrap_or_default().to_owned())
}

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[test]
fn answers_that_come_twice_late_or_with_a_foreign_token_change_nothing() {
    let (site, _) = site();
    let worker = Raw::register(&site);
    start(&site, "w", "anything", &quick(&json!({"start-to-close-ms": 1000})));
    let late = worker.token();
    let second = worker.token();
    let foreign = format!("{}{}", &second[..second.len() - 1], if second.ends_with('0') { "1" } else { "0" });
    let result = json!({"attempt": 2});
    assert_eq!(code(worker.complete(&late, &json!({"attempt": 1}))), refused(409, "superseded"));
    for token in [foreign.as_str(), "junk", "ffff-1-1-0000000000000001", "..%2F.."] {
        assert_eq!(code(worker.complete(token, &result)), refused(404, "unknown-task"), "{token}");
    }
    let elsewhere = format!("/v1/namespaces/other/tasks/{second}/complete");
    let answer = site.host.call("POST", &elsewhere, br#"{"result": 1}"#).expect("an answer");
    assert_eq!(code(answer), refused(404, "unknown-task"));
    assert_eq!(worker.complete(&second, &result).0, 200);
    // Twice is once; something else is refused.
    resolved(&site, "w", 2);
    assert_eq!(worker.complete(&second, &result).0, 200);
    assert_eq!(code(worker.complete(&second, &json!(3))), refused(409, "superseded"));
    let failed = site.post(&format!("/tasks/{second}/fail"), &json!({"failure": {"code": "x"}}));
    assert_eq!(code(failed), refused(409, "superseded"));
    resolved(&site, "w", 2);
}

/// Posts 100 MB that are no JSON; the answer's first line, if one came. `announced`: by a length, which is refused before
/// anything is sent; in chunks otherwise, and the host hangs up when it has seen enough.
fn flood(site: &Site, path: &str, announced: bool) -> String {
    let mut stream = TcpStream::connect(&site.host.address).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    let chunk = vec![b'x'; 1 << 20];
    let length = if announced { "content-length: 104857600" } else { "transfer-encoding: chunked" };
    let host = &site.host.address;
    let head =
        format!("POST {BASE}{path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n{length}\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("sent");
    if !announced {
        let mut send = || {
            stream.write_all(b"100000\r\n")?;
            stream.write_all(&chunk)?;
            stream.write_all(b"\r\n")
        };
        let sent = (0..100).take_while(|_| send().is_ok()).count();
        assert!(sent < 50, "{sent} MiB were taken");
    }
    let mut answer = [0; 12];
    let read = stream.read(&mut answer).unwrap_or(0);
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

#[test]
fn answers_of_100_mb_or_without_json_are_refused_and_the_attempt_stays_the_workers() {
    let (site, _) = site();
    let worker = Raw::register(&site);
    start(&site, "w", "anything", &json!({}));
    let token = worker.token();
    for path in [format!("/tasks/{token}/complete"), "/tasks/complete".to_owned(), format!("/tasks/{token}/heartbeat")]
    {
        assert_eq!(flood(&site, &path, true), "HTTP/1.1 413", "{path}");
        // The answer may be lost when the host closes on what it does not read.
        let answer = flood(&site, &path, false);
        assert!(answer.is_empty() || answer == "HTTP/1.1 413", "{path}: {answer}");
    }
    let large = json!("x".repeat(2 << 20));
    assert_eq!(worker.complete(&token, &large).0, 413);
    for body in ["", "{", "nonsense", "\u{0}", r#"{"result": 01}"#, r#"{"result": 1, "resu1t": 2}"#] {
        let path = format!("{BASE}/tasks/{token}/complete");
        let (status, answer) = site.host.call("POST", &path, body.as_bytes()).expect("an answer");
        assert_eq!(status, 400, "{body:?}: {answer}");
    }
    let status =
        site.host.call("POST", &format!("{BASE}/tasks/{token}/complete"), b"{\"result\": \"\xff\"}").expect("answer").0;
    assert_eq!(status, 400);
    assert_eq!(worker.complete(&token, &json!({"attempt": 1})).0, 200);
    resolved(&site, "w", 1);
    site.still_works();
}
