//! `POST /executions/{id}/activities/{step}/pause`, `/resume`, `/reset`, `/update`, `/redrive`, `/give-up`: operators and
//! an activity that is not resolved. Answered once it is recorded.

use axum::{Json, extract::State};
use relive_core::{limits::MAX_DURATION_NANOS, options::ActivityOptions, retry::RetryPolicy};
use relive_engine::{Engine, Target, TaskChange};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    extract::{ExecutionPath, JsonBody, Param, parse_or_default},
    problem::Problem,
};

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = OperatorNote)]
struct Note {
    /// Why; it stands in the history.
    #[serde(default)]
    note: String,
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ResetActivity)]
struct Reset {
    #[serde(default)]
    note: String,
    /// What the heartbeats told is kept for the first attempt.
    #[serde(default)]
    keep_details: bool,
}

/// What is to be other; what is absent stays. Times in milliseconds; 0 takes a timeout away.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = UpdateActivity)]
struct Update {
    #[serde(default)]
    note: String,
    schedule_to_close_ms: Option<u64>,
    schedule_to_start_ms: Option<u64>,
    start_to_close_ms: Option<u64>,
    heartbeat_timeout_ms: Option<u64>,
    initial_interval_ms: Option<u64>,
    maximum_interval_ms: Option<u64>,
    backoff: Option<f64>,
    /// 0: without end.
    maximum_attempts: Option<u32>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ActivityChanged)]
pub struct Changed {
    workflow_id: String,
    command_no: u64,
    action: &'static str,
}

fn step(param: &str) -> Result<u64, Problem> {
    let invalid = |_| Problem::invalid("invalid-path", format!("{param:?} is not the number of a step"));
    param.parse().map_err(invalid)
}

async fn change(
    engine: &Engine,
    target: Target,
    command_no: u64,
    action: &'static str,
    change: TaskChange,
    note: String,
) -> Result<Json<Changed>, Problem> {
    let workflow_id = target.workflow_id.to_string();
    engine.change_activity(target, command_no, change, note).await?;
    Ok(Json(Changed { workflow_id, command_no, action }))
}

/// Lets no further attempt of an activity begin
#[utoipa::path(
    post,
    path = "/activities/{step}/pause",
    tag = "operate",
    operation_id = "pause-activity",
    params(("step" = u64, Path, description = "The step's number")),
    request_body(content = Option<Note>),
    responses((status = 200, description = "Recorded", body = Changed)),
    extensions(("x-problems" = json!(["unknown-execution", "unknown-step", "closed", "shutting-down", "fenced"])))
)]
pub async fn pause(
    State(engine): State<Engine>,
    ExecutionPath(target): ExecutionPath,
    Param(param): Param,
    JsonBody(bytes): JsonBody,
) -> Result<Json<Changed>, Problem> {
    let note = parse_or_default::<Note>(&bytes)?.note;
    change(&engine, target, step(&param)?, "pause", TaskChange::Pause, note).await
}

/// Lets attempts of an activity begin again
#[utoipa::path(
    post,
    path = "/activities/{step}/resume",
    tag = "operate",
    operation_id = "resume-activity",
    params(("step" = u64, Path, description = "The step's number")),
    request_body(content = Option<Note>),
    responses((status = 200, description = "Recorded", body = Changed)),
    extensions(("x-problems" = json!(["unknown-execution", "unknown-step", "closed", "shutting-down", "fenced"])))
)]
pub async fn resume(
    State(engine): State<Engine>,
    ExecutionPath(target): ExecutionPath,
    Param(param): Param,
    JsonBody(bytes): JsonBody,
) -> Result<Json<Changed>, Problem> {
    let note = parse_or_default::<Note>(&bytes)?.note;
    change(&engine, target, step(&param)?, "resume", TaskChange::Resume, note).await
}

/// Begins an activity anew: its next attempt is the first, at once
#[utoipa::path(
    post,
    path = "/activities/{step}/reset",
    tag = "operate",
    operation_id = "reset-activity",
    params(("step" = u64, Path, description = "The step's number")),
    request_body(content = Option<Reset>),
    responses((status = 200, description = "Recorded", body = Changed)),
    extensions(("x-problems" = json!(["unknown-execution", "unknown-step", "closed", "shutting-down", "fenced"])))
)]
pub async fn reset(
    State(engine): State<Engine>,
    ExecutionPath(target): ExecutionPath,
    Param(param): Param,
    JsonBody(bytes): JsonBody,
) -> Result<Json<Changed>, Problem> {
    let Reset { note, keep_details } = parse_or_default(&bytes)?;
    change(&engine, target, step(&param)?, "reset", TaskChange::Reset { keep_details }, note).await
}

/// Gives an activity other timeouts and another retry policy
#[utoipa::path(
    post,
    path = "/activities/{step}/update",
    tag = "operate",
    operation_id = "update-activity",
    params(("step" = u64, Path, description = "The step's number")),
    request_body(content = Option<Update>),
    responses((status = 200, description = "Recorded", body = Changed)),
    extensions(("x-problems" = json!(["unknown-execution", "unknown-step", "closed", "shutting-down", "fenced", "invalid-argument"])))
)]
pub async fn update(
    State(engine): State<Engine>,
    ExecutionPath(target): ExecutionPath,
    Param(param): Param,
    JsonBody(bytes): JsonBody,
) -> Result<Json<Changed>, Problem> {
    let mut update: Update = parse_or_default(&bytes)?;
    let command_no = step(&param)?;
    let note = std::mem::take(&mut update.note);
    let options = update.apply(engine.activity_options(target.clone(), command_no).await?)?;
    change(&engine, target, command_no, "update", TaskChange::Update(options), note).await
}

/// Lets the attempts of an exhausted activity begin again
///
/// From the first attempt, at once, under the same idempotency key.
#[utoipa::path(
    post,
    path = "/activities/{step}/redrive",
    tag = "operate",
    operation_id = "redrive-activity",
    params(("step" = u64, Path, description = "The step's number")),
    request_body(content = Option<Note>),
    responses((status = 200, description = "Recorded", body = Changed)),
    extensions(("x-problems" = json!(["unknown-execution", "unknown-step", "not-exhausted", "closed", "shutting-down", "fenced"])))
)]
pub async fn redrive(
    State(engine): State<Engine>,
    ExecutionPath(target): ExecutionPath,
    Param(param): Param,
    JsonBody(bytes): JsonBody,
) -> Result<Json<Changed>, Problem> {
    let (note, command_no) = (parse_or_default::<Note>(&bytes)?.note, step(&param)?);
    let workflow_id = target.workflow_id.to_string();
    engine.redrive(target, command_no, note).await?;
    Ok(Json(Changed { workflow_id, command_no, action: "redrive" }))
}

/// Gives an exhausted activity up: it fails as its last attempt did
#[utoipa::path(
    post,
    path = "/activities/{step}/give-up",
    tag = "operate",
    operation_id = "give-up-activity",
    params(("step" = u64, Path, description = "The step's number")),
    request_body(content = Option<Note>),
    responses((status = 200, description = "Recorded, with the activity's failure", body = Changed)),
    extensions(("x-problems" = json!(["unknown-execution", "unknown-step", "not-exhausted", "closed", "shutting-down", "fenced"])))
)]
pub async fn give_up(
    State(engine): State<Engine>,
    ExecutionPath(target): ExecutionPath,
    Param(param): Param,
    JsonBody(bytes): JsonBody,
) -> Result<Json<Changed>, Problem> {
    let (note, command_no) = (parse_or_default::<Note>(&bytes)?.note, step(&param)?);
    let workflow_id = target.workflow_id.to_string();
    engine.give_up(target, command_no, note).await?;
    Ok(Json(Changed { workflow_id, command_no, action: "give-up" }))
}

impl Update {
    fn apply(&self, options: ActivityOptions) -> Result<ActivityOptions, Problem> {
        let times = [
            self.schedule_to_close_ms,
            self.schedule_to_start_ms,
            self.start_to_close_ms,
            self.heartbeat_timeout_ms,
            self.initial_interval_ms,
            self.maximum_interval_ms,
        ];
        if let Some(ms) = times.into_iter().flatten().find(|ms| *ms > MAX_DURATION_NANOS / 1_000_000) {
            return Err(Problem::invalid("invalid-argument", format!("{ms} ms are more than a hundred years")));
        }
        let nanos = |ms: u64| ms.saturating_mul(1_000_000);
        let other = |new: Option<u64>, old: Option<u64>| match new {
            None => old,
            Some(0) => None,
            Some(ms) => Some(nanos(ms)),
        };
        let before = options.policy();
        let retry = RetryPolicy {
            initial_interval: self.initial_interval_ms.map_or(before.initial_interval, nanos),
            maximum_interval: self.maximum_interval_ms.map_or(before.maximum_interval, nanos),
            backoff: self.backoff.unwrap_or(before.backoff),
            maximum_attempts: self.maximum_attempts.unwrap_or(before.maximum_attempts),
            ..before
        };
        retry.check().map_err(|e| Problem::invalid("invalid-argument", e))?;
        Ok(ActivityOptions {
            schedule_to_close: other(self.schedule_to_close_ms, options.schedule_to_close),
            schedule_to_start: other(self.schedule_to_start_ms, options.schedule_to_start),
            start_to_close: other(self.start_to_close_ms, options.start_to_close),
            heartbeat_timeout: other(self.heartbeat_timeout_ms, options.heartbeat_timeout),
            retry: Some(retry),
            ..options
        })
    }
}
