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

    fn has_ended(&mut self) -> bool {
        self.0.as_mut().is_none_or(|child| child.try_wait().expect("a child").is_some())
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

/// Each attempt takes its worker down. When they are used up the task is there to be seen, and an operator decides: one
/// begins again with a worker that is well, the other is given up.
#[test]
fn a_task_that_kills_its_workers_is_held_until_an_operator_decides() {
    let site = Site::with(&["script"]);
    let step = |attempts: u32| {
        let options =
            json!({"max-attempts": attempts, "initial-interval-ms": 10, "jitter": 0.0, "heartbeat-timeout-ms": 500});
        json!([{"activity": {"name": "poison", "input": 7, "options": options}}])
    };
    site.script("again", &step(2));
    site.script("up", &step(1));
    let poisoned = || Worker::start(&site, &[("poison", "kill -9 $PPID")]);
    let (mut worker, mut killed) = (poisoned(), 0);
    let failed = || site.json(&["failed-tasks", "list"])["failed_tasks"].as_array().expect("tasks").clone();
    until("both are exhausted", || {
        if worker.has_ended() {
            (worker, killed) = (poisoned(), killed + 1);
        }
        failed().len() == 2
    });
    drop(worker);
    assert!(killed >= 2, "{killed} workers were killed");
    let told = |args: &[&str]| {
        let (code, out, err) = site.cli(args);
        assert_eq!(code, 0, "{args:?}: {out}{err}");
        out
    };
    assert!(told(&["failed-tasks", "list"]).contains("poison"));
    assert!(told(&["failed-tasks", "list", "--queue", "default"]).contains("again"));
    assert!(!told(&["failed-tasks", "list", "--queue", "other"]).contains("again"));
    let shown = told(&["show", "again"]);
    assert!(shown.contains("exhausted") && shown.contains("failed-tasks redrive again 1"), "{shown}");
    assert!(told(&["activity", "list", "--pending"]).contains("exhausted"));
    assert_eq!(site.get("/task-queues/default").1["backlog"], 0, "no attempt is due");
    site.verified();

    assert!(told(&["failed-tasks", "give-up", "up", "1", "--note", "not worth it"]).contains("given up"));
    let view = site.ended("up");
    assert_eq!(view["result"]["seen"][0]["err"]["kind"], "timeout", "{view}");
    told(&["failed-tasks", "redrive", "again", "1", "--note", "there is a worker that is well"]);
    let well = Worker::start(&site, &[("poison", "cat")]);
    let view = site.ended("again");
    assert_eq!(view["result"]["seen"][0]["ok"], 7, "{view}");
    assert_eq!(well.stop(), Some(0));
    let history = told(&["history", "again"]);
    assert!(history.contains("TaskExhausted") && history.contains("activity.redrive of #1"), "{history}");
    assert_eq!(failed().len(), 0);
    assert_ne!(site.cli(&["failed-tasks", "redrive", "again", "1"]).0, 0);
    site.verified();
}

#[test]
fn queues_are_limited_from_the_command_line_and_stay_so() {
    let site = Site::with(&["script"]);
    let told = |site: &Site, args: &[&str]| {
        let (code, out, err) = site.cli(&[&["task-queue"], args].concat());
        assert_eq!(code, 0, "{args:?}: {out}{err}");
        out
    };
    assert!(told(&site, &["describe", "default"]).contains("none"));
    let out = told(&site, &["update", "default", "--rate", "0.5", "--burst", "3", "--concurrency", "2"]);
    assert!(out.contains("0.5 a second, bursts of 3; 2 at once"), "{out}");
    // What is not given stays.
    assert!(told(&site, &["update", "default", "--burst", "1"]).contains("0.5 a second, bursts of 1; 2 at once"));
    for n in 0..2 {
        site.script(&format!("w{n}"), &json!([{"activity": {"name": "shout", "input": "a"}}]));
    }
    let worker = Worker::start(&site, &[("shout", "tr a-z A-Z")]);
    until("one of them is held back", || site.get("/task-queues/default").1["held_back"] == "rate");
    assert!(told(&site, &["describe", "default"]).contains("held back now: rate"));
    let waits = site.json(&["list", "--status", "running"])["executions"][0]["workflow_id"].clone();
    let (_, shown, _) = site.cli(&["show", waits.as_str().expect("an id")]);
    assert!(shown.contains("rate limit"), "{shown}");
    drop(worker);
    let site = site.restart();
    assert!(told(&site, &["describe", "default"]).contains("0.5 a second, bursts of 1; 2 at once"));
    let worker = Worker::start(&site, &[("shout", "tr a-z A-Z")]);
    assert!(told(&site, &["update", "default", "--no-rate", "--no-concurrency"]).contains("none"));
    for n in 0..2 {
        assert_eq!(site.ended(&format!("w{n}"))["result"]["seen"][0]["ok"], "A");
    }
    assert_eq!(worker.stop(), Some(0));
    for wrong in [&["--rate", "0"][..], &["--burst", "3"], &["--concurrency", "0"], &[], &["--rate", "1", "--no-rate"]]
    {
        let (code, out, err) = site.cli(&[&["task-queue", "update", "default"], wrong].concat());
        assert_ne!(code, 0, "{wrong:?}: {out}{err}");
    }
    site.verified();
}
