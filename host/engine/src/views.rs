//! What the engine tells about itself. These are the API's answers; they serialise as they are.

use relive_core::{
    Digest, Failure, HistoryEvent, Json, RunId, RunKey, Timestamp,
    cursor::{Divergence, LogLine},
    event::BlockReason,
    ports::{ExecutionRow, Status},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    schema,
    versions::{ActivationView, Change},
};

/// An execution as lists show it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ExecutionView {
    pub namespace: String,
    pub workflow_id: String,
    #[schema(value_type = schema::RunId)]
    pub run_id: RunId,
    pub workflow: String,
    #[schema(value_type = schema::Digest)]
    pub digest: Digest,
    #[schema(value_type = schema::Status)]
    pub status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::BlockReason>)]
    pub blocked: Option<BlockReason>,
    pub events: u64,
    pub commands: u64,
    pub history_bytes: u64,
    /// ns since the Unix epoch.
    #[schema(value_type = schema::Timestamp)]
    pub started_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::Timestamp>)]
    pub closed_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
}

impl From<&ExecutionRow> for ExecutionView {
    fn from(row: &ExecutionRow) -> Self {
        Self {
            namespace: row.execution.namespace.to_string(),
            workflow_id: row.execution.workflow_id.to_string(),
            run_id: row.execution.run_id,
            workflow: row.workflow.to_string(),
            digest: row.digest,
            status: row.status,
            blocked: row.blocked,
            events: row.last_event_id,
            commands: row.command_count,
            history_bytes: row.history_bytes,
            started_at: row.started_at,
            closed_at: row.closed_at,
            correlation_id: row.correlation_id.as_deref().map(str::to_owned),
        }
    }
}

/// Executions, newest first.
#[derive(Clone, Debug)]
pub struct Executions {
    pub executions: Vec<ExecutionView>,
    /// The last of them, if there are more.
    pub next: Option<RunKey>,
}

/// A started execution.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Started {
    pub workflow_id: String,
    #[schema(value_type = schema::RunId)]
    pub run_id: RunId,
    /// The run was there already: of the same request before, or by the policy `use-existing`.
    #[serde(default)]
    #[schema(required = true)]
    pub existing: bool,
}

/// How a run ended, or that it has not.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ResultView {
    pub workflow_id: String,
    #[schema(value_type = schema::RunId)]
    pub run_id: RunId,
    #[schema(value_type = schema::Status)]
    pub status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = schema::Json, required = false)]
    pub result: Option<Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::Failure>)]
    pub failure: Option<Failure>,
    /// The run that goes on, after continue-as-new.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::RunId>)]
    pub continued_as: Option<RunId>,
    /// Why an open run stands still.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocked: Option<String>,
}

/// One step of a run: a command and what became of it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct StepView {
    pub command_no: u64,
    /// `activity`, `timer`.
    #[schema(example = "activity")]
    pub kind: &'static str,
    pub name: String,
    /// `pending`, `exhausted` (an operator decides), `completed`, `failed`, `timed-out`, `canceled`.
    pub state: &'static str,
    pub scheduled_event: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolved_event: Option<u64>,
    /// Attempts made as far as history and the host know.
    pub attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = schema::Json, required = false)]
    pub input: Option<Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = schema::Json, required = false)]
    pub output: Option<Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::Failure>)]
    pub failure: Option<Failure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::Timestamp>)]
    pub deadline: Option<Timestamp>,
    pub fingerprint: String,
}

/// Everything about one execution at a glance.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ExecutionDetail {
    #[serde(flatten)]
    pub execution: ExecutionView,
    pub crashes: u32,
    pub steps: Vec<StepView>,
    /// What an open run waits for: `activity charge (attempt 2)`, `timer until ..`, `message on go`, `operator`.
    pub waits_for: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_report: Option<String>,
    /// The run's fingerprint, hexadecimal.
    pub fingerprint: String,
}

/// A page of a history, oldest first.
#[derive(Clone, Debug)]
pub struct HistoryPage {
    pub workflow_id: String,
    pub run_id: RunId,
    pub events: Vec<HistoryEvent>,
    /// The event id to go on from, if there are more.
    pub next: Option<u64>,
    /// The whole history's, hexadecimal.
    pub fingerprint: String,
}

/// Log lines, oldest first, each with its number.
#[derive(Clone, Debug)]
pub struct LogsPage {
    pub workflow_id: String,
    pub run_id: RunId,
    pub lines: Vec<(u64, LogLine)>,
    /// The last line's number, if there are more.
    pub next: Option<u64>,
}

/// What reliving an execution came to.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ReplayReport {
    pub workflow_id: String,
    #[schema(value_type = schema::RunId)]
    pub run_id: RunId,
    /// The component that was relived.
    #[schema(value_type = schema::Digest)]
    pub digest: Digest,
    pub agrees: bool,
    /// Events that were read, checked and relived.
    pub events: u64,
    /// Those of them that were inbound and handed to the guest's side.
    pub applied: u64,
    pub commands: u64,
    /// Reading, checking, instantiating and reliving.
    pub micros: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::Divergence>)]
    pub divergence: Option<Divergence>,
    /// A trap or another fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// SHA-256 of the guest's memory where it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
}

/// The state of an execution at an event.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct StateView {
    pub workflow_id: String,
    #[schema(value_type = schema::RunId)]
    pub run_id: RunId,
    /// The event up to which it was relived.
    pub at: u64,
    /// The guest's time there.
    #[schema(value_type = schema::Timestamp)]
    pub now: Timestamp,
    pub open_promises: Vec<OpenPromise>,
    pub unread_messages: Vec<UnreadMessage>,
    pub steps: Vec<StepView>,
    #[schema(value_type = std::collections::BTreeMap<String, schema::Json>)]
    pub published: std::collections::BTreeMap<String, Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct OpenPromise {
    pub promise: u64,
    pub kind: &'static str,
    /// The activity's or the channel's name.
    pub name: String,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct UnreadMessage {
    pub channel: String,
    pub message_id: String,
    pub event_id: u64,
}

/// What the checker found.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct VerifyReport {
    pub executions: u64,
    pub events: u64,
    /// Executions that were relived, and images held against them; only by deep checks.
    pub relived: u64,
    pub images: u64,
    pub findings: Vec<Finding>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Finding {
    pub workflow_id: String,
    #[schema(value_type = schema::RunId)]
    pub run_id: RunId,
    pub violation: String,
}

/// A fork.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Forked {
    pub workflow_id: String,
    #[schema(value_type = schema::RunId)]
    pub run_id: RunId,
    /// The last event that was copied.
    pub through: u64,
}

/// What a deployment made.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Deployed {
    #[schema(value_type = schema::Digest)]
    pub digest: Digest,
    pub workflows: Vec<DeployedWorkflow>,
    /// What admission found out about the component.
    #[schema(value_type = schema::Json)]
    pub inspection: Json,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DeployedWorkflow {
    pub name: String,
    pub version: u32,
    /// What new runs take now; absent if nothing was activated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activation: Option<ActivationView>,
    /// What it changes of the version that was active before.
    pub changes: Vec<Change>,
}

/// A published value.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct QueryView {
    pub key: String,
    #[schema(value_type = schema::Json)]
    pub value: Json,
    /// The history's last event when it was set.
    pub event_id: u64,
}

/// The host at a glance.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct HostStatus {
    pub version: &'static str,
    pub pid: u32,
    pub uptime_ms: u64,
    /// Executions in memory, and those of them with a live guest.
    pub cells: usize,
    pub live_guests: usize,
    pub guest_memory_bytes: usize,
    pub activities_running: usize,
    /// Commits as the database counts them.
    pub commits: u64,
    /// Wakes that relived a history, the events they applied, and the time they took.
    pub relives: u64,
    pub relived_events: u64,
    pub relive_micros: u64,
    pub recovered: u64,
    /// Executions that the auditor checked, and differences that it found.
    pub audited: u64,
    pub audit_findings: u64,
    pub images: ImageStatus,
    pub workers: WorkerStatus,
    pub reconciler: ReconcilerStatus,
}

/// What became of workers, since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct WorkerStatus {
    /// Those that were not heard of for three beats.
    pub lost: u64,
    /// Attempts that went back because their workers were lost, stopped, or had never got them.
    pub attempts_given_back: u64,
}

/// The reconciler, which holds the task queues in memory against the store every five minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ReconcilerStatus {
    /// How often it has looked.
    pub runs: u64,
    /// Tasks that no queue held and that wait for a worker: put back.
    pub put_back: u64,
    /// Tasks that a queue held and that are not waiting: removed.
    pub removed: u64,
}

/// Memory images of this host.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ImageStatus {
    /// Those in memory, and their bytes.
    pub in_memory: usize,
    pub bytes: usize,
    /// Taken since the start, their bytes at rest, and the time it took.
    pub captured: u64,
    pub captured_bytes: u64,
    pub capture_micros: u64,
    /// Wakes from an image, and the time they took.
    pub laid: u64,
    pub laid_micros: u64,
    /// Images that did not fit: those executions relived.
    pub ignored: u64,
}

/// An activity that the host runs itself.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ActivityView {
    pub name: String,
    /// `wasm` or `http`.
    pub kind: &'static str,
    /// What its attempts run on: `host:port`, or the beginning of a component's digest.
    pub target: String,
    pub breaker: BreakerView,
    /// Attempts at once, if its deployment says how many; the host's limits hold beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::Digest>)]
    pub digest: Option<Digest>,
    /// Of a wasm activity.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = schema::Json, required = false)]
    pub grants: Option<Json>,
    /// How an http activity is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = schema::Json, required = false)]
    pub http: Option<Json>,
    #[schema(value_type = schema::Timestamp)]
    pub deployed_at: Timestamp,
}

/// An activity's circuit breaker. It lives with its host: a host that starts, and a new deployment, begin closed.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct BreakerView {
    /// `closed`, `open` or `half-open`.
    pub state: &'static str,
    /// Failures of the target and calls in the window; open, those that opened it; half-open, those of the probes.
    pub failures: u32,
    pub calls: u32,
    /// Since when; absent before the first call.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::Timestamp>)]
    pub since: Option<Timestamp>,
    /// When the target is tried again, if it is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::Timestamp>)]
    pub next_probe: Option<Timestamp>,
    /// When it opens and closes: as the deployment says, else as the host has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<BreakerPolicyView>,
}

/// When a circuit breaker opens and closes.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct BreakerPolicyView {
    /// How far back calls count.
    pub window_ms: u64,
    /// Fewer calls than this in the window prove nothing.
    pub min_calls: u32,
    /// The share of failed calls at which it opens.
    pub failure_percent: u32,
    /// How long it stays open: at first, and, as it doubles with each probe that fails, at most.
    pub open_ms: u64,
    pub max_open_ms: u64,
    /// Calls that are let through half-open, all of which must pass.
    pub probes: u32,
}

impl Default for BreakerView {
    fn default() -> Self {
        Self { state: "closed", failures: 0, calls: 0, since: None, next_probe: None, policy: None }
    }
}
