//! `GET /executions/{id}/logs`: what the guest logged, oldest first, a page at a time, or as it comes.

use std::collections::BTreeMap;

use axum::{
    Extension, Json,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use relive_core::{
    RunId, Timestamp,
    cursor::{LogLevel, LogLine},
};
use relive_engine::{Engine, Follow, Target, schema};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    connection::Connection,
    extract::{ExecutionPath, Query},
    page::{self, InRun, List, Paging},
    problem::Problem,
    sse::{self, Next, Source, Text},
};

const DEFAULT_LIMIT: usize = 200;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct LogsQuery {
    /// The number of the last line that is known; from the beginning if absent. A cursor says it better.
    after: Option<u64>,
    /// Stay, and send what comes as server-sent events, also asked for by `Accept: text/event-stream`. The header
    /// `Last-Event-ID` goes on after an event.
    #[serde(default)]
    follow: bool,
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
    responses(
        (status = 200, description = "A page of the log; or `log` (a LogLine) after `log`, then `end`", content(
            (LogsPage = "application/json"),
            (String = "text/event-stream"),
        )),
        (status = 204, description = "With `Last-Event-ID`: there was the last line, and nothing follows"),
    ),
    extensions(("x-problems" = json!(["unknown-execution", "invalid-cursor"])))
)]
pub async fn logs(
    State(engine): State<Engine>,
    ExecutionPath(target): ExecutionPath,
    Query(query): Query<LogsQuery>,
    connection: Option<Extension<Connection>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let paging = Paging::new(query.limit, query.cursor);
    let (target, after) = match paging.position::<InRun>(List::Logs)? {
        Some(place) => (Target { run_id: Some(place.run), ..target }, place.number),
        None => (target, query.after.unwrap_or(0)),
    };
    if sse::is_wanted(&headers, query.follow) {
        return follow(&engine, target, after, &headers, connection).await;
    }
    let found = engine.logs(target, after, paging.limit(DEFAULT_LIMIT)).await?;
    let next = found.next.map(|number| InRun { run: found.run_id, number });
    let page = LogsPage {
        workflow_id: found.workflow_id,
        run_id: found.run_id,
        lines: found.lines.into_iter().map(Line::from).collect(),
        next_cursor: next.map(|place| page::encode(List::Logs, &place)),
    };
    Ok(Json(page).into_response())
}

async fn follow(
    engine: &Engine,
    target: Target,
    after: u64,
    headers: &HeaderMap,
    connection: Option<Extension<Connection>>,
) -> Result<Response, Problem> {
    let back = sse::last_event::<InRun>(headers, List::Logs)?;
    let (target, after) = match back {
        Some(place) => (Target { run_id: Some(place.run), ..target }, place.number),
        None => (target, after),
    };
    let mut lines = Lines { follow: engine.follow(target).await?, after };
    if back.is_some() {
        let chunk = lines.follow.lines(after, 1).await?;
        if chunk.items.is_empty() && chunk.ended.is_some() {
            return Ok(sse::nothing_left());
        }
    }
    Ok(sse::answer(lines, connection))
}

/// The log lines of a run as they come.
struct Lines {
    follow: Follow,
    after: u64,
}

impl Source for Lines {
    async fn read(&mut self, out: &mut Text) -> Result<Next, Problem> {
        let chunk = self.follow.lines(self.after, sse::CHUNK).await?;
        let (run, count) = (self.follow.execution.run_id, chunk.items.len());
        for line in chunk.items {
            self.after = line.0;
            let id = page::encode(List::Logs, &InRun { run, number: self.after });
            out.event("log", Some(&id), &Line::from(line))?;
        }
        sse::go_on(out, count, chunk.ended)
    }

    async fn changed(&mut self) {
        self.follow.changed().await;
    }
}
