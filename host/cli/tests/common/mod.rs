//! What the tests of the binary share: hosts, the command line, and random numbers that can be had again.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod cluster;
pub mod python;
pub mod shim;

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use relive_testkit::{guests, process::Host};
use serde_json::{Value, json};
use tempfile::TempDir;

pub const BASE: &str = "/v1/namespaces/default";
/// How long a condition may take to come true on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(150);

/// The binary under test.
#[must_use]
pub fn relive() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_relive"))
}

/// A host on a data directory of its own, with guests deployed.
pub struct Site {
    pub host: Host,
    pub dir: TempDir,
    /// The options that its hosts are started with, as environment variables.
    pub env: &'static [(&'static str, &'static str)],
}

impl Site {
    /// Starts a host and deploys these examples.
    pub fn with(examples: &[&str]) -> Self {
        Self::with_options(examples, &[])
    }

    /// The same with options, which later hosts get too.
    pub fn with_options(examples: &[&str], env: &'static [(&'static str, &'static str)]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let host = Host::start(relive(), &dir.path().join("data"), env).expect("a host");
        let site = Self { host, dir, env };
        for example in examples {
            site.deploy(example);
        }
        site
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Where the deployed copy of an example lies; its activities write there.
    pub fn example(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Deploys a copy of an example, so that tests do not share the folders that its activities write to.
    pub fn deploy(&self, example: &str) {
        let copy = self.example(example);
        copy_example(example, &copy);
        let (code, out, err) = self.cli(&["deploy", &copy.display().to_string()]);
        assert_eq!(code, 0, "{out}{err}");
    }

    /// `kill -9`, and a new host on the same directory.
    pub fn restart(self) -> Self {
        let Self { host, dir, env } = self;
        host.kill();
        let host = Host::start(relive(), &dir.path().join("data"), env).expect("a host");
        Self { host, dir, env }
    }

    /// Runs the command line against this host: exit code, stdout, stderr.
    pub fn cli(&self, args: &[&str]) -> (i32, String, String) {
        cli(&self.host.address, args)
    }

    /// The same where it must succeed and print JSON.
    pub fn json(&self, args: &[&str]) -> Value {
        self.json_with(args, 0)
    }

    /// JSON together with an exit code.
    pub fn json_with(&self, args: &[&str], exit: i32) -> Value {
        let (code, out, err) = self.cli(&[args, &["--json"]].concat());
        assert_eq!(code, exit, "relive {args:?}: {out}{err}");
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("relive {args:?} printed no JSON: {e}: {out}"))
    }

    pub fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.host.call("POST", &format!("{BASE}{path}"), body.to_string().as_bytes()).expect("an answer")
    }

    pub fn get(&self, path: &str) -> (u16, Value) {
        self.host.call("GET", &format!("{BASE}{path}"), b"").expect("an answer")
    }

    /// Starts an execution of `script`.
    pub fn script(&self, id: &str, program: &Value) {
        let body = json!({"workflow": "script", "workflow_id": id, "input": {"program": program}});
        let (status, answer) = self.post("/executions", &body);
        assert_eq!(status, 201, "{answer}");
    }

    /// Waits for an execution's end, or for its being blocked.
    pub fn ended(&self, id: &str) -> Value {
        let mut last = Value::Null;
        until(&format!("the end of {id}"), || {
            last = self.get(&format!("/executions/{id}/result?wait_ms=1000")).1;
            last["status"] != "running"
        });
        last
    }

    /// The host is well: a fresh `hello` completes.
    pub fn still_works(&self) {
        let body = json!({"workflow": "hello", "input": {"name": "again"}});
        let (status, answer) = self.post("/executions?wait_ms=20000", &body);
        assert_eq!((status, &answer["result"]["greeting"]), (200, &json!("Hello, again!")), "{answer}");
    }

    /// The checker finds nothing over all histories.
    pub fn verified(&self) -> Value {
        let (status, report) = self.post("/verify", &json!({}));
        assert_eq!((status, &report["findings"]), (200, &json!([])), "{report}");
        report
    }
}

/// Runs the command line against a host at `address`: exit code, stdout, stderr.
pub fn cli(address: &str, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(relive());
    command.args(args).env("RELIVE_SERVER", format!("http://{address}"));
    texts(command.output().expect("the binary runs"))
}

pub fn texts(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

fn copy_example(example: &str, copy: &Path) {
    std::fs::create_dir_all(copy).expect("a directory");
    let from = guests::folder().join(example);
    let entries = std::fs::read_dir(&from)
        .unwrap_or_else(|e| panic!("{}: {e}; build the guests with scripts/guests", from.display()));
    for entry in entries {
        let entry = entry.expect("an entry");
        let to = copy.join(entry.file_name());
        if entry.path().is_dir() {
            // Its activities write here: empty in the copy.
            std::fs::create_dir_all(to).expect("a directory");
        } else {
            std::fs::copy(entry.path(), to).expect("a copy");
        }
    }
}

/// Waits until a condition holds.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// splitmix64: random enough, and the same for the same seed.
pub struct Rng(pub u64);

impl Rng {
    /// The seed is RELIVE_SEED, else the time; it is printed, so that a run can be had again.
    pub fn from_environment() -> Self {
        let given = std::env::var("RELIVE_SEED").ok().and_then(|text| text.parse().ok());
        let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let seed = given.unwrap_or(u64::from(clock.subsec_nanos()));
        println!("RELIVE_SEED={seed}");
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }
}
