//! `GET /executions/{id}/export`: the history as a file, to check other code against without a host.

use axum::{
    extract::State,
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};
use relive_engine::Engine;

use crate::{extract::ExecutionPath, problem::Problem};

/// The history as a file
///
/// A line of JSON each: what the run's row says, then the events as they are stored. `relive preflight --wasm FILE
/// --histories DIR` reads it.
#[utoipa::path(
    get,
    path = "/export",
    tag = "executions",
    operation_id = "export-history",
    responses((status = 200, description = "The file", content_type = "application/x-ndjson", body = String)),
    extensions(("x-problems" = json!(["unknown-execution"])))
)]
pub async fn export(State(engine): State<Engine>, ExecutionPath(target): ExecutionPath) -> Result<Response, Problem> {
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], engine.export(target).await?).into_response())
}
