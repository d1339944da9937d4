//! `POST /executions/{id}/cancel`, `/terminate`, `/unblock`: an operator's word, with an optional `{"reason": ".."}`.
//! Answered once it is recorded; a cancel is recorded before the guest has seen it.

use axum::{
    Json,
    body::{Body, Bytes},
    extract::State,
};
use relive_engine::Engine;
use serde::{Deserialize, Serialize};

use crate::{
    extract::{ExecutionPath, parse_or_default, read_small},
    problem::Problem,
};

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reason {
    #[serde(default)]
    reason: String,
}

#[derive(Serialize)]
pub struct Recorded {
    workflow_id: String,
    action: &'static str,
}

async fn reason(body: Body) -> Result<String, Problem> {
    let bytes: Bytes = read_small(body).await?;
    Ok(parse_or_default::<Reason>(&bytes)?.reason)
}

pub async fn cancel(
    State(engine): State<Engine>,
    ExecutionPath(target): ExecutionPath,
    body: Body,
) -> Result<Json<Recorded>, Problem> {
    let workflow_id = target.workflow_id.to_string();
    engine.cancel(target, reason(body).await?).await?;
    Ok(Json(Recorded { workflow_id, action: "cancel" }))
}

pub async fn terminate(
    State(engine): State<Engine>,
    ExecutionPath(target): ExecutionPath,
    body: Body,
) -> Result<Json<Recorded>, Problem> {
    let workflow_id = target.workflow_id.to_string();
    engine.terminate(target, reason(body).await?).await?;
    Ok(Json(Recorded { workflow_id, action: "terminate" }))
}

pub async fn unblock(
    State(engine): State<Engine>,
    ExecutionPath(target): ExecutionPath,
    body: Body,
) -> Result<Json<Recorded>, Problem> {
    let workflow_id = target.workflow_id.to_string();
    engine.unblock(target, reason(body).await?).await?;
    Ok(Json(Recorded { workflow_id, action: "unblock" }))
}
