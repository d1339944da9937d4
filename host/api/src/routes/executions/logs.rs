//! `GET /executions/{id}/logs?after=&limit=`: what the guest logged, oldest first.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use relive_core::{
    Timestamp,
    cursor::{LogLevel, LogLine},
};
use relive_engine::{Engine, schema};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    extract::{ExecutionPath, Query},
    problem::Problem,
};

const DEFAULT_LIMIT: usize = 200;
/// A page is built in memory; a line has up to 16 KB.
const MAX_LIMIT: usize = 1_000;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct LogsQuery {
    /// A line's number; from the beginning if absent.
    after: Option<u64>,
    /// Lines a page; more is cut to 1,000.
    #[param(minimum = 1, maximum = 1000, default = 200)]
    limit: Option<usize>,
}

#[derive(Serialize, ToSchema)]
pub struct LogsPage {
    lines: Vec<Line>,
    /// Give it back as `after` to get the next page; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = LogLine)]
struct Line {
    number: u64,
    #[schema(value_type = schema::Timestamp)]
    at: Timestamp,
    #[schema(value_type = schema::LogLevel)]
    level: LogLevel,
    message: String,
    #[schema(value_type = BTreeMap<String, schema::Json>)]
    fields: BTreeMap<String, relive_core::Json>,
}

impl From<(u64, LogLine)> for Line {
    fn from((number, line): (u64, LogLine)) -> Self {
        Self {
            number,
            at: line.at,
            level: line.level,
            message: line.message,
            fields: line.fields.into_iter().collect(),
        }
    }
}

/// What the guest logged, oldest first
#[utoipa::path(
    get,
    path = "/logs",
    tag = "executions",
    operation_id = "logs",
    params(LogsQuery),
    responses((status = 200, description = "A page of the log", body = LogsPage)),
    extensions(("x-problems" = json!(["unknown-execution"])))
)]
pub async fn logs(
    State(engine): State<Engine>,
    ExecutionPath(target): ExecutionPath,
    Query(query): Query<LogsQuery>,
) -> Result<Json<LogsPage>, Problem> {
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT);
    let lines = engine.logs(target, query.after.unwrap_or(0), limit).await?;
    let next = if lines.len() == limit { lines.last().map(|(number, _)| *number) } else { None };
    Ok(Json(LogsPage { lines: lines.into_iter().map(Line::from).collect(), next }))
}
