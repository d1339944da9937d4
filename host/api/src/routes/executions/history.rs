//! `GET /executions/{id}/history?from=&limit=`: events, oldest first, a page at a time.

use axum::{Json, extract::State};
use relive_engine::{Engine, views::HistoryPage};
use serde::Deserialize;

use crate::{
    extract::{ExecutionPath, Query},
    problem::Problem,
};

const DEFAULT_LIMIT: usize = 200;
/// A page is built in memory; histories as a whole are bounded by their bytes.
const MAX_LIMIT: usize = 1_000;

#[derive(Deserialize)]
pub struct HistoryQuery {
    /// An event id; 1 if absent.
    from: Option<u64>,
    limit: Option<usize>,
}

pub async fn history(
    State(engine): State<Engine>,
    ExecutionPath(target): ExecutionPath,
    Query(query): Query<HistoryQuery>,
) -> Result<Json<HistoryPage>, Problem> {
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT);
    Ok(Json(engine.history(target, query.from.unwrap_or(1), limit).await?))
}
