//! The durability point, seen from outside of the process: what the kernel was asked for, in which order (strace), and
//! what happens when it cannot do it (a library that lets syncs fail). `kill -9` keeps the page cache, so crash tests
//! alone do not show this.

mod common;

use std::{process::Command, time::Duration};

use common::{BASE, cli, relive, shim::Shim, until};
use relive_testkit::{guests, process::Host};
use serde_json::{Value, json};

/// Requests that are made while the host is watched: half are starts, half are messages.
const REQUESTS: usize = 40;
const CLIENTS: usize = 4;

fn deploy(host: &Host) {
    let folder = guests::folder().join("script").display().to_string();
    let (code, out, err) = cli(&host.address, &["deploy", &folder]);
    assert_eq!(code, 0, "{out}{err}");
}

fn start(host: &Host, id: &str) -> Result<(u16, Value), String> {
    let program = json!([{"message": {"channel": "a"}}, {"message": {"channel": "a"}}]);
    let body = json!({"workflow": "script", "workflow_id": id, "input": {"program": program}});
    host.call("POST", &format!("{BASE}/executions"), body.to_string().as_bytes())
}

fn send(host: &Host, id: &str, message_id: &str) -> Result<(u16, Value), String> {
    let body = json!({"message_id": message_id, "input": 1});
    host.call("POST", &format!("{BASE}/executions/{id}/signals/a"), body.to_string().as_bytes())
}

fn acknowledged(answer: Result<(u16, Value), String>) {
    let (status, answer) = answer.expect("an answer");
    assert!((200..300).contains(&status), "{status} {answer}");
}

/// What was asked of the kernel: lines of strace, in the order in which it saw them.
struct Trace {
    lines: Vec<String>,
}

impl Trace {
    /// The first line from `from` on where a call to one of `calls` begins and that holds all of `texts`.
    fn find(&self, from: usize, calls: &[&str], texts: &[&str]) -> Option<usize> {
        let begins = |line: &str| {
            let call = line.split_once(' ').map_or("", |(_, rest)| rest.trim_start());
            calls.iter().any(|name| call.strip_prefix(name).is_some_and(|rest| rest.starts_with('(')))
        };
        let from_there = self.lines.iter().enumerate().skip(from);
        from_there
            .into_iter()
            .find(|(_, line)| begins(line) && texts.iter().all(|t| line.contains(t)))
            .map(|(at, _)| at)
    }

    /// Where a sync of the log that begins after line `from` has returned without an error.
    fn synced(&self, from: usize) -> Option<usize> {
        let mut at = from + 1;
        loop {
            at = self.find(at, &["fdatasync", "fsync"], &["relive.db-wal"])?;
            let line = &self.lines[at];
            if line.ends_with("= 0") {
                return Some(at);
            }
            if line.contains("<unfinished") {
                let thread = line.split_whitespace().next()?;
                let rest = self.lines.iter().enumerate().skip(at + 1);
                let mut resumed = rest.filter(|(_, l)| l.starts_with(thread) && l.contains("sync resumed>"));
                if let Some((end, _)) = resumed.next().filter(|(_, l)| l.ends_with("= 0")) {
                    return Some(end);
                }
            }
            at += 1;
        }
    }

    /// The request that `marker` names was written to the log, then synced, and only then answered.
    fn check(&self, marker: &str) {
        let written = self.find(0, &["pwrite64", "write", "pwritev"], &["relive.db-wal", marker]);
        let written = written.unwrap_or_else(|| panic!("{marker} was never written to the log"));
        let synced = self.synced(written).unwrap_or_else(|| panic!("the write of {marker} was never synced"));
        let answer = ["sendto", "write", "writev", "sendmsg"];
        let answered = self.find(0, &answer, &["HTTP/1.1 20", marker]);
        let answered = answered.unwrap_or_else(|| panic!("{marker} was never answered"));
        assert!(
            written < synced && synced < answered,
            "{marker}: written at line {written}, synced at {synced}, answered at {answered}"
        );
    }
}

fn trace(lines: &[&str]) -> Trace {
    Trace { lines: lines.iter().map(|line| (*line).to_owned()).collect() }
}

const WRITE: &str = r#"7 pwrite64(9</d/relive.db-wal>, "..mark..", 4096, 32) = 4096"#;
const SYNC: &str = "7 fdatasync(9</d/relive.db-wal>) = 0";
const ANSWER: &str = r#"8 sendto(12<socket:[1]>, "HTTP/1.1 200 OK.. mark", 99, 0, NULL, 0) = 99"#;

#[test]
fn the_check_accepts_the_right_order() {
    trace(&[SYNC, WRITE, SYNC, ANSWER]).check("mark");
    let begun = "7 fdatasync(9</d/relive.db-wal> <unfinished ...>";
    trace(&[WRITE, begun, "8 write(2, \"x\", 1) = 1", "7 <... fdatasync resumed>) = 0", ANSWER]).check("mark");
}

#[test]
#[should_panic(expected = "answered at 1")]
fn the_check_notices_an_answer_before_the_sync() {
    trace(&[WRITE, ANSWER, SYNC]).check("mark");
}

#[test]
#[should_panic(expected = "answered at 2")]
fn the_check_notices_an_answer_while_the_sync_goes_on() {
    let begun = "7 fdatasync(9</d/relive.db-wal> <unfinished ...>";
    trace(&[WRITE, begun, ANSWER, "7 <... fdatasync resumed>) = 0"]).check("mark");
}

#[test]
#[should_panic(expected = "never synced")]
fn the_check_notices_a_sync_that_failed() {
    trace(&[SYNC, WRITE, "7 fdatasync(9</d/relive.db-wal>) = -1 EIO (Input/output error)", ANSWER]).check("mark");
}

#[test]
fn no_acknowledgement_leaves_before_its_sync_has_returned() {
    let version = Command::new("strace").arg("-V").output();
    assert!(version.is_ok(), "strace is missing. Type: apt-get update && apt-get install -y strace");
    let dir = tempfile::tempdir().expect("a directory");
    let (data, log) = (dir.path().join("data"), dir.path().join("strace"));
    let mut command = Command::new("strace");
    command.args(["-f", "-y", "-s", "5000", "-o"]).arg(&log);
    command.args(["-e", "trace=write,writev,pwrite64,pwritev,sendto,sendmsg,fsync,fdatasync", "-e", "signal=none"]);
    command.arg(relive()).args(Host::arguments(&data));
    let mut host = Host::launch(command, &data).expect("a host under strace");
    deploy(&host);
    let marker = |kind: &str, n: usize| format!("{kind}-{n:03}-of-this-test");
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let host = &host;
            scope.spawn(move || {
                for n in (client..REQUESTS / 2).step_by(CLIENTS) {
                    acknowledged(start(host, &marker("start", n)));
                    acknowledged(send(host, &marker("start", n), &marker("message", n)));
                }
            });
        }
    });
    // The process behind strace, which ends with it.
    let pid = std::fs::read_to_string(data.join("relive.pid")).expect("a process id");
    let _ = Command::new("kill").args(["-TERM", pid.trim()]).status();
    assert!(host.ends_within(Duration::from_secs(60)), "the host does not end");
    let lines = String::from_utf8_lossy(&std::fs::read(&log).expect("a log")).lines().map(str::to_owned).collect();
    let trace = Trace { lines };
    for n in 0..REQUESTS / 2 {
        trace.check(&marker("start", n));
        trace.check(&marker("message", n));
    }
}

#[test]
fn a_failing_sync_ends_the_process_and_nothing_acknowledged_is_lost() {
    use std::os::unix::process::ExitStatusExt;
    let dir = tempfile::tempdir().expect("a directory");
    let (data, disk) = (dir.path().join("data"), Shim::build(dir.path()));
    let mut host = disk.host(&data).expect("a host");
    deploy(&host);
    for n in 0..20 {
        acknowledged(start(&host, &format!("kept-{n}")));
        acknowledged(send(&host, &format!("kept-{n}"), "first"));
    }
    disk.syncs_fail(true);
    std::thread::scope(|scope| {
        for n in 0..CLIENTS {
            let host = &host;
            scope.spawn(move || {
                let answers = [start(host, &format!("lost-{n}")), send(host, &format!("kept-{n}"), "second")];
                for (status, answer) in answers.into_iter().flatten() {
                    assert!(status >= 500, "acknowledged without a sync: {status} {answer}");
                }
            });
        }
    });
    let status = host.status_within(Duration::from_secs(20)).expect("the process ends when a sync fails");
    assert!(!status.success(), "{status}");
    let words = std::fs::read_to_string(data.join("host.log")).expect("the host's last words");
    println!("ended by {status} (signal {:?}); its last words: {words}", status.signal());
    assert!(words.contains("sync"), "the log says why: {words}");
    assert!(disk.host(&data).is_none(), "a disk that cannot sync is nothing to start on");

    disk.syncs_fail(false);
    let host = disk.host(&data).expect("a host");
    for n in 0..20 {
        let id = format!("kept-{n}");
        // The message that was not acknowledged: the same id is the same message, whether it came through or not.
        let answer = send(&host, &id, "second").expect("an answer");
        assert!(answer.0 == 200 || answer.1["code"] == "closed", "{answer:?}");
        let path = format!("{BASE}/executions/{id}/result?wait_ms=1000");
        until(&format!("the end of {id}"), || {
            host.call("GET", &path, b"").is_ok_and(|(_, view)| view["status"] == "completed")
        });
    }
    let (status, report) = host.call("POST", &format!("{BASE}/verify"), b"{}").expect("an answer");
    assert_eq!((status, &report["findings"]), (200, &json!([])), "{report:#}");
}
