//! The host's answers as far as people are shown them. Not the engine's own types: the command line reads what an
//! older or newer host sends, so unknown fields pass and most others may be missing.

use std::collections::BTreeMap;

use relive_core::{Failure, Json, Timestamp, ports::Status};
use relive_engine::views::ExecutionView;
use serde::Deserialize;
use serde_json::value::RawValue;

/// `GET /executions/{id}`.
#[derive(Debug, Deserialize)]
pub struct Detail {
    pub workflow_id: String,
    pub run_id: String,
    pub workflow: String,
    pub digest: String,
    pub status: Status,
    pub blocked: Option<String>,
    pub events: u64,
    pub commands: u64,
    pub history_bytes: u64,
    pub started_at: Timestamp,
    pub closed_at: Option<Timestamp>,
    pub correlation_id: Option<String>,
    #[serde(default)]
    pub crashes: u32,
    #[serde(default)]
    pub steps: Vec<Step>,
    #[serde(default)]
    pub waits_for: Vec<String>,
    pub block_report: Option<String>,
    #[serde(default)]
    pub fingerprint: String,
}

#[derive(Debug, Deserialize)]
pub struct Step {
    pub command_no: u64,
    pub kind: String,
    pub name: String,
    pub state: String,
    pub scheduled_event: u64,
    pub resolved_event: Option<u64>,
    pub attempts: u32,
    pub output: Option<Json>,
    pub failure: Option<Failure>,
    pub deadline: Option<Timestamp>,
}

/// `GET /executions`.
#[derive(Debug, Deserialize)]
pub struct ExecutionPage {
    pub executions: Vec<ExecutionView>,
    pub next_cursor: Option<String>,
}

/// `GET /executions/{id}/history`. Events stay text: programs get them as they are.
#[derive(Debug, Deserialize)]
pub struct HistoryPage {
    pub workflow_id: String,
    pub run_id: String,
    pub events: Vec<Box<RawValue>>,
    pub next_cursor: Option<String>,
    #[serde(default)]
    pub fingerprint: String,
}

#[derive(Debug, Deserialize)]
pub struct Event {
    pub event_id: u64,
    pub timestamp: Timestamp,
    pub event_type: String,
    pub command_no: Option<u64>,
    pub attributes: Attributes,
}

/// What any event may hold that is worth a word to people.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Attributes {
    pub workflow: Option<String>,
    pub name: Option<String>,
    pub input: Option<Json>,
    pub result: Option<Json>,
    pub payload: Option<Json>,
    pub failure: Option<Failure>,
    pub last_failure: Option<Failure>,
    pub reason: Option<String>,
    pub duration: Option<u64>,
    pub channel: Option<String>,
    pub message_id: Option<String>,
    pub attempt: Option<u32>,
    pub attempts: Option<u32>,
    pub timeout: Option<String>,
    pub target: Option<u64>,
    pub change_id: Option<String>,
    pub version: Option<u32>,
    pub new_run_id: Option<String>,
    pub next_at: Option<Timestamp>,
}

/// `GET /executions/{id}/queries`.
#[derive(Debug, Deserialize)]
pub struct Value {
    pub key: String,
    pub value: Json,
    pub event_id: u64,
}

/// `GET /executions/{id}/logs`.
#[derive(Debug, Deserialize)]
pub struct LogsPage {
    pub lines: Vec<Box<RawValue>>,
    pub next_cursor: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct LogLine {
    pub at: Timestamp,
    pub level: String,
    pub message: String,
    #[serde(default)]
    pub fields: BTreeMap<String, Json>,
}

/// `POST /executions/{id}/replay`.
#[derive(Debug, Deserialize)]
pub struct Replay {
    pub digest: String,
    pub agrees: bool,
    pub events: u64,
    pub commands: u64,
    pub micros: u64,
    pub divergence: Option<Divergence>,
    pub fault: Option<String>,
    pub memory: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct Divergence {
    pub command_no: u64,
    pub event_id: Option<u64>,
    pub after_event: u64,
    pub history: String,
    pub code: String,
    pub last_agreed: u64,
}

/// Progress of `POST /workflows/{name}/preflight`.
#[derive(Debug, Deserialize)]
pub struct PreflightProgress {
    pub checked: u64,
    pub total: u64,
    pub left_ms: Option<u64>,
}

/// What it found.
#[derive(Debug, Deserialize)]
pub struct Preflight {
    pub workflow: String,
    pub version: Option<u32>,
    pub digest: String,
    pub took_ms: u64,
    pub sample: bool,
    pub checked: u64,
    pub events: u64,
    pub same_code: u64,
    pub agrees: u64,
    pub diverges: u64,
    pub traps: u64,
    pub unreadable: u64,
    pub groups: Vec<PreflightGroup>,
    #[serde(default)]
    pub version_answers: Vec<AnswerCount>,
}

/// How many executions got an answer to `version()`.
#[derive(Debug, Deserialize)]
pub struct AnswerCount {
    pub change_id: String,
    pub version: u32,
    pub executions: u64,
}

#[derive(Debug, Deserialize)]
pub struct PreflightGroup {
    pub outcome: String,
    #[serde(default)]
    pub history: String,
    pub code: String,
    pub executions: u64,
    pub examples: Vec<PreflightVerdict>,
}

#[derive(Debug, Deserialize)]
pub struct PreflightVerdict {
    pub workflow_id: String,
    pub outcome: String,
    pub events: u64,
    #[serde(default)]
    pub next: Vec<OpenPromise>,
    pub divergence: Option<Divergence>,
    pub fault: Option<String>,
    pub reason: Option<String>,
}

/// `GET /executions/{id}/state`.
#[derive(Debug, Deserialize)]
pub struct State {
    pub run_id: String,
    pub at: u64,
    pub now: Timestamp,
    pub open_promises: Vec<OpenPromise>,
    pub unread_messages: Vec<UnreadMessage>,
    pub steps: Vec<Step>,
    pub published: BTreeMap<String, Json>,
    pub outcome: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct OpenPromise {
    pub promise: u64,
    pub kind: String,
    pub name: String,
}

#[derive(Debug, Deserialize)]
pub struct UnreadMessage {
    pub channel: String,
    pub message_id: String,
    pub event_id: u64,
}

/// `POST /verify`.
#[derive(Debug, Deserialize)]
pub struct Verify {
    pub executions: u64,
    pub events: u64,
    pub relived: u64,
    pub images: u64,
    pub findings: Vec<Finding>,
}

#[derive(Debug, Deserialize)]
pub struct Finding {
    pub workflow_id: String,
    pub run_id: String,
    pub violation: String,
}

/// `POST /executions/{id}/fork`.
#[derive(Debug, Deserialize)]
pub struct Forked {
    pub workflow_id: String,
    pub run_id: String,
    pub through: u64,
}

/// `POST /workflows`.
#[derive(Debug, Deserialize)]
pub struct Deployed {
    pub digest: String,
    pub workflows: Vec<DeployedWorkflow>,
}

#[derive(Debug, Deserialize)]
pub struct DeployedWorkflow {
    pub name: String,
    pub version: u32,
    pub activation: Option<Activation>,
    #[serde(default)]
    pub changes: Vec<Change>,
}

/// What another version changes.
#[derive(Debug, Deserialize)]
pub struct Change {
    pub what: String,
    pub change: String,
    pub name: String,
    pub breaking: bool,
    #[serde(default)]
    pub detail: String,
}

/// What new runs take.
#[derive(Debug, Deserialize)]
pub struct Activation {
    pub workflow: String,
    pub number: u64,
    pub kind: String,
    pub version: u32,
    pub canary: Option<Canary>,
    pub at: Timestamp,
    pub author: Option<String>,
    pub reason: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct Canary {
    pub version: u32,
    pub percent: f64,
}

impl std::fmt::Display for Activation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.canary {
            None => write!(f, "version {}", self.version),
            Some(canary) => {
                write!(f, "version {}, and {} % of them version {}", self.version, canary.percent, canary.version)
            }
        }
    }
}

/// `GET /workflows/{name}`.
#[derive(Debug, Deserialize)]
pub struct WorkflowReport {
    pub workflow: String,
    pub activation: Option<Activation>,
    pub versions: Vec<VersionReport>,
}

#[derive(Debug, Deserialize)]
pub struct VersionReport {
    pub version: u32,
    pub digest: String,
    pub state: String,
    pub percent: f64,
    pub open: u64,
    pub blocked: u64,
    pub closed: u64,
    pub failed: u64,
    pub oldest_open: Option<Timestamp>,
    pub deployed_at: Timestamp,
    pub author: Option<String>,
    pub note: Option<String>,
}

/// `GET /workflows`.
#[derive(Debug, Deserialize)]
pub struct Version {
    pub workflow: String,
    pub version: u32,
    pub digest: String,
    pub active: bool,
    pub deployed_at: Timestamp,
}

/// `GET /activities`.
#[derive(Debug, Deserialize)]
pub struct Activity {
    pub name: String,
    #[serde(default = "wasm")]
    pub kind: String,
    #[serde(default)]
    pub target: String,
    pub breaker: Option<Breaker>,
    pub concurrency: Option<u64>,
    pub grants: Option<Json>,
    pub deployed_at: Timestamp,
}

/// What older hosts had alone.
fn wasm() -> String {
    "wasm".to_owned()
}

#[derive(Debug, Deserialize)]
pub struct Breaker {
    pub state: String,
    #[serde(default)]
    pub failures: u32,
    #[serde(default)]
    pub calls: u32,
    pub next_probe: Option<Timestamp>,
    pub policy: Option<BreakerPolicy>,
}

#[derive(Debug, Deserialize)]
pub struct BreakerPolicy {
    pub window_ms: u64,
    pub min_calls: u64,
    pub failure_percent: u64,
}

impl std::fmt::Display for BreakerPolicy {
    /// `50% of 20 in 10s`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let window = std::time::Duration::from_millis(self.window_ms);
        write!(f, "{}% of {} in {window:?}", self.failure_percent, self.min_calls)
    }
}

impl std::fmt::Display for Breaker {
    /// `closed`, `open (20 of 20 failed, next try 12:00:03)` ...
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.state)?;
        if self.failures > 0 {
            write!(f, " ({} of {} failed", self.failures, self.calls)?;
            if let Some(at) = self.next_probe {
                write!(f, ", next try {at}")?;
            }
            f.write_str(")")?;
        }
        Ok(())
    }
}

/// The items of a list, for people.
pub fn items<T: serde::de::DeserializeOwned>(raw: &[Box<RawValue>]) -> Result<Vec<T>, crate::Failure> {
    raw.iter().map(|item| crate::client::decode(item.get())).collect()
}

/// `GET /task-queues/{queue}`, and an item of `GET /task-queues`.
#[derive(Debug, Deserialize)]
pub struct TaskQueue {
    pub name: String,
    pub backlog: u64,
    pub oldest: Option<Timestamp>,
    pub claimed: u64,
    pub pollers: u64,
    pub last_poll: Option<Timestamp>,
    pub added: u64,
    pub dispatched: u64,
    #[serde(default)]
    pub activities: BTreeMap<String, u64>,
    pub rate: Option<f64>,
    pub burst: Option<u32>,
    pub concurrency: Option<u32>,
    pub held_back: Option<String>,
}

/// `GET /failed-tasks`.
#[derive(Debug, Deserialize)]
pub struct FailedTask {
    pub workflow_id: String,
    pub command_no: u64,
    pub activity: String,
    pub task_queue: Option<String>,
    pub attempts: u32,
    pub last_failure: Failure,
    pub failed_at: Timestamp,
}

/// `GET /workers`.
#[derive(Debug, Deserialize)]
pub struct Worker {
    pub id: String,
    pub identity: String,
    pub state: String,
    pub ended: Option<String>,
    #[serde(default)]
    pub task_queues: Vec<String>,
    #[serde(default)]
    pub activities: Vec<String>,
    pub sdk: Option<String>,
    pub last_seen: Timestamp,
    pub running: u64,
}

/// `GET /activities/pending`.
#[derive(Debug, Deserialize)]
pub struct PendingActivity {
    pub workflow_id: String,
    pub command_no: u64,
    pub activity: String,
    pub state: String,
    pub attempt: u32,
    #[serde(default)]
    pub maximum_attempts: u32,
    pub due_at: Timestamp,
    pub task_queue: Option<String>,
    pub worker: Option<String>,
    pub last_failure: Option<Failure>,
    #[serde(default)]
    pub cancel_requested: bool,
}

/// `GET /v1/status`.
#[derive(Debug, Deserialize)]
pub struct HostStatus {
    pub version: String,
    pub pid: u32,
    pub uptime_ms: u64,
}

/// `POST /executions/{id}/signals/{channel}`.
#[derive(Debug, Deserialize)]
pub struct Sent {
    pub message_id: String,
}

/// The first twelve digits of a digest, for people.
#[must_use]
pub fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}
