//! The examples from end to end, through the binary as a user types it: what each verb prints, and its exit code.

mod common;
#[path = "../../sandbox/tests/support/mod.rs"]
mod guest_text;

use std::{collections::BTreeMap, time::Duration};

use common::{Site, cli, until};
use guest_text::{DONE, GuestText, TIMER, WAITING};
use relive_testkit::guests;
use serde_json::{Value, json};

const OK: i32 = 0;
const USAGE: i32 = 2;
const NOT_FOUND: i32 = 3;
const CONFLICT: i32 = 4;
const UNSUCCESSFUL: i32 = 5;
const FINDINGS: i32 = 6;
const UNREACHABLE: i32 = 7;
const TIMEOUT: i32 = 8;

fn order(card: &str, pause_ms: u64) -> String {
    let order =
        json!({"order_id": "o-1", "sku": "tea", "quantity": 2, "card": card, "cents": 1299, "pause_ms": pause_ms});
    order.to_string()
}

/// Attempts and names by idempotency key, as the activities wrote them down.
fn ledger(site: &Site) -> BTreeMap<String, Vec<String>> {
    let text = std::fs::read_to_string(site.example("order").join("ledger/ledger.txt")).unwrap_or_default();
    let mut by_key: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in text.lines() {
        let (key, rest) = line.split_once(' ').expect("a key");
        let name = rest.split_once(' ').expect("an attempt and a name").1;
        by_key.entry(key.to_owned()).or_default().push(name.to_owned());
    }
    by_key
}

/// The names of the effects of an execution, in the order of its steps; each was made once.
fn effects(site: &Site, id: &str) -> Vec<String> {
    let mut steps: Vec<(u64, String)> = Vec::new();
    for (key, names) in ledger(site) {
        assert_eq!(names.len(), 1, "{key}: {names:?}");
        let parts: Vec<&str> = key.split(':').collect();
        if parts[1] == id {
            steps.push((parts[3].parse().expect("a command number"), names[0].clone()));
        }
    }
    steps.sort();
    steps.into_iter().map(|(_, name)| name).collect()
}

fn step<'a>(detail: &'a Value, name: &str) -> &'a Value {
    let steps = detail["steps"].as_array().expect("steps");
    steps.iter().find(|step| step["name"] == name).unwrap_or_else(|| panic!("no step {name}: {detail:#}"))
}

#[test]
fn hello_through_every_verb() {
    let site = Site::with(&["hello"]);
    let (code, out, _) = site.cli(&["start", "hello", "--id", "h", "--input", r#"{"name": "Ada"}"#, "--wait"]);
    assert_eq!((code, out.trim()), (OK, r#"{"greeting":"Hello, Ada!"}"#));
    assert_eq!(site.json(&["result", "h"])["result"], json!({"greeting": "Hello, Ada!"}));
    let (code, out, _) = site.cli(&["result", "h", "--wait"]);
    assert_eq!((code, out.trim()), (OK, r#"{"greeting":"Hello, Ada!"}"#));

    let (code, out, _) = site.cli(&["show", "h"]);
    assert!(code == OK && out.contains("hello") && out.contains("completed"), "{out}");
    assert_eq!(site.json(&["show", "h"])["status"], "completed");
    let (code, out, _) = site.cli(&["query", "h", "greeting"]);
    assert_eq!((code, out.trim()), (OK, r#""Hello, Ada!""#));
    assert_eq!(site.cli(&["query", "h", "farewell"]).0, NOT_FOUND);

    let history = site.json(&["history", "h"]);
    let types: Vec<_> = history["events"].as_array().expect("events").iter().map(|e| e["event_type"].clone()).collect();
    assert_eq!(types, ["ExecutionStarted", "ExecutionCompleted"]);
    let (code, compact, _) = site.cli(&["history", "h", "--compact"]);
    let (_, full, _) = site.cli(&["history", "h"]);
    assert!(code == OK && compact.contains("ExecutionCompleted") && !compact.contains("Ada"), "{compact}");
    assert!(full.contains("Hello, Ada!") && full.contains(history["fingerprint"].as_str().expect("one")), "{full}");

    let (code, out, _) = site.cli(&["replay", "h"]);
    assert!(code == OK && out.contains("code and history agree"), "{out}");
    let (code, out, _) = site.cli(&["verify", "h"]);
    assert!(code == OK && out.contains("0 findings"), "{out}");
    let (code, out, _) = site.cli(&["list"]);
    assert!(code == OK && out.contains("completed"), "{out}");
    assert_eq!(site.json(&["list", "--status", "running"])["executions"], json!([]));
    // The id is free again; another run under it is another run.
    assert_eq!(site.cli(&["start", "hello", "--id", "h", "--input", r#"{"name": "Bob"}"#, "--wait"]).0, OK);
    assert_eq!(site.json(&["list", "--id", "h"])["executions"].as_array().expect("runs").len(), 2);
    let wasm = guests::folder().join("hello/hello.wasm").display().to_string();
    let (code, out, _) = site.cli(&["inspect", &wasm]);
    assert!(code == OK && out.contains("hello"), "{out}");
    assert_eq!(site.cli(&["deploy", &wasm, "--name", "greet"]).0, OK);
    assert!(site.cli(&["workflows"]).1.contains("greet"));
    assert_eq!(site.cli(&["start", "greet", "--input", r#"{"name": "Eve"}"#, "--wait"]).0, OK);
}

#[test]
fn an_order_that_goes_well() {
    let site = Site::with(&["order"]);
    let (code, out, err) = site.cli(&["start", "order", "--id", "o", "--input", &order("4242", 5), "--wait", "--json"]);
    assert_eq!(code, OK, "{out}{err}");
    let view: Value = serde_json::from_str(&out).expect("JSON");
    let receipt = &view["result"];
    assert_eq!((&view["status"], &receipt["order_id"]), (&json!("completed"), &json!("o-1")));
    assert!(receipt["tracking"].as_str().is_some_and(|t| t.starts_with("tracking-o-")), "{receipt}");
    let made = effects(&site, "o");
    assert_eq!(made, ["reserve", "charge", "ship", "email", "sms"]);
    assert_eq!(site.json(&["query", "o", "status"])["value"], "completed");

    let shown = site.json(&["show", "o"]);
    for name in ["reserve", "charge", "ship", "email", "sms"] {
        assert_eq!((&step(&shown, name)["state"], &step(&shown, name)["attempts"]), (&json!("completed"), &json!(1)));
    }
    // The customer is told twice at once: both are scheduled before either is done.
    let (email, sms) = (step(&shown, "email"), step(&shown, "sms"));
    let event = |step: &Value, which: &str| step[which].as_u64().expect("an event");
    let first_done = event(email, "resolved_event").min(event(sms, "resolved_event"));
    assert!(event(email, "scheduled_event") < first_done && event(sms, "scheduled_event") < first_done, "{shown:#}");

    // At any event: before the charge was made, the order was being charged.
    let charge = event(step(&shown, "charge"), "scheduled_event");
    let then = site.json(&["state", "o", "--at", &charge.to_string()]);
    assert_eq!((&then["at"], &then["published"]["status"]), (&json!(charge), &json!("charging")), "{then:#}");
    assert_eq!(step(&then, "reserve")["state"], "completed");
    assert!(
        then["open_promises"].as_array().is_some_and(|open| open.iter().any(|p| p["name"] == "charge")),
        "{then:#}"
    );
    let (code, out, _) = site.cli(&["state", "o", "--at", "3"]);
    assert!(code == OK && !out.is_empty());

    let replay = site.json(&["replay", "o"]);
    assert_eq!((&replay["agrees"], &replay["commands"]), (&json!(true), &shown["commands"]), "{replay}");
    assert_eq!(site.json(&["replay", "o", "--to", "5"])["agrees"], true);
    let (code, out, _) = site.cli(&["verify", "--all"]);
    assert!(code == OK && out.contains("0 findings"), "{out}");
    assert_eq!(effects(&site, "o"), made, "replaying has no effects");
}

#[test]
fn a_declined_card_releases_the_reservation() {
    let site = Site::with(&["order"]);
    let (code, out, err) = site.cli(&["start", "order", "--id", "d", "--input", &order("40000002", 0), "--wait"]);
    assert_eq!(code, UNSUCCESSFUL, "{out}{err}");
    assert!(err.contains("card-declined") && out.trim().is_empty(), "stdout {out} stderr {err}");
    let view = site.json_with(&["result", "d"], UNSUCCESSFUL);
    assert_eq!((&view["status"], &view["failure"]["code"]), (&json!("failed"), &json!("card-declined")));
    assert_eq!(effects(&site, "d"), ["reserve", "release"]);
    let shown = site.json(&["show", "d"]);
    assert_eq!((&step(&shown, "charge")["state"], &step(&shown, "charge")["attempts"]), (&json!("failed"), &json!(1)));
    assert_eq!(site.json(&["query", "d", "status"])["value"], "failed");
    assert_eq!(site.cli(&["replay", "d"]).0, OK);
    assert_eq!(site.cli(&["verify", "--all"]).0, OK);
}

#[test]
fn killed_in_the_pause_an_order_goes_on_where_it_was() {
    let mut site = Site::with(&["order"]);
    let pauses = ["reserving", "charging", "shipping", "notifying"];
    assert_eq!(site.cli(&["start", "order", "--id", "k", "--input", &order("4242", 700)]).0, OK);
    for status in pauses {
        until(&format!("the pause before {status}"), || site.get("/executions/k/queries/status").1["value"] == status);
        let before = site.json(&["show", "k"]);
        site = site.restart();
        let after = site.json(&["show", "k"]);
        assert_eq!(before["run_id"], after["run_id"]);
        assert!(after["events"].as_u64() >= before["events"].as_u64(), "{before} {after}");
    }
    // Waiting survives the host as well.
    let address = site.host.address.clone();
    let (code, out, err) = cli(&address, &["result", "k", "--wait", "--timeout", "60s"]);
    assert_eq!(code, OK, "{out}{err}");
    assert_eq!(effects(&site, "k"), ["reserve", "charge", "ship", "email", "sms"]);
    assert_eq!(site.cli(&["replay", "k"]).0, OK);
    site.verified();
}

#[test]
fn canceled_an_order_cleans_up_and_terminated_it_does_not() {
    let site = Site::with(&["order"]);
    for id in ["c", "t"] {
        assert_eq!(site.cli(&["start", "order", "--id", id, "--input", &order("4242", 600)]).0, OK);
        until("the second pause", || site.get(&format!("/executions/{id}/queries/status")).1["value"] == "charging");
        let verb = if id == "c" { "cancel" } else { "terminate" };
        let (code, out, err) = site.cli(&[verb, id, "--reason", "changed my mind"]);
        assert_eq!(code, OK, "{out}{err}");
        assert_eq!(site.cli(&["result", id, "--wait", "--timeout", "30s"]).0, UNSUCCESSFUL);
    }
    assert_eq!(site.json_with(&["result", "c"], UNSUCCESSFUL)["status"], "canceled");
    assert_eq!(site.json_with(&["result", "t"], UNSUCCESSFUL)["status"], "terminated");
    assert_eq!(effects(&site, "c"), ["reserve", "release"]);
    assert_eq!(effects(&site, "t"), ["reserve"]);
    assert!(site.cli(&["history", "c"]).1.contains("changed my mind"));
    // Closed is closed.
    assert_eq!(site.cli(&["cancel", "c"]).0, CONFLICT);
    assert_eq!(site.cli(&["terminate", "t"]).0, CONFLICT);
    assert_eq!(site.cli(&["signal", "t", "x"]).0, CONFLICT);
    site.verified();
}

/// A guest that sets a timer of so many nanoseconds and completes when it fires.
fn sleeper(nanos: u32) -> Vec<u8> {
    let start = format!("(call $timer (i64.const {nanos}) (i32.const 768)) {WAITING}");
    GuestText { imports: TIMER, start: start.leak(), resume: DONE, ..GuestText::default() }.component()
}

#[test]
fn other_code_diverges_and_the_report_says_where() {
    let site = Site::with(&["hello"]);
    let file = |name: &str, bytes: &[u8]| {
        let path = site.dir.path().join(name);
        std::fs::write(&path, bytes).expect("a file");
        path.display().to_string()
    };
    let (one, two) = (file("one.wasm", &sleeper(1_000_000)), file("two.wasm", &sleeper(2_000_000)));
    assert_eq!(site.cli(&["deploy", &one]).0, OK);
    let (code, out, err) = site.cli(&["start", "demo", "--id", "s", "--wait"]);
    assert_eq!((code, out.trim()), (OK, r#""demo""#), "{err}");
    let (code, out, _) = site.cli(&["replay", "s", "--wasm", &one]);
    assert!(code == OK && out.contains("code and history agree"), "{out}");
    let (code, out, _) = site.cli(&["replay", "s", "--wasm", &two]);
    assert_eq!(code, FINDINGS, "{out}");
    for text in ["diverge at command 1", "history holds", "the code asks", "1ms", "2ms"] {
        assert!(out.contains(text), "no {text:?} in {out}");
    }
    let report = site.json_with(&["replay", "s", "--wasm", &two], FINDINGS);
    assert_eq!((&report["agrees"], &report["divergence"]["command_no"]), (&json!(false), &json!(1)), "{report}");
    // Code that has no such workflow cannot be compared.
    let hello = guests::folder().join("hello/hello.wasm").display().to_string();
    let (code, out, err) = site.cli(&["replay", "s", "--wasm", &hello]);
    assert!(code == FINDINGS && out.contains("unknown-workflow"), "{code} {out} {err}");
    // Nothing of it touched the execution.
    assert_eq!(site.cli(&["replay", "s"]).0, OK);
    site.verified();
}

#[test]
fn exit_codes_are_what_the_help_says() {
    let site = Site::with(&["script"]);
    let (code, help, _) = site.cli(&["--help"]);
    assert!(code == OK && help.contains("Exit codes:"), "{help}");
    assert_eq!(site.cli(&["frobnicate"]).0, USAGE);
    assert_eq!(site.cli(&["start", "script", "--input", "{"]).0, USAGE);
    assert_eq!(site.cli(&["start", "nobody"]).0, NOT_FOUND);
    assert_eq!(site.cli(&["show", "nobody"]).0, NOT_FOUND);
    let program = r#"{"program": [{"message": {"channel": "go"}}]}"#;
    assert_eq!(site.cli(&["start", "script", "--id", "w", "--input", program]).0, OK);
    assert_eq!(site.cli(&["start", "script", "--id", "w", "--input", program]).0, CONFLICT);
    assert_eq!(site.cli(&["result", "w", "--wait", "--timeout", "50ms"]).0, TIMEOUT);
    let (code, out, _) = site.cli(&["result", "w"]);
    assert_eq!((code, out.trim()), (OK, "running"));
    assert_eq!(site.cli(&["signal", "w", "go", "--input", "{\"x\": 1}", "--message-id", "m"]).0, OK);
    assert_eq!(site.cli(&["result", "w", "--wait", "--timeout", "20s"]).0, OK);
    // Port 1 is nobody's.
    assert_eq!(cli("127.0.0.1:1", &["list"]).0, UNREACHABLE);
    let mut host = site.host;
    let stop = std::process::Command::new("kill").args(["-TERM", &host.pid().to_string()]).status();
    assert!(stop.is_ok_and(|status| status.success()));
    let status = host.status_within(Duration::from_secs(30)).expect("the host ends");
    assert_eq!(status.code(), Some(OK), "asked to end, it ends in good order");
}
