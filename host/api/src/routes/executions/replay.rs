//! `POST /executions/{id}/replay?to=`: relives the history without effects, on its own component or on the one in the
//! body, and says whether they agree.

use axum::{Json, body::Body, extract::State};
use relive_engine::{Engine, views::ReplayReport};
use serde::Deserialize;

use crate::{
    extract::{ExecutionPath, Query, read_upload},
    problem::Problem,
};

#[derive(Deserialize)]
pub struct ReplayQuery {
    /// The last event to apply; all if absent.
    to: Option<u64>,
}

pub async fn replay(
    State(engine): State<Engine>,
    ExecutionPath(target): ExecutionPath,
    Query(query): Query<ReplayQuery>,
    body: Body,
) -> Result<Json<ReplayReport>, Problem> {
    let wasm = read_upload(body).await?;
    let wasm = if wasm.is_empty() { None } else { Some(wasm) };
    Ok(Json(engine.replay(target, wasm, query.to).await?))
}
