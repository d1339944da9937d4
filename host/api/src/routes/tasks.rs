//! Answers for tasks, by token: `POST /tasks/{token}/complete`, `/fail`, `/cancel`, `/heartbeat`, `/defer`; several at
//! once by `POST /tasks/complete`. `POST /tasks/claim`: an attempt that a worker learnt of elsewhere.
//!
//! An answer is acknowledged once what follows from it is durable. 409 `superseded`: nobody waits for it any more.

use axum::{Json, body::Bytes, extract::State};
use futures_util::future::join_all;
use relive_core::{ExecutionKey, Failure, FailureKind, Json as Value, Timestamp};
use relive_engine::{ClaimedTask, Engine, Report, schema};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::{
    extract::{JsonBody, NamespacePath, Param, parse, parse_or_default, take_json},
    problem::Problem,
};

/// Answers that one request may carry.
const MAX_ANSWERS: usize = 100;

/// An attempt, as its worker gets it.
#[derive(Serialize, ToSchema)]
#[schema(as = Task)]
pub struct TaskView {
    /// Show it with every answer.
    token: String,
    namespace: String,
    workflow_id: String,
    run_id: String,
    workflow: String,
    command_no: u64,
    /// From 1.
    attempt: u32,
    /// 0: without end.
    maximum_attempts: u32,
    activity: String,
    task_queue: String,
    #[schema(value_type = schema::Json)]
    input: Value,
    /// The same for all attempts.
    idempotency_key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<String>,
    /// The attempt's span (W3C Trace Context): what the worker calls and records goes below it.
    traceparent: String,
    #[schema(value_type = schema::Timestamp)]
    scheduled_at: Timestamp,
    #[schema(value_type = schema::Timestamp)]
    started_at: Timestamp,
    /// The attempt has to be answered within this, counted from `started_at`.
    start_to_close_ms: u64,
    /// A heartbeat is due at least this often.
    #[serde(skip_serializing_if = "Option::is_none")]
    heartbeat_timeout_ms: Option<u64>,
    /// What the last heartbeat of an attempt before told.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = schema::Json, required = false)]
    heartbeat_details: Option<Value>,
}

impl From<ClaimedTask> for TaskView {
    fn from(task: ClaimedTask) -> Self {
        let ExecutionKey { namespace, workflow_id, run_id } = &task.execution;
        let millis = |nanos: u64| nanos.div_ceil(1_000_000);
        Self {
            token: task.token.to_string(),
            namespace: namespace.to_string(),
            workflow_id: workflow_id.to_string(),
            run_id: run_id.to_string(),
            workflow: task.workflow.to_string(),
            command_no: task.command_no,
            attempt: task.attempt,
            maximum_attempts: task.options.policy().maximum_attempts,
            activity: task.activity.to_string(),
            task_queue: task.task_queue.to_string(),
            idempotency_key: task.execution.idempotency_key(task.command_no),
            traceparent: task.trace.to_string(),
            input: task.input,
            correlation_id: task.correlation_id.as_deref().map(str::to_owned),
            scheduled_at: task.scheduled_at,
            started_at: task.started_at,
            start_to_close_ms: millis(task.options.attempt_nanos()),
            heartbeat_timeout_ms: task.options.heartbeat_timeout.map(millis),
            heartbeat_details: task.details,
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CompleteBody<'a> {
    #[serde(borrow, default)]
    #[schema(value_type = schema::Json, required = false)]
    result: Option<&'a RawValue>,
}

/// A failure, as workers tell it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct FailureBody<'a> {
    /// For programs: policies name the codes that are not worth another attempt.
    #[serde(default = "failed")]
    code: String,
    #[serde(default)]
    message: String,
    #[serde(borrow, default)]
    #[schema(value_type = schema::Json, required = false)]
    details: Option<&'a RawValue>,
    #[serde(default = "yes")]
    retryable: bool,
}

fn failed() -> String {
    "failed".to_owned()
}

fn yes() -> bool {
    true
}

impl FailureBody<'_> {
    fn take(self) -> Result<Failure, Problem> {
        let details = self.details.map(|raw| take_json(Some(raw), "failure's details")).transpose()?;
        let failure = Failure::new(FailureKind::Application, &self.code, self.message);
        Ok(Failure { details, retryable: self.retryable, ..failure })
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct FailBody<'a> {
    #[serde(borrow)]
    failure: FailureBody<'a>,
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct BeatBody<'a> {
    /// Kept for the next attempt, should this one fail.
    #[serde(borrow, default)]
    #[schema(value_type = schema::Json, required = false)]
    details: Option<&'a RawValue>,
}

#[derive(Serialize, ToSchema)]
pub struct Accepted {
    accepted: bool,
}

const ACCEPTED: Json<Accepted> = Json(Accepted { accepted: true });

#[derive(Serialize, ToSchema)]
pub struct Beaten {
    /// The worker should stop, and answer with `/cancel`.
    cancel_requested: bool,
    /// Nobody waits for the attempt's answer any more: stop, and answer nothing.
    gone: bool,
}

/// Completes an attempt
#[utoipa::path(
    post,
    path = "/tasks/{token}/complete",
    tag = "workers",
    operation_id = "complete-task",
    request_body(content = CompleteBody),
    responses((status = 200, description = "What follows from it is durable", body = Accepted)),
    extensions(("x-problems" = json!(["unknown-task", "superseded", "shutting-down"])))
)]
pub async fn complete(
    State(engine): State<Engine>,
    NamespacePath(namespace): NamespacePath,
    Param(token): Param,
    JsonBody(bytes): JsonBody,
) -> Result<Json<Accepted>, Problem> {
    let result = take_json(parse::<CompleteBody<'_>>(&bytes)?.result, "result")?;
    engine.report(&namespace, &token, Report::Completed(result)).await?;
    Ok(ACCEPTED)
}

/// Tells that an attempt failed
#[utoipa::path(
    post,
    path = "/tasks/{token}/fail",
    tag = "workers",
    operation_id = "fail-task",
    request_body(content = FailBody),
    responses((status = 200, description = "What follows from it is durable", body = Accepted)),
    extensions(("x-problems" = json!(["unknown-task", "superseded", "shutting-down"])))
)]
pub async fn fail(
    State(engine): State<Engine>,
    NamespacePath(namespace): NamespacePath,
    Param(token): Param,
    JsonBody(bytes): JsonBody,
) -> Result<Json<Accepted>, Problem> {
    let failure = parse::<FailBody<'_>>(&bytes)?.failure.take()?;
    engine.report(&namespace, &token, Report::Failed(failure)).await?;
    Ok(ACCEPTED)
}

/// Tells that an attempt stopped because it was asked to
#[utoipa::path(
    post,
    path = "/tasks/{token}/cancel",
    tag = "workers",
    operation_id = "cancel-task",
    responses((status = 200, description = "What follows from it is durable", body = Accepted)),
    extensions(("x-problems" = json!(["unknown-task", "superseded", "shutting-down"])))
)]
pub async fn cancel(
    State(engine): State<Engine>,
    NamespacePath(namespace): NamespacePath,
    Param(token): Param,
) -> Result<Json<Accepted>, Problem> {
    engine.report(&namespace, &token, Report::Canceled).await?;
    Ok(ACCEPTED)
}

/// Tells that an attempt goes on
#[utoipa::path(
    post,
    path = "/tasks/{token}/heartbeat",
    tag = "workers",
    operation_id = "heartbeat-task",
    request_body(content = Option<BeatBody>),
    responses((status = 200, description = "Whether it should go on", body = Beaten)),
    extensions(("x-problems" = json!(["unknown-task", "superseded", "shutting-down"])))
)]
pub async fn heartbeat(
    State(engine): State<Engine>,
    NamespacePath(namespace): NamespacePath,
    Param(token): Param,
    JsonBody(bytes): JsonBody,
) -> Result<Json<Beaten>, Problem> {
    beat(&engine, &namespace, &token, &bytes, false).await
}

/// Tells that an attempt will be answered later and from elsewhere
#[utoipa::path(
    post,
    path = "/tasks/{token}/defer",
    tag = "workers",
    operation_id = "defer-task",
    request_body(content = Option<BeatBody>),
    responses((status = 200, description = "Whether it should go on", body = Beaten)),
    extensions(("x-problems" = json!(["unknown-task", "superseded", "shutting-down"])))
)]
pub async fn defer(
    State(engine): State<Engine>,
    NamespacePath(namespace): NamespacePath,
    Param(token): Param,
    JsonBody(bytes): JsonBody,
) -> Result<Json<Beaten>, Problem> {
    beat(&engine, &namespace, &token, &bytes, true).await
}

async fn beat(
    engine: &Engine,
    namespace: &relive_core::Namespace,
    token: &str,
    bytes: &Bytes,
    defer: bool,
) -> Result<Json<Beaten>, Problem> {
    let details = parse_or_default::<BeatBody<'_>>(bytes)?.details;
    let details = details.map(|raw| take_json(Some(raw), "heartbeat's details")).transpose()?;
    let beat = engine.beat(namespace, token, details, defer).await?;
    Ok(Json(Beaten { cancel_requested: beat.cancel_requested, gone: beat.gone }))
}

/// One answer of several: with a result, a failure, or the word that it was canceled.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Answer<'a> {
    token: String,
    #[serde(borrow, default)]
    #[schema(value_type = schema::Json, required = false)]
    result: Option<&'a RawValue>,
    #[serde(borrow, default)]
    failure: Option<FailureBody<'a>>,
    #[serde(default)]
    canceled: bool,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Answers<'a> {
    #[serde(borrow)]
    answers: Vec<Answer<'a>>,
}

/// What became of one answer.
#[derive(Serialize, ToSchema)]
pub struct Outcome {
    token: String,
    accepted: bool,
    /// Why it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct Outcomes {
    outcomes: Vec<Outcome>,
}

impl Answer<'_> {
    fn report(self) -> Result<Report, Problem> {
        match (self.result, self.failure, self.canceled) {
            (Some(result), None, false) => Ok(Report::Completed(take_json(Some(result), "result")?)),
            (None, Some(failure), false) => Ok(Report::Failed(failure.take()?)),
            (None, None, true) => Ok(Report::Canceled),
            (None, None, false) => Ok(Report::Completed(Value::null())),
            _ => Err(Problem::invalid("invalid-body", "an answer is a result, a failure, or canceled: one of them")),
        }
    }
}

/// Answers several attempts
///
/// Each answer stands for itself: one that is refused does not touch the others.
#[utoipa::path(
    post,
    path = "/tasks/complete",
    tag = "workers",
    operation_id = "answer-tasks",
    request_body(content = Answers),
    responses((status = 200, description = "What became of each", body = Outcomes)),
    extensions(("x-problems" = json!(["shutting-down"])))
)]
pub async fn answer(
    State(engine): State<Engine>,
    NamespacePath(namespace): NamespacePath,
    JsonBody(bytes): JsonBody,
) -> Result<Json<Outcomes>, Problem> {
    let answers = parse::<Answers<'_>>(&bytes)?.answers;
    if answers.len() > MAX_ANSWERS {
        let message = format!("{} answers at once; at most {MAX_ANSWERS} are taken", answers.len());
        return Err(Problem::invalid("invalid-body", message));
    }
    let reports = answers.into_iter().map(|answer| (answer.token.clone(), answer.report()));
    let all = reports.map(|(token, report)| {
        let (engine, namespace) = (&engine, &namespace);
        async move {
            let result = match report {
                Ok(report) => engine.report(namespace, &token, report).await.map_err(Problem::from),
                Err(problem) => Err(problem),
            };
            outcome(token, result)
        }
    });
    Ok(Json(Outcomes { outcomes: join_all(all).await }))
}

fn outcome(token: String, result: Result<(), Problem>) -> Outcome {
    match result {
        Ok(()) => Outcome { token, accepted: true, code: None, detail: None },
        Err(problem) => {
            let (code, detail) = problem.told();
            Outcome { token, accepted: false, code: Some(code.to_owned()), detail: Some(detail.to_owned()) }
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ClaimBody {
    /// `run-command-attempt`, as the task's reference has it.
    task: String,
    worker_id: String,
}

/// Claims an attempt that a worker learnt of elsewhere
#[utoipa::path(
    post,
    path = "/tasks/claim",
    tag = "workers",
    operation_id = "claim-task",
    request_body(content = ClaimBody),
    responses((status = 200, description = "It is the worker's", body = TaskView)),
    extensions(("x-problems" = json!(["unknown-task", "unknown-worker", "superseded", "busy", "queue-limited", "shutting-down", "invalid-argument"])))
)]
pub async fn claim(
    State(engine): State<Engine>,
    NamespacePath(namespace): NamespacePath,
    JsonBody(bytes): JsonBody,
) -> Result<Json<TaskView>, Problem> {
    let body: ClaimBody = parse(&bytes)?;
    Ok(Json(engine.claim_task(&namespace, &body.worker_id, &body.task).await?.into()))
}
