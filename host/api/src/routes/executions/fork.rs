//! `POST /executions/{id}/fork`: a new execution from the history up to an event. 201 once it is durable.

use axum::{Json, extract::State, http::StatusCode};
use relive_core::WorkflowId;
use relive_engine::{Engine, views::Forked};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    extract::{ExecutionPath, JsonBody, parse},
    problem::Problem,
};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ForkBody {
    /// The last event to take.
    at: u64,
    /// The fork's id; a fresh UUID if none.
    #[schema(value_type = Option<String>, max_length = 256)]
    workflow_id: Option<WorkflowId>,
}

/// Makes a new execution of the history up to an event
#[utoipa::path(
    post,
    path = "/fork",
    tag = "operate",
    operation_id = "fork",
    request_body(content = ForkBody),
    responses((status = 201, description = "The fork is durable", body = Forked)),
    extensions(("x-problems" = json!(["unknown-execution", "already-started", "invalid-argument", "replay-failed", "unusable", "shutting-down"])))
)]
pub async fn fork(
    State(engine): State<Engine>,
    ExecutionPath(target): ExecutionPath,
    JsonBody(bytes): JsonBody,
) -> Result<(StatusCode, Json<Forked>), Problem> {
    let body: ForkBody = parse(&bytes)?;
    Ok((StatusCode::CREATED, Json(engine.fork(target, body.at, body.workflow_id).await?)))
}
