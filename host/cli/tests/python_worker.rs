//! What the Python worker promises, and the verbs about workers, against a host: results and failures as they are told,
//! cancellation, completion from elsewhere, and an end in good order.

mod common;

use std::path::{Path, PathBuf};

use common::{
    Site,
    python::{Python, rows},
    until,
};
use serde_json::{Value, json};

const OK: i32 = 0;
const USAGE: i32 = 2;
const NOT_FOUND: i32 = 3;
const CONFLICT: i32 = 4;

fn site() -> (Site, PathBuf) {
    let site = Site::with(&["script"]);
    let traces = site.dir.path().join("traces");
    std::fs::create_dir_all(&traces).expect("a directory");
    (site, traces)
}

fn step(activity: &str, input: &Value, options: &Value) -> Value {
    json!({"activity": {"name": activity, "input": input, "options": options}})
}

/// What the one step of an execution saw.
fn seen(site: &Site, id: &str, step: &Value) -> Value {
    site.script(id, &json!([step]));
    let ended = site.ended(id);
    assert_eq!(ended["status"], "completed", "{ended}");
    ended["result"]["seen"][0].clone()
}

fn traces_of(traces: &Path, what: &str) -> Vec<Value> {
    rows(&traces.join("sink")).into_iter().filter(|row| row["what"] == what).collect()
}

#[test]
fn python_results_and_failures_are_told_as_they_are() {
    let (site, traces) = site();
    let worker = Python::worker(&site, &traces, 4);
    let quick = json!({"initial-interval-ms": 1, "jitter": 0.0, "max-attempts": 3, "heartbeat-timeout-ms": 60_000});
    assert_eq!(seen(&site, "t", &step("tries", &json!(null), &quick))["ok"], 3);
    let declined = seen(&site, "d", &step("declines", &json!({"card": "ü"}), &quick));
    assert_eq!((&declined["err"]["code"], &declined["err"]["message"]), (&json!("declined"), &json!("as told")));
    // Failed with what it told last, though that was held back; and the class of what was raised is the code.
    assert_eq!(seen(&site, "r", &step("resumes", &json!(null), &quick))["ok"], json!({"position": 2}));
    assert!(worker.said().contains("KeyError"), "{}", worker.said());
    for (what, code) in
        [("large", "encode-error"), ("nan", "encode-error"), ("object", "encode-error"), ("twice", "invalid-json")]
    {
        let failed = seen(&site, what, &step("gives", &json!(what), &quick));
        assert_eq!(failed["err"]["code"], code, "{what}: {failed}");
    }
    site.verified();
}

#[test]
fn python_learns_of_cancellation_by_its_heartbeats() {
    let (site, traces) = site();
    let _worker = Python::worker(&site, &traces, 4);
    let options = |cancellation: &str| json!({"cancellation": cancellation, "heartbeat-timeout-ms": 600});
    for (id, cancellation, what) in [("w", "wait", "canceled"), ("t", "try", "gone")] {
        site.script(id, &json!([step("beats", &json!(null), &options(cancellation))]));
        until("it has begun", || !traces_of(&traces, "begun").is_empty());
        until("its position is known", || {
            let (_, pending) = site.get(&format!("/activities/pending?workflow_id={id}"));
            pending["activities"][0]["heartbeat_details"]["position"].as_u64() > Some(0)
        });
        assert_eq!(site.cli(&["cancel", id]).0, OK);
        until("it was told", || traces_of(&traces, what).len() == 1);
        let ended = site.ended(id);
        assert_eq!(ended["result"]["seen"][0]["err"]["kind"], "canceled", "{ended}");
    }
    site.verified();
}

#[test]
fn python_stops_in_good_order() {
    let (site, traces) = site();
    let mut worker = Python::worker(&site, &traces, 4);
    site.script("e", &json!([step("effect", &json!(null), &json!({}))]));
    until("it runs", || !traces_of(&traces, "effect").is_empty());
    worker.signal("TERM");
    until("it stops", || worker.said().contains("stopping"));
    // It takes nothing new, and what runs may end.
    site.script("n", &json!([step("effect", &json!(null), &json!({}))]));
    until("the next waits", || site.get("/task-queues/default").1["backlog"] == 1);
    std::fs::write(traces.join("gate"), "").expect("a gate");
    assert_eq!(site.ended("e")["result"]["seen"][0]["ok"]["attempt"], 1);
    assert!(worker.ended().success());
    let listed = site.json(&["worker", "list"]);
    assert_eq!(listed["workers"][0]["ended"], "stopped", "{listed}");
    let mut next = Python::worker(&site, &traces, 1);
    assert_eq!(site.ended("n")["result"]["seen"][0]["ok"]["attempt"], 1);

    // What is not let end in time goes back: the second signal ends the grace.
    std::fs::remove_file(traces.join("gate")).expect("no gate");
    site.script("h", &json!([step("effect", &json!(null), &json!({"initial-interval-ms": 1}))]));
    until("it runs", || traces_of(&traces, "effect").len() == 3);
    next.signal("TERM");
    until("it stops", || next.said().contains("stopping"));
    assert!(next.stop().success());
    std::fs::write(traces.join("gate"), "").expect("a gate");
    let _last = Python::worker(&site, &traces, 1);
    assert_eq!(site.ended("h")["result"]["seen"][0]["ok"]["attempt"], 2);
    site.verified();
}

#[test]
fn deferred_activities_are_answered_from_the_command_line() {
    let (site, traces) = site();
    let mut worker = Python::worker(&site, &traces, 4);
    let deferred = |id: &str, options: &Value| {
        let before = traces_of(&traces, "deferred").len();
        site.script(id, &json!([step("later", &json!(null), options)]));
        until("it is deferred", || traces_of(&traces, "deferred").len() > before);
        let token = traces_of(&traces, "deferred")[before]["token"].as_str().expect("a token").to_owned();
        until("the worker let go of it", || {
            let (_, pending) = site.get(&format!("/activities/pending?workflow_id={id}"));
            pending["activities"][0]["state"] == "running" && pending["activities"][0]["worker"].is_null()
        });
        token
    };
    let completed = deferred("c", &json!({}));
    let failed = deferred("f", &json!({}));
    let again = deferred("a", &json!({"max-attempts": 2, "initial-interval-ms": 60_000}));
    assert!(worker.stop().success());

    let beaten = site.json(&["activity", "heartbeat", &completed, "--details", r#"{"at": 1}"#]);
    assert_eq!(beaten, json!({"cancel_requested": false, "gone": false}));
    let (code, out, err) = site.cli(&["activity", "complete", &completed, "--result", r#"{"by": "hand"}"#]);
    assert_eq!((code, out.trim()), (OK, "completed"), "{err}");
    assert_eq!(site.ended("c")["result"]["seen"][0]["ok"], json!({"by": "hand"}));
    let (code, _, err) = site.cli(&["activity", "complete", &completed, "--result", "2"]);
    assert!(code == CONFLICT && err.contains("superseded"), "{code} {err}");
    let (_, out, _) = site.cli(&["activity", "heartbeat", &completed]);
    assert!(out.contains("nobody waits"), "{out}");

    let message = ["--code", "no", "--message", "by hand", "--permanent", "--details", "[1]"];
    let (code, out, err) = site.cli(&[&["activity", "fail", &failed][..], &message].concat());
    assert_eq!((code, out.trim()), (OK, "failed, for good"), "{err}");
    let told = &site.ended("f")["result"]["seen"][0]["err"];
    assert_eq!((&told["code"], &told["message"]), (&json!("no"), &json!("by hand")), "{told}");

    assert_eq!(site.cli(&["activity", "fail", &again, "--code", "busy", "--message", "not now"]).0, OK);
    until("it waits for its next attempt", || {
        site.json(&["activity", "list", "--pending"])["activities"][0]["state"] == "backing-off"
    });
    let (code, out, err) = site.cli(&["activity", "list", "--pending", "--workflow-id", "a"]);
    let row = out.lines().nth(1).unwrap_or_default();
    let words = ["a ", "later", "backing-off", "2/2", "busy: not now", "in 5", "default"];
    assert!(code == OK && words.iter().all(|word| row.contains(word)), "{out}{err}");

    for (args, code) in [
        (&["activity", "complete", "junk"][..], NOT_FOUND),
        (&["activity", "complete", "junk", "--result", "{"], USAGE),
        (&["activity", "fail", "junk", "--details", "nul"], USAGE),
        (&["activity", "heartbeat", "ffff-1-1-0000000000000001"], NOT_FOUND),
        (&["activity", "list"], USAGE),
        (&["activity", "list", "--pending", "--workflow-id", "nobody"], NOT_FOUND),
        (&["task-queue", "describe"], USAGE),
        (&["worker", "frobnicate"], USAGE),
    ] {
        let (got, out, err) = site.cli(args);
        assert_eq!(got, code, "{args:?}: {out}{err}");
    }
    site.verified();
}

#[test]
fn queues_and_workers_are_listed() {
    let (site, traces) = site();
    let (code, out, err) = site.cli(&["worker", "list"]);
    assert!(code == OK && out.is_empty() && err.contains("no worker"), "{out}{err}");
    assert_eq!(site.json(&["task-queue", "list"]), json!({"task_queues": []}));
    let nobody = json!({"task-queue": "elsewhere"});
    site.script("q", &json!([step("effect", &json!(null), &nobody)]));
    until("it waits", || site.json(&["task-queue", "describe", "elsewhere"])["backlog"] == 1);
    let (_, out, _) = site.cli(&["task-queue", "describe", "elsewhere"]);
    for words in ["elsewhere", "1, the oldest", "no worker has asked", "effect"] {
        assert!(out.contains(words), "{out}");
    }
    let (_, out, _) = site.cli(&["show", "q"]);
    assert!(out.contains("elsewhere"), "{out}");
    let _worker = Python::worker(&site, &traces, 4);
    until("it polls", || site.json(&["task-queue", "describe", "default"])["pollers"] == 1);
    site.script("r", &json!([step("effect", &json!(null), &json!({}))]));
    until("it is busy", || site.json(&["worker", "list"])["workers"][0]["state"] == "busy");
    let (_, out, _) = site.cli(&["worker", "list"]);
    let row = out.lines().nth(1).unwrap_or_default();
    for words in ["busy", "default", "effect", "  1  ", "ago", "relive-python/"] {
        assert!(row.contains(words), "{out}");
    }
    let (_, out, _) = site.cli(&["task-queue", "list"]);
    assert_eq!(out.lines().count(), 3, "{out}");
    std::fs::write(traces.join("gate"), "").expect("a gate");
    site.ended("r");
}
