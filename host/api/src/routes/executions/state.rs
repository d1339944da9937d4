//! `GET /executions/{id}/state?at=`: open promises, steps and published values as they were at an event.

use axum::{Json, extract::State};
use relive_engine::{Engine, views::StateView};
use serde::Deserialize;

use crate::{
    extract::{ExecutionPath, Query},
    problem::Problem,
};

#[derive(Deserialize)]
pub struct StateQuery {
    /// An event id; the end if absent.
    at: Option<u64>,
}

pub async fn state(
    State(engine): State<Engine>,
    ExecutionPath(target): ExecutionPath,
    Query(query): Query<StateQuery>,
) -> Result<Json<StateView>, Problem> {
    Ok(Json(engine.state(target, query.at).await?))
}
