//! Hosts of a cluster as processes, on a PostgreSQL of the tests.

use std::{path::Path, process::Command};

use relive_store::contract::database::TestDatabase;
use relive_testkit::{guests, process::Host};
use serde_json::Value;

use super::{cli, relive};

/// A host of the cluster on the database at `store`, with more options as environment variables.
pub fn command(store: &str, env: &[(&str, &str)], data: &Path, id: &str) -> Command {
    let mut command = Command::new(relive());
    let data = data.display().to_string();
    command.args(["serve", "--bench-activities", "--host-id", id, "--data", &data]).env("RELIVE_LISTEN", "127.0.0.1:0");
    command.env("RELIVE_STORE", store).env("RELIVE_LOG", "info").envs(env.iter().copied());
    command
}

/// A database for hosts to share, and their directories.
pub struct Cluster {
    pub database: TestDatabase,
    pub dir: tempfile::TempDir,
    /// Options of its hosts, as environment variables.
    pub env: Vec<(&'static str, String)>,
}

impl Cluster {
    /// None: there is no server for it.
    pub fn new() -> Option<Self> {
        let database = TestDatabase::migrated()?;
        Some(Self { database, dir: tempfile::tempdir().expect("a directory"), env: Vec::new() })
    }

    pub fn host(&self, id: &str) -> Host {
        let data = self.dir.path().join(id);
        let env: Vec<(&str, &str)> = self.env.iter().map(|(name, value)| (*name, &**value)).collect();
        Host::launch(command(&self.database.url, &env, &data, id), &data).expect("a host")
    }
}

/// Status and body of a request.
pub fn ask(host: &Host, method: &str, path: &str, body: &Value) -> (u16, Value) {
    host.call(method, path, body.to_string().as_bytes()).expect("an answer")
}

/// What a read answers.
pub fn get(host: &Host, path: &str) -> Value {
    let (status, answer) = ask(host, "GET", path, &Value::Null);
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}

/// How many shards each host has, by its own account.
pub fn shares(host: &Host) -> Vec<(String, u64)> {
    let hosts = get(host, "/v1/hosts")["hosts"].as_array().cloned().unwrap_or_default();
    let share =
        |host: &Value| (host["id"].as_str().unwrap_or_default().to_owned(), host["shards"].as_u64().unwrap_or(0));
    hosts.iter().map(share).collect()
}

/// Whether two hosts share all shards.
pub fn shared(host: &Host) -> bool {
    let shares = shares(host);
    shares.len() == 2 && shares.iter().all(|(_, n)| *n > 0) && shares.iter().map(|(_, n)| n).sum::<u64>() == 256
}

/// The workflow that does what its input says.
pub fn deploy(host: &Host) {
    let folder = guests::folder().join("script").display().to_string();
    let (code, out, err) = cli(&host.address, &["deploy", &folder]);
    assert_eq!(code, 0, "{out}{err}");
}

/// Appends of an epoch that was over, which were refused to this host.
pub fn fenced(host: &Host) -> u64 {
    let Ok((200, Value::String(text))) = host.call("GET", "/metrics", b"") else { return 0 };
    let line = text.lines().find_map(|line| line.strip_prefix("persistence_errors{kind=\"fenced\"} "));
    line.and_then(|count| count.parse::<f64>().ok()).unwrap_or(0.0) as u64
}
