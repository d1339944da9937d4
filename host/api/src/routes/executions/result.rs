//! `GET /executions/{id}/result?wait_ms=`: how it ended, or how it stands when the time is up. Waits at most 60 s a
//! request; a client that wants to wait longer asks again.

use std::time::Duration;

use axum::{Extension, Json, extract::State};
use relive_engine::{Engine, Target, views::ResultView};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{
    connection::Connection,
    extract::{ExecutionPath, Query},
    problem::Problem,
};

/// Proxies cut quiet connections off after a minute or more.
pub const MAX_WAIT_MS: u64 = 60_000;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ResultQuery {
    /// How long to wait for the end; more is cut to 60,000.
    #[param(minimum = 0, maximum = 60_000)]
    wait_ms: Option<u64>,
}

/// How it ended, or how it stands when the time is up
#[utoipa::path(
    get,
    path = "/result",
    tag = "executions",
    operation_id = "result",
    params(ResultQuery),
    responses((status = 200, description = "The result, the failure, or that it is open", body = ResultView)),
    extensions(("x-problems" = json!(["unknown-execution"])))
)]
pub async fn result(
    State(engine): State<Engine>,
    ExecutionPath(target): ExecutionPath,
    Query(query): Query<ResultQuery>,
    connection: Option<Extension<Connection>>,
) -> Result<Json<ResultView>, Problem> {
    let wait = query.wait_ms.map(|ms| Duration::from_millis(ms.min(MAX_WAIT_MS)));
    Ok(Json(outcome(&engine, target, wait, connection).await?))
}

/// Waits for the end of an execution, for the time, or for the host's shutdown, and tells how it stands.
pub async fn outcome(
    engine: &Engine,
    target: Target,
    wait: Option<Duration>,
    connection: Option<Extension<Connection>>,
) -> Result<ResultView, Problem> {
    let (Some(wait), Some(Extension(connection))) = (wait, connection) else {
        return Ok(engine.result(target, wait).await?);
    };
    tokio::select! {
        biased;
        result = engine.result(target.clone(), Some(wait)) => Ok(result?),
        () = connection.stopping() => Ok(engine.result(target, None).await?),
    }
}
