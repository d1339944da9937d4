//! `GET /executions/{id}/state?at=`: open promises, steps and published values as they were at an event.

use axum::{Json, extract::State};
use relive_engine::{Engine, views::StateView};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{
    extract::{ExecutionPath, Query},
    problem::Problem,
};

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct StateQuery {
    /// An event id; the end if absent.
    at: Option<u64>,
}

/// Open promises, steps and published values as they were at an event
#[utoipa::path(
    get,
    path = "/state",
    tag = "executions",
    operation_id = "state",
    params(StateQuery),
    responses((status = 200, description = "The state", body = StateView)),
    extensions(("x-problems" = json!(["unknown-execution", "invalid-argument", "replay-failed", "unusable"])))
)]
pub async fn state(
    State(engine): State<Engine>,
    ExecutionPath(target): ExecutionPath,
    Query(query): Query<StateQuery>,
) -> Result<Json<StateView>, Problem> {
    Ok(Json(engine.state(target, query.at).await?))
}
