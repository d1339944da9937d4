//! `GET /executions/{id}/history?from=&limit=`: events, oldest first, a page at a time.

use axum::{Json, extract::State};
use relive_engine::{Engine, views::HistoryPage};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{
    extract::{ExecutionPath, Query},
    problem::Problem,
};

const DEFAULT_LIMIT: usize = 200;
/// A page is built in memory; histories as a whole are bounded by their bytes.
const MAX_LIMIT: usize = 1_000;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct HistoryQuery {
    /// The event to begin with; 1 if absent.
    from: Option<u64>,
    /// Events a page; more is cut to 1,000.
    #[param(minimum = 1, maximum = 1000, default = 200)]
    limit: Option<usize>,
}

/// Events, oldest first
#[utoipa::path(
    get,
    path = "/history",
    tag = "executions",
    operation_id = "history",
    params(HistoryQuery),
    responses((status = 200, description = "A page of the history", body = HistoryPage)),
    extensions(("x-problems" = json!(["unknown-execution"])))
)]
pub async fn history(
    State(engine): State<Engine>,
    ExecutionPath(target): ExecutionPath,
    Query(query): Query<HistoryQuery>,
) -> Result<Json<HistoryPage>, Problem> {
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT);
    Ok(Json(engine.history(target, query.from.unwrap_or(1), limit).await?))
}
