//! The grammar of programs: the JSON that the workflow `script` takes. This file is its definition; the README shows
//! it by example.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The workflow's input.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Script {
    /// Run in this order.
    pub program: Vec<Step>,
    /// The first failure ends the workflow with it. Otherwise failures are recorded and the program goes on.
    #[serde(default)]
    pub strict: bool,
    /// Do not keep what was seen, only its count and digest: memory stays flat in long programs.
    #[serde(default)]
    pub quiet: bool,
}

/// One step: a string (`"random"`) or an object with one member (`{"timer": {"ms": 5}}`).
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Run an activity; wait for it unless it gets a handle.
    Activity(Box<ActivityStep>),
    /// Wait for a timer, or start it as a handle.
    Timer(TimerStep),
    /// Wait for the next message of a channel. As a handle, it asks when it is first waited for.
    Message(MessageStep),
    /// Wait for a handle. The handle is gone afterwards.
    Await(String),
    /// Ask for what a handle stands for to be canceled. The handle stays. A message's handle is dropped.
    Cancel(String),
    /// Drop a handle, which cancels what it stands for.
    Drop(String),
    /// Forget a handle, and let what it stands for go on. A message's handle is dropped.
    Detach(String),
    /// Wait for the first of several handles; ties go to the first named. The others stay.
    Select(Vec<String>),
    /// Wait for all of several handles. They are gone afterwards.
    Join(Vec<String>),
    /// Run several programs concurrently, and go on when all are done. Handles are shared.
    Parallel(Vec<Vec<Step>>),
    /// Run steps in strict mode; on a failure, record it, run the others and go on.
    Attempt(AttemptStep),
    /// Run steps several times.
    Repeat(RepeatStep),
    /// Publish state.
    Publish(PublishStep),
    /// Write a log line.
    Log(LogStep),
    /// Ask which side of a change this run is on; run `new` if the answer is `max`, else `old`.
    Version(VersionStep),
    /// Record 64 random bits.
    Random,
    /// Record that many random bytes, in hexadecimal.
    RandomBytes(u32),
    /// Record a UUID.
    Uuid,
    /// Record the time, in ns since the Unix epoch.
    Now,
    /// Record workflow id, workflow name, history length, and whether cancellation was requested.
    Info,
    /// Burn that many rounds of arithmetic; records the result.
    Compute(u64),
    /// Allocate and touch that many bytes, and keep them until the workflow ends.
    Alloc(usize),
    /// Call a function within itself to that depth (about 135 bytes of stack each); records the result.
    Recurse(u32),
    /// End the workflow as failed.
    Fail(FailStep),
    /// End the workflow as completed, with what was seen so far.
    Finish,
    /// Go on as a new run with another script.
    ContinueAsNew(Box<Script>),
    /// Panic.
    Trap,
    /// Never return.
    LoopForever,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ActivityStep {
    pub name: String,
    #[serde(default)]
    pub input: Value,
    /// Start it under this handle and go on.
    #[serde(default, rename = "as")]
    pub handle: Option<String>,
    #[serde(default)]
    pub options: Options,
}

/// As the SDK's options; durations in milliseconds.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Options {
    pub max_attempts: Option<u32>,
    pub initial_interval_ms: Option<u64>,
    pub backoff: Option<f64>,
    pub maximum_interval_ms: Option<u64>,
    pub jitter: Option<f64>,
    pub non_retryable_codes: Vec<String>,
    pub start_to_close_ms: Option<u64>,
    pub schedule_to_close_ms: Option<u64>,
    pub schedule_to_start_ms: Option<u64>,
    pub heartbeat_timeout_ms: Option<u64>,
    pub task_queue: Option<String>,
    pub summary: Option<String>,
    pub cancellation: Cancellation,
}

#[derive(Default, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Cancellation {
    #[default]
    Try,
    Abandon,
    Wait,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TimerStep {
    pub ms: u64,
    #[serde(default, rename = "as")]
    pub handle: Option<String>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MessageStep {
    pub channel: String,
    #[serde(default, rename = "as")]
    pub handle: Option<String>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AttemptStep {
    pub steps: Vec<Step>,
    #[serde(default)]
    pub on_failure: Vec<Step>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RepeatStep {
    pub times: u64,
    pub steps: Vec<Step>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PublishStep {
    pub key: String,
    #[serde(default)]
    pub value: Value,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LogStep {
    pub message: String,
    #[serde(default)]
    pub level: Level,
}

#[derive(Default, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    Trace,
    Debug,
    #[default]
    Info,
    Warn,
    Error,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct VersionStep {
    pub change_id: String,
    pub min: u32,
    pub max: u32,
    #[serde(default)]
    pub new: Vec<Step>,
    #[serde(default)]
    pub old: Vec<Step>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FailStep {
    pub code: String,
    #[serde(default)]
    pub message: String,
    /// End it as canceled instead.
    #[serde(default)]
    pub canceled: bool,
}
