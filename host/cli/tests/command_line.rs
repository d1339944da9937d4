//! The binary as scripts see it: exit codes, stdout, stderr, and the life of `relive dev`.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Output, Stdio},
};

/// Nobody listens there: port 1 belongs to nobody's host.
const NOWHERE: &str = "http://127.0.0.1:1";

fn relive(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_relive"));
    for name in ["RELIVE_SERVER", "RELIVE_NAMESPACE", "RELIVE_DATA", "RELIVE_LISTEN", "RELIVE_LOG"] {
        command.env_remove(name);
    }
    command.args(args).output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn check(args: &[&str], code: i32) -> Output {
    let output = relive(args);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {}{}", text(&output.stdout), text(&output.stderr));
    output
}

#[test]
fn help_names_every_verb_and_exit_code() {
    let help = text(&check(&["--help"], 0).stdout);
    let verbs = [
        "dev",
        "inspect",
        "deploy",
        "workflows",
        "start",
        "result",
        "list",
        "show",
        "history",
        "signal",
        "query",
        "logs",
        "cancel",
        "terminate",
        "unblock",
        "replay",
        "state",
        "verify",
        "doctor",
        "openapi",
        "task-queue",
        "worker",
        "activity",
        "completions",
    ];
    for verb in verbs {
        assert!(help.lines().any(|line| line.trim_start().starts_with(verb)), "{verb} is missing:\n{help}");
        check(&[verb, "--help"], 0);
    }
    for code in 0..=8 {
        assert!(
            help.lines().any(|line| line.trim_start().starts_with(&format!("{code}  "))),
            "{code} is missing:\n{help}"
        );
    }
    assert!(!help.contains("compile-component"));
}

#[test]
fn a_wrong_command_line_is_exit_code_2() {
    for args in [
        &["frobnicate"][..],
        &["start"],
        &["start", "x", "--timeout", "3s"],
        &["start", "x", "--wait", "--timeout", "soon"],
        &["start", "x", "--input", "{", "--server", NOWHERE],
        &["start", "x", "--input", "1", "--input-file", "-"],
        &["start", "x", "--input-file", "/nowhere/at/all"],
        &["list", "--status", "odd"],
        &["list", "--limit", "0"],
        &["verify"],
        &["verify", "x", "--all"],
        &["inspect", "/nowhere/at/all.wasm"],
        &["deploy", "/nowhere/at/all.wasm"],
        &["list", "--server", "ftp://x"],
        &["dev", "--listen", "0.0.0.0:0"],
        &["dev", "--listen", "[::]:0"],
        &["dev", "--codec", "xml"],
        &["dev", "--max-history-events", "99"],
        &["dev", "--max-history-events", "16777216"],
        &["dev", "--max-history-mb", "0"],
        &["dev", "--max-history-mb", "much"],
        &["dev", "--image-every", "-1"],
        &["dev", "--image-memory-mb", "4294967296"],
    ] {
        check(args, 2);
    }
}

#[test]
fn no_host_is_exit_code_7_and_says_what_to_do() {
    let output = check(&["list", "--server", NOWHERE], 7);
    let stderr = text(&output.stderr);
    assert!(
        stderr.starts_with("error: ") && stderr.contains("(unreachable)") && stderr.contains("what to do: "),
        "{stderr}"
    );
    assert!(output.stdout.is_empty());
    let output = check(&["result", "x", "--wait", "--json", "--server", NOWHERE], 7);
    let problem: serde_json::Value = serde_json::from_slice(&output.stderr).expect("a problem");
    assert_eq!(problem["code"], "unreachable");
}

#[test]
fn completions_are_there_for_shells() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(text(&check(&["completions", shell], 0).stdout).contains("relive"));
    }
}

#[test]
fn doctor_is_json_when_asked() {
    let dir = tempfile::tempdir().expect("a directory");
    let output = relive(&["doctor", "--json", "--server", NOWHERE, "--data", &dir.path().display().to_string()]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a report");
    let checks = report["checks"].as_array().expect("checks");
    assert_eq!(checks.len(), 7);
    assert!(std::fs::read_dir(dir.path()).expect("a directory").next().is_none(), "it leaves nothing behind");
}

/// A host of its own directory and port; killed if a test forgets it.
struct Dev(Child, String);

impl Dev {
    fn start(dir: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_relive"))
            .args(["dev", "--json", "--listen", "127.0.0.1:0", "--data"])
            .arg(dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary runs");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        let ready: serde_json::Value = serde_json::from_str(&line).expect("the host says where it is");
        Self(child, ready["address"].as_str().expect("an address").to_owned())
    }

    fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.0)
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn dev_serves_holds_its_directory_and_ends_in_good_order() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let mut dev = Dev::start(&data);
    let server = dev.1.clone();
    assert_eq!(std::fs::read_to_string(data.join("address")).expect("the file").trim(), server);
    assert_eq!(std::fs::read_to_string(data.join("relive.pid")).expect("the file").trim(), dev.0.id().to_string());
    let listed = check(&["list", "--json", "--server", &server], 0);
    assert_eq!(text(&listed.stdout).trim(), r#"{"executions":[]}"#);
    check(&["show", "nothing", "--server", &server], 3);
    let unknown = check(&["start", "nothing", "--json", "--server", &server], 3);
    let problem: serde_json::Value = serde_json::from_slice(&unknown.stderr).expect("a problem");
    assert_eq!(problem["code"], "unknown-workflow");
    check(&["result", "nothing", "--wait", "--server", &server], 3);
    check(&["inspect", "/proc/self/cmdline", "--server", &server], 1);
    check(&["verify", "--all", "--server", &server], 0);
    let other = data.display().to_string();
    let locked = check(&["dev", "--listen", "127.0.0.1:0", "--data", &other], 4);
    assert!(text(&locked.stderr).contains("(data-dir-locked)"));
    let address = server.trim_start_matches("http://");
    let free = dir.path().join("other").display().to_string();
    let in_use = check(&["dev", "--listen", address, "--data", &free], 4);
    assert!(text(&in_use.stderr).contains("(address-in-use)"));
    rustix::process::kill_process(dev.pid(), rustix::process::Signal::TERM).expect("a signal");
    assert_eq!(dev.0.wait().expect("an end").code(), Some(0));
    assert!(!data.join("address").exists() && !data.join("relive.pid").exists());
}

#[test]
fn a_directory_that_cannot_be_used_is_told_apart() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("file");
    std::fs::write(&file, "x").expect("a file");
    let output = check(&["dev", "--listen", "127.0.0.1:0", "--data", &file.display().to_string()], 1);
    assert!(text(&output.stderr).contains("(data-dir-not-a-directory)"), "{}", text(&output.stderr));
}
