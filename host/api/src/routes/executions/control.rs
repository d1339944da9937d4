//! `POST /executions/{id}/cancel`, `/terminate`, `/unblock`, `/migrate`: an operator's word, with an optional `{"reason": ".."}`.
//! Answered once it is recorded; a cancel is recorded before the guest has seen it.

use axum::{Json, extract::State};
use relive_engine::Engine;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::versions::signed;
use crate::{
    extract::{ExecutionPath, JsonBody, parse, parse_or_default},
    problem::Problem,
};

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Reason {
    /// Why; kept in the history.
    #[serde(default)]
    reason: String,
}

#[derive(Serialize, ToSchema)]
pub struct Recorded {
    workflow_id: String,
    action: &'static str,
}

fn reason(JsonBody(bytes): JsonBody) -> Result<String, Problem> {
    Ok(parse_or_default::<Reason>(&bytes)?.reason)
}

/// Asks an execution to cancel; its code may clean up
#[utoipa::path(
    post,
    path = "/cancel",
    tag = "operate",
    operation_id = "cancel",
    request_body(content = Option<Reason>),
    responses((status = 200, description = "Recorded", body = Recorded)),
    extensions(("x-problems" = json!(["unknown-execution", "closed", "shutting-down", "fenced"])))
)]
pub async fn cancel(
    State(engine): State<Engine>,
    ExecutionPath(target): ExecutionPath,
    body: JsonBody,
) -> Result<Json<Recorded>, Problem> {
    let workflow_id = target.workflow_id.to_string();
    engine.cancel(target, reason(body)?).await?;
    Ok(Json(Recorded { workflow_id, action: "cancel" }))
}

/// Ends an execution without asking its code
#[utoipa::path(
    post,
    path = "/terminate",
    tag = "operate",
    operation_id = "terminate",
    request_body(content = Option<Reason>),
    responses((status = 200, description = "Recorded", body = Recorded)),
    extensions(("x-problems" = json!(["unknown-execution", "closed", "shutting-down", "fenced"])))
)]
pub async fn terminate(
    State(engine): State<Engine>,
    ExecutionPath(target): ExecutionPath,
    body: JsonBody,
) -> Result<Json<Recorded>, Problem> {
    let workflow_id = target.workflow_id.to_string();
    engine.terminate(target, reason(body)?).await?;
    Ok(Json(Recorded { workflow_id, action: "terminate" }))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct MigrateBody {
    /// The version of the workflow that the run goes on on.
    version: u32,
    /// Who asks for it.
    #[schema(max_length = 1000)]
    author: Option<String>,
    /// Why; kept in the history.
    #[schema(max_length = 1000)]
    reason: Option<String>,
}

/// Puts an execution on another version, if that one agrees with its history
#[utoipa::path(
    post,
    path = "/migrate",
    tag = "operate",
    operation_id = "migrate",
    request_body(content = MigrateBody),
    responses((status = 200, description = "Recorded: the run goes on on that version", body = Recorded)),
    extensions(("x-problems" = json!(["unknown-execution", "unknown-version", "closed", "diverges", "traps", "other-export", "unusable", "busy", "try-again", "invalid-argument", "shutting-down", "fenced"])))
)]
pub async fn migrate(
    State(engine): State<Engine>,
    ExecutionPath(target): ExecutionPath,
    JsonBody(bytes): JsonBody,
) -> Result<Json<Recorded>, Problem> {
    let body: MigrateBody = parse(&bytes)?;
    let workflow_id = target.workflow_id.to_string();
    engine.migrate(target, body.version, signed(body.author, body.reason)?).await?;
    Ok(Json(Recorded { workflow_id, action: "migrate" }))
}

/// Lets a blocked execution try again
#[utoipa::path(
    post,
    path = "/unblock",
    tag = "operate",
    operation_id = "unblock",
    request_body(content = Option<Reason>),
    responses((status = 200, description = "Recorded", body = Recorded)),
    extensions(("x-problems" = json!(["unknown-execution", "closed", "shutting-down", "fenced", "not-blocked"])))
)]
pub async fn unblock(
    State(engine): State<Engine>,
    ExecutionPath(target): ExecutionPath,
    body: JsonBody,
) -> Result<Json<Recorded>, Problem> {
    let workflow_id = target.workflow_id.to_string();
    engine.unblock(target, reason(body)?).await?;
    Ok(Json(Recorded { workflow_id, action: "unblock" }))
}
