//! `POST /executions/{id}/replay?to=`: relives the history without effects, on its own component or on the one in the
//! body, and says whether they agree.

use axum::{Json, body::Body, extract::State};
use relive_engine::{Engine, schema, views::ReplayReport};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{
    extract::{ExecutionPath, Query, read_upload},
    problem::Problem,
};

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ReplayQuery {
    /// The last event to apply; all if absent.
    to: Option<u64>,
}

/// Relives the history without effects and says whether code and history agree
#[utoipa::path(
    post,
    path = "/replay",
    tag = "operate",
    operation_id = "replay",
    params(ReplayQuery),
    request_body(content((schema::Component = "application/wasm"), (schema::Component = "application/octet-stream")), description = "Other code; the run's own if empty"),
    responses((status = 200, description = "Whether they agree", body = ReplayReport)),
    extensions(("x-problems" = json!(["unknown-execution", "invalid-argument", "upload", "replay-failed"])))
)]
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
