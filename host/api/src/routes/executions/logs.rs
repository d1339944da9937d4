//! `GET /executions/{id}/logs`: what the guest logged, oldest first.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use relive_core::{
    RunId, Timestamp,
    cursor::{LogLevel, LogLine},
};
use relive_engine::{Engine, Target, schema};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    extract::{ExecutionPath, Query},
    page::{self, InRun, List, Paging},
    problem::Problem,
};

const DEFAULT_LIMIT: usize = 200;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct LogsQuery {
    /// The number of the last line that is known; from the beginning if absent. A cursor says it better.
    after: Option<u64>,
    /// Lines a page; more is cut to 1,000.
    #[param(minimum = 1, maximum = 1000, default = 200)]
    limit: Option<usize>,
    /// The `next_cursor` of the page before.
    #[param(max_length = 2048)]
    cursor: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct LogsPage {
    workflow_id: String,
    #[schema(value_type = schema::RunId)]
    run_id: RunId,
    lines: Vec<Line>,
    /// The `cursor` of the next page; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
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
    extensions(("x-problems" = json!(["unknown-execution", "invalid-cursor"])))
)]
pub async fn logs(
    State(engine): State<Engine>,
    ExecutionPath(target): ExecutionPath,
    Query(query): Query<LogsQuery>,
) -> Result<Json<LogsPage>, Problem> {
    let paging = Paging::new(query.limit, query.cursor);
    let (target, after) = match paging.position::<InRun>(List::Logs)? {
        Some(place) => (Target { run_id: Some(place.run), ..target }, place.number),
        None => (target, query.after.unwrap_or(0)),
    };
    let page = engine.logs(target, after, paging.limit(DEFAULT_LIMIT)).await?;
    let next = page.next.map(|number| InRun { run: page.run_id, number });
    Ok(Json(LogsPage {
        workflow_id: page.workflow_id,
        run_id: page.run_id,
        lines: page.lines.into_iter().map(Line::from).collect(),
        next_cursor: next.map(|place| page::encode(List::Logs, &place)),
    }))
}
