//! Components and histories of every format that was released: each is read, and relived on its own component, by the
//! program as it is now. A format that is there is never made again; a new one is made with `RELIVE_BLESS=1`.

mod common;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use common::{BASE, Site, cli, until};
use relive_core::{
    EventType,
    history::file::{self, FORMAT, SUFFIX},
};
use relive_testkit::guests;
use serde_json::{Value, json};

const COMPONENT: &str = "script.wasm.zst";
/// What the corpus of the present format must hold at least one of.
const WANTED: [EventType; 22] = [
    EventType::ExecutionStarted,
    EventType::ExecutionCompleted,
    EventType::ExecutionFailed,
    EventType::ExecutionCanceled,
    EventType::ExecutionTerminated,
    EventType::ExecutionContinuedAsNew,
    EventType::ExecutionBlocked,
    EventType::VersionChanged,
    EventType::CancelRequested,
    EventType::TaskScheduled,
    EventType::TaskStarted,
    EventType::TaskCompleted,
    EventType::TaskTimedOut,
    EventType::TaskRetryScheduled,
    EventType::TaskCancelRequested,
    EventType::TimerCreated,
    EventType::TimerFired,
    EventType::TimerCanceled,
    EventType::SignalReceived,
    EventType::VersionRecorded,
    EventType::CommandIssued,
    EventType::ExecutionForked,
];

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

fn formats() -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> =
        std::fs::read_dir(corpus()).expect("a corpus").map(|entry| entry.expect("an entry").path()).collect();
    all.sort();
    all
}

fn histories(format: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(format).expect("a directory").map(|entry| entry.expect("an entry").path());
    files.filter(|path| path.to_string_lossy().ends_with(SUFFIX)).collect()
}

#[test]
fn every_released_format_is_read_and_relived() {
    let present = corpus().join(format!("format-{FORMAT}"));
    if std::env::var_os("RELIVE_BLESS").is_some() && !present.exists() {
        ["json", "postcard"].iter().for_each(|codec| make(&present, codec));
    }
    let scratch = tempfile::tempdir().expect("a directory");
    for format in formats() {
        let packed = std::fs::read(format.join(COMPONENT)).expect("a component");
        let wasm = scratch.path().join("script.wasm");
        std::fs::write(&wasm, zstd::decode_all(&*packed).expect("a component")).expect("written");
        let args = ["--json", "preflight", "--wasm", &wasm.display().to_string(), "--histories"];
        // No host is there.
        let (code, out, err) = cli("127.0.0.1:1", &[&args[..], &[&format.display().to_string()]].concat());
        assert_eq!(code, 0, "{out}{err}");
        let report: Value = serde_json::from_str(&out).expect("a report");
        let count = histories(&format).len();
        assert!(count > 0 && report["same_code"] == json!(count), "{}: {report:#}", format.display());
    }
    let read = |path: &PathBuf| file::read(&std::fs::read_to_string(path).expect("text")).expect("a history");
    let there: BTreeSet<u16> =
        histories(&present).iter().flat_map(|path| read(path).events).map(|event| event.event_type().code()).collect();
    let missing: Vec<EventType> = WANTED.into_iter().filter(|ty| !there.contains(&ty.code())).collect();
    assert!(missing.is_empty(), "the corpus of format {FORMAT} lacks {missing:?}");
}

/// Executions that make one event of each kind, in one codec, exported into the corpus.
fn make(format: &Path, codec: &str) {
    let site = match codec {
        "json" => Site::with_options(&["script"], &[("RELIVE_CODEC", "json")]),
        _ => Site::with_options(&["script"], &[("RELIVE_CODEC", "postcard")]),
    };
    let echo = |options: Value| json!({"activity": {"name": "echo", "input": {"n": 1, "x": 1.5}, "options": options}});
    let message = json!({"message": {"channel": "a"}});
    let everything = json!([
        echo(json!({"summary": "the first"})), {"timer": {"ms": 5}}, {"publish": {"key": "k", "value": [1, null]}},
        {"log": {"message": "hello"}}, {"version": {"change-id": "c", "min": 1, "max": 2}}, "random", "uuid", "now",
        {"timer": {"ms": 60_000, "as": "t"}}, {"cancel": "t"}, {"activity": {"name": "remote", "as": "r"}}, {"cancel": "r"},
        {"attempt": {"steps": [{"activity": {"name": "remote", "options": {"schedule-to-start-ms": 20}}}]}}, message,
    ]);
    let remote = json!([{"activity": {"name": "remote", "input": 7, "options": {"initial-interval-ms": 1}}}]);
    let programs = [
        ("everything", everything),
        ("waits", json!([echo(json!({})), message])),
        ("moves", json!([message])),
        ("fails", json!([{"fail": {"code": "no", "message": "as told"}}])),
        ("remote", remote.clone()),
        ("paused", remote),
        ("goes-on", json!([{"continue-as-new": {"program": [message]}}])),
        ("blocked", json!([message, "trap"])),
        ("canceled", json!([message, {"fail": {"code": "asked", "canceled": true}}])),
        ("terminated", json!([message])),
    ];
    for (id, program) in &programs {
        site.script(id, program);
    }
    let send = |id: &str| {
        let (status, answer) =
            site.post(&format!("/executions/{id}/signals/a"), &json!({"message_id": id, "input": id}));
        assert_eq!(status, 200, "{answer}");
    };
    ["everything", "blocked"].iter().for_each(|id| send(id));
    for (path, body) in [
        ("/executions/canceled/cancel", json!({"reason": "enough"})),
        ("/executions/terminated/terminate", json!({"reason": "enough"})),
        ("/executions/paused/activities/1/pause", json!({"note": "wait"})),
        ("/executions/waits/fork", json!({"workflow_id": "fork", "at": 1})),
    ] {
        let (status, answer) = site.post(path, &body);
        assert!(status < 300, "{path}: {answer}");
    }
    let other = site.dir.path().join("other.wasm");
    std::fs::write(&other, [&guests::bytes("script/script.wasm")[..], &[0, 2, 1, b'x']].concat()).expect("a file");
    assert_eq!(site.cli(&["deploy", &other.display().to_string(), "--name", "script", "--no-activate"]).0, 0);
    for to in ["2", "1"] {
        assert_eq!(site.cli(&["migrate", "moves", "--to", to]).0, 0);
    }
    worker(&site);
    for id in ["everything", "fails", "remote", "blocked", "terminated", "canceled"] {
        site.ended(id);
    }
    let out = format.display().to_string();
    for id in programs.iter().map(|(id, _)| *id).chain(["fork"]) {
        let (status, listed) = site.get(&format!("/executions?workflow_id={id}"));
        assert_eq!(status, 200, "{listed}");
        for run in listed["executions"].as_array().expect("runs") {
            let run = run["run_id"].as_str().expect("an id");
            let (code, _, err) = site.cli(&["export", "--id", id, "--run", run, "--out", &out]);
            assert_eq!(code, 0, "{err}");
        }
    }
    let packed = zstd::encode_all(&*guests::bytes("script/script.wasm"), 19).expect("packed");
    std::fs::write(format.join(COMPONENT), packed).expect("written");
}

/// Takes the task of `remote`, fails it once, and completes it.
fn worker(site: &Site) {
    let (status, answer) = site.post("/workers", &json!({"identity": "raw"}));
    assert_eq!(status, 201, "{answer}");
    let id = answer["worker_id"].clone();
    for answer in ["fail", "complete"] {
        let mut token = String::new();
        until("the task", || {
            let (_, polled) = site.post("/task-queues/default/poll", &json!({"worker_id": id, "wait_ms": 500}));
            token = polled["tasks"][0]["token"].as_str().unwrap_or_default().to_owned();
            !token.is_empty()
        });
        let body = match answer {
            "fail" => json!({"failure": {"code": "later", "message": "not yet"}}),
            _ => json!({"result": 8}),
        };
        let path = format!("{BASE}/tasks/{token}/{answer}");
        let (status, told) = site.host.call("POST", &path, body.to_string().as_bytes()).expect("an answer");
        assert_eq!(status, 200, "{told}");
    }
}
