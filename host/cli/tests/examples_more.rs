//! The examples about waiting, width and length, from end to end through the binary: approval, fan-out, long-runner.

mod common;

use std::collections::BTreeMap;

use common::{Site, until};
use relive_testkit::guests;
use serde_json::{Value, json};

const OK: i32 = 0;
const NOT_FOUND: i32 = 3;
const UNSUCCESSFUL: i32 = 5;

/// 100,000 of them take minutes in the build that tests use. Still more events than a run may have by default.
const LONG: u32 = 26_000;

fn eligible(site: &Site, example: &str, component: &str) {
    let wasm = guests::folder().join(example).join(component).display().to_string();
    let inspected = site.json(&["inspect", &wasm]);
    assert_eq!(inspected["memory_images"], json!({"eligible": true, "reason": null}), "{wasm}");
}

/// `replay` agrees and the checker finds nothing.
fn true_to_its_history(site: &Site, id: &str) {
    let replay = site.json(&["replay", id]);
    assert_eq!(replay["agrees"], true, "{replay}");
    site.verified();
}

fn events<'a>(history: &'a Value, event_type: &str) -> Vec<&'a Value> {
    let events = history["events"].as_array().expect("events").iter();
    events.filter(|event| event["event_type"] == event_type).collect()
}

fn ask(site: &Site, id: &str, timeout_ms: u64) {
    let request = json!({"subject": "a bicycle", "requested_by": "Ada", "approver": "Grace", "timeout_ms": timeout_ms})
        .to_string();
    assert_eq!(site.cli(&["start", "approval", "--id", id, "--input", &request]).0, OK);
}

fn waiting(site: &Site, id: &str) {
    until(&format!("{id} waits for a decision"), || {
        site.get(&format!("/executions/{id}/queries/approval")).1["value"]["phase"] == "waiting"
    });
}

/// What was written for an execution, in the order of its steps; each letter once.
fn letters(site: &Site, id: &str) -> Vec<String> {
    let text = std::fs::read_to_string(site.example("approval").join("outbox/letters.txt")).unwrap_or_default();
    let mut by_step = BTreeMap::new();
    for line in text.lines() {
        let (key, letter) = line.split_once(' ').expect("a key");
        let parts: Vec<&str> = key.split(':').collect();
        if parts[1] == id {
            let step: u64 = parts[3].parse().expect("a command number");
            assert!(by_step.insert(step, letter.to_owned()).is_none(), "twice: {line}");
        }
    }
    by_step.into_values().collect()
}

#[test]
fn an_approval_is_given_refused_or_late() {
    let site = Site::with(&["approval"]);
    eligible(&site, "approval", "approval_workflow.wasm");
    for (id, decision, outcome, told) in [
        ("yes", r#"{"approved": true, "comment": "with a bell"}"#, "approved", "Ada: approved: a bicycle"),
        ("no", r#"{"approved": false}"#, "rejected", "Ada: rejected: a bicycle"),
    ] {
        ask(&site, id, 3_600_000);
        waiting(&site, id);
        assert_eq!(site.json(&["query", id, "approval"])["value"]["approver"], "Grace");
        let (code, _, err) = site.cli(&["signal", id, "decisions", "--input", decision]);
        assert!(code == NOT_FOUND && err.contains("decision"), "{code} {err}");
        // No decision, and no reason to give up.
        assert_eq!(site.cli(&["signal", id, "decision", "--input", r#"{"maybe": 1}"#]).0, OK);
        assert_eq!(site.cli(&["signal", id, "decision", "--input", decision]).0, OK);
        let (code, _, err) = site.cli(&["result", id, "--wait", "--timeout", "60s"]);
        assert_eq!(code, OK, "{err}");
        assert_eq!(site.json(&["result", id])["result"]["outcome"], outcome);
        assert_eq!(site.json(&["query", id, "approval"])["value"], json!({"phase": "decided", "outcome": outcome}));
        assert_eq!(letters(&site, id), ["Grace: please approve: a bicycle", told]);
        assert!(site.cli(&["logs", id]).1.contains("not a decision"));
        let history = site.json(&["history", id]);
        assert_eq!((events(&history, "TimerCreated").len(), events(&history, "TimerFired").len()), (1, 0));
        true_to_its_history(&site, id);
    }
    assert_eq!(site.json(&["result", "yes"])["result"]["comment"], "with a bell");

    ask(&site, "late", 30);
    let (code, out, err) = site.cli(&["result", "late", "--wait", "--timeout", "60s"]);
    assert_eq!(code, OK, "{out}{err}");
    assert_eq!(site.json(&["result", "late"])["result"]["outcome"], "timed-out");
    let told = ["Grace: please approve: a bicycle", "Grace: too late: a bicycle", "Ada: nobody answered: a bicycle"];
    assert_eq!(letters(&site, "late"), told);
    true_to_its_history(&site, "late");
}

#[test]
fn an_approval_outlives_the_host_and_can_be_withdrawn() {
    let mut site = Site::with(&["approval"]);
    ask(&site, "late", 1_500);
    for id in ["kept", "withdrawn"] {
        ask(&site, id, 3_600_000);
        waiting(&site, id);
    }
    let before = site.json(&["query", "kept", "approval"]);
    site = site.restart();
    assert_eq!(site.json(&["query", "kept", "approval"]), before, "the deadline is the same");
    assert_eq!(site.cli(&["signal", "kept", "decision", "--input", r#"{"approved": true}"#]).0, OK);
    assert_eq!(site.cli(&["cancel", "withdrawn", "--reason", "bought one"]).0, OK);
    assert_eq!(site.ended("kept")["result"]["outcome"], "approved");
    assert_eq!(site.ended("late")["result"]["outcome"], "timed-out");
    assert_eq!(site.ended("withdrawn")["status"], "canceled");
    assert_eq!(site.cli(&["result", "withdrawn"]).0, UNSUCCESSFUL);
    assert_eq!(letters(&site, "withdrawn"), ["Grace: please approve: a bicycle", "Grace: no longer needed: a bicycle"]);
    for id in ["kept", "late", "withdrawn"] {
        true_to_its_history(&site, id);
    }
}

/// What the activity of `fan-out` should answer.
fn digest(item: u32, rounds: u32) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for _ in 0..rounds {
        for byte in item.to_le_bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    format!("{hash:016x}")
}

fn digests(rounds: u32) -> Value {
    let digests: Vec<Value> =
        (0..100).map(|item| json!({"item": item, "digest": digest(item, rounds * (100 - item))})).collect();
    json!({ "digests": digests })
}

#[test]
fn a_hundred_at_once_answer_in_the_order_of_the_inputs() {
    let site = Site::with(&["fan-out"]);
    eligible(&site, "fan-out", "fan_out_workflow.wasm");
    let (code, _, err) = site.cli(&["start", "fan-out", "--id", "f", "--input", "{}", "--wait"]);
    assert_eq!(code, OK, "{err}");
    assert_eq!(site.json(&["result", "f"])["result"], digests(1_000));
    assert_eq!(site.json(&["query", "f", "done"])["value"], 100);
    let history = site.json(&["history", "f"]);
    let (scheduled, completed) = (events(&history, "TaskScheduled"), events(&history, "TaskCompleted"));
    assert_eq!((scheduled.len(), completed.len()), (100, 100));
    let id = |event: &Value| event["event_id"].as_u64().expect("an id");
    let first_end = completed.iter().map(|e| id(e)).min().expect("one");
    assert!(scheduled.iter().all(|e| id(e) < first_end), "all are under way before one has ended");
    true_to_its_history(&site, "f");
    let (code, _, err) = site.cli(&["start", "fan-out", "--input", r#"{"count": 1001}"#, "--wait"]);
    assert!(code == UNSUCCESSFUL && err.contains("too-many"), "{err}");
}

#[test]
fn killed_among_a_hundred_the_rest_is_done_once_more_and_the_ended_are_not() {
    let mut site = Site::with(&["fan-out"]);
    let input = r#"{"rounds": 20000}"#;
    assert_eq!(site.cli(&["start", "fan-out", "--id", "k", "--input", input]).0, OK);
    until("some have ended", || site.get("/executions/k/queries/done").1["value"].as_u64() >= Some(10));
    site = site.restart();
    assert_eq!(site.ended("k")["result"], digests(20_000));
    let history = site.json(&["history", "k"]);
    assert_eq!((events(&history, "TaskScheduled").len(), events(&history, "TaskCompleted").len()), (100, 100));
    true_to_its_history(&site, "k");
}

/// What so many steps of `long-runner` come to.
fn value_after(steps: u32) -> u32 {
    (0..steps).fold(0_u32, |value, _| value.wrapping_mul(1_664_525).wrapping_add(1_013_904_223))
}

#[test]
fn a_long_run_with_raised_limits_survives_a_kill_in_the_middle() {
    const RAISED: &[(&str, &str)] = &[("RELIVE_MAX_HISTORY_EVENTS", "400000"), ("RELIVE_MAX_HISTORY_MB", "200")];
    let mut site = Site::with_options(&["long-runner"], RAISED);
    eligible(&site, "long-runner", "long_runner_workflow.wasm");
    let input = json!({"steps": LONG}).to_string();
    assert_eq!(site.cli(&["start", "long-runner", "--id", "l", "--input", &input]).0, OK);
    let progress = |site: &Site| site.get("/executions/l/queries/progress").1["value"].as_u64();
    until("the middle", || progress(&site) >= Some(u64::from(LONG / 2)));
    let before = site.json(&["show", "l"]);
    site = site.restart();
    let after = site.json(&["show", "l"]);
    assert_eq!(before["run_id"], after["run_id"], "one run");
    assert!(after["events"].as_u64() >= before["events"].as_u64(), "{before} {after}");
    let status = || site.host.call("GET", "/v1/status", b"").expect("an answer").1;
    until("the guest is back", || status()["images"]["laid"] == 1);
    assert_eq!(status()["relives"], 0, "what it did before the last image was not done again: {}", status());
    let ended = site.ended("l");
    assert_eq!(ended["result"], json!({"steps": LONG, "value": value_after(LONG)}), "{ended}");
    assert_eq!(progress(&site), Some(u64::from(LONG / 1_000 * 1_000)));
    let shown = site.json(&["show", "l"]);
    assert!(shown["events"].as_u64() > Some(51_200), "more than a run may have by default: {shown}");
    true_to_its_history(&site, "l");
}

#[test]
fn a_run_that_reaches_its_limit_says_so_and_keeps_it() {
    let site = Site::with_options(&["long-runner"], &[("RELIVE_MAX_HISTORY_EVENTS", "100")]);
    assert_eq!(site.cli(&["start", "long-runner", "--id", "l", "--input", r#"{"steps": 1000}"#]).0, OK);
    let ended = site.ended("l");
    assert_eq!(ended["status"], "blocked", "{ended}");
    let (code, shown, _) = site.cli(&["show", "l"]);
    assert!(code == OK && shown.contains("at most 100 and"), "{shown}");
    let history = site.json(&["history", "l"]);
    assert_eq!(events(&history, "ExecutionStarted")[0]["attributes"]["limits"]["events"], 100, "{history}");
    true_to_its_history(&site, "l");
}
