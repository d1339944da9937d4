//! `relive worker --type NAME --exec CMD`: commands as activities, with real processes.

mod common;

use std::process::{Child, Command, Stdio};

use common::{Site, relive, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

/// A worker process; asked to stop in the end, and killed if it does not.
struct Worker(Option<Child>);

impl Worker {
    fn start(site: &Site, commands: &[(&str, &str)]) -> Self {
        let mut command = Command::new(relive());
        let server = format!("http://{}", site.host.address);
        command.args(["worker", "--server", &server, "--concurrency", "1"]);
        for (name, line) in commands {
            command.args(["--type", name, "--exec", line]);
        }
        let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("a worker");
        Self(Some(child))
    }

    /// Ends in good order; its exit code.
    fn stop(mut self) -> Option<i32> {
        let mut child = self.0.take().expect("it runs");
        kill_process(Pid::from_child(&child), Signal::TERM).expect("it is there");
        child.wait().expect("it ends").code()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn commands_get_json_and_give_json() {
    let site = Site::with(&["script"]);
    let env = r#"printf '{"key":"%s","attempt":%s}' "$RELIVE_IDEMPOTENCY_KEY" "$RELIVE_ATTEMPT""#;
    let worker = Worker::start(
        &site,
        &[
            ("shout", "tr a-z A-Z"),
            ("env", env),
            ("quiet", "true"),
            ("junk", "echo no JSON"),
            ("broken", "echo why >&2; exit 3"),
        ],
    );
    let step = |name: &str| json!({"activity": {"name": name, "input": "abc", "options": {"max-attempts": 2, "initial-interval-ms": 1}}});
    site.script("w", &json!([step("shout"), step("env"), step("quiet"), step("junk"), step("broken")]));
    let view = site.ended("w");
    let seen = &view["result"]["seen"];
    assert_eq!(seen[0]["ok"], "ABC", "{view:#}");
    assert_eq!(seen[1]["ok"]["attempt"], 1, "{view:#}");
    assert!(seen[1]["ok"]["key"].as_str().is_some_and(|key| key.starts_with("default:w:") && key.ends_with(":2")));
    assert!(seen[2]["ok"].is_null(), "{view:#}");
    assert_eq!(seen[3]["err"]["code"], "not-json", "{view:#}");
    assert_eq!((&seen[4]["err"]["code"], &seen[4]["err"]["message"]), (&json!("exit-3"), &json!("why")), "{view:#}");
    let workers = site.json(&["worker", "list"]);
    assert_eq!(workers["workers"][0]["state"], "ready", "{workers:#}");
    assert_eq!(worker.stop(), Some(0));
    let workers = site.json(&["worker", "list"]);
    assert_eq!(workers["workers"][0]["ended"], "stopped", "{workers:#}");
    site.verified();
}

#[test]
fn a_command_that_nobody_waits_for_is_ended_with_what_it_started() {
    let site = Site::with(&["script"]);
    let mark = site.dir.path().join("pid");
    // The shell's own child is what has to go.
    let line = format!("sh -c 'echo $$ > {} && exec sleep 1000'", mark.display());
    let _worker = Worker::start(&site, &[("sleep", &line)]);
    let options = json!({"max-attempts": 1, "heartbeat-timeout-ms": 600, "cancellation": "try"});
    site.script("w", &json!([
        {"activity": {"name": "sleep", "as": "s", "options": options}}, {"message": {"channel": "go"}}, {"cancel": "s"},
    ]));
    until("the command runs", || std::fs::read_to_string(&mark).is_ok_and(|text| text.ends_with('\n')));
    let pid: i32 = std::fs::read_to_string(&mark).expect("a file").trim().parse().expect("a pid");
    let runs = || rustix::process::test_kill_process(Pid::from_raw(pid).expect("a pid")).is_ok();
    assert!(runs());
    site.post("/executions/w/signals/go", &json!({"input": 1}));
    site.ended("w");
    until("the command is gone", || !runs());
    site.verified();
}

#[test]
fn operators_hold_an_activity_back_and_let_it_go() {
    let site = Site::with(&["script"]);
    site.script("w", &json!([{"activity": {"name": "shout", "input": "abc"}}]));
    let told = |args: &[&str]| {
        let (code, out, err) = site.cli(args);
        assert_eq!(code, 0, "{args:?}: {out}{err}");
        out
    };
    until("the step is there", || site.cli(&["activity", "pause", "w", "1", "--note", "wait"]).0 == 0);
    assert!(told(&["activity", "list", "--pending"]).contains("paused"));
    assert!(told(&["show", "w"]).contains("paused by an operator"));
    told(&["activity", "update", "w", "1", "--start-to-close-ms", "60000", "--maximum-attempts", "3"]);
    told(&["activity", "reset", "w", "1"]);
    let worker = Worker::start(&site, &[("shout", "tr a-z A-Z")]);
    told(&["activity", "resume", "w", "1"]);
    assert_eq!(site.ended("w")["result"]["seen"][0]["ok"], "ABC");
    assert_eq!(worker.stop(), Some(0));
    let (code, _, err) = site.cli(&["activity", "pause", "w", "1"]);
    assert!(code == 4 && err.contains("ended"), "{code} {err}");
    assert!(told(&["history", "w"]).contains("CommandIssued"));
    site.verified();
}

#[test]
fn a_command_line_that_makes_no_sense_is_refused() {
    let site = Site::with(&[]);
    for args in [&["worker"][..], &["worker", "--type", "a"], &["worker", "--exec", "true"]] {
        let (code, _, err) = site.cli(args);
        assert_eq!(code, 2, "{args:?}: {err}");
    }
    let (code, _, err) = site.cli(&["worker", "--type", "a", "--type", "b", "--exec", "true"]);
    assert!(code == 2 && err.contains("--exec"), "{code} {err}");
}
