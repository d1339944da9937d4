//! `GET /executions/{id}/history`: events, oldest first, a page at a time, or as they come.

use std::time::Duration;

use axum::{
    Extension, Json,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use relive_core::{HistoryEvent, RunId};
use relive_engine::{Engine, Follow, Target, schema, views};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::result::MAX_WAIT_MS;
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
pub struct HistoryQuery {
    /// The event to begin with; 1 if absent. A cursor says it better.
    #[param(minimum = 1)]
    from: Option<u64>,
    /// Stay, and send what comes as server-sent events, also asked for by `Accept: text/event-stream`. The header
    /// `Last-Event-ID` goes on after an event.
    #[serde(default)]
    follow: bool,
    /// At the end of an open history, wait this long for something to come; more is cut to 60,000.
    #[param(minimum = 0, maximum = 60_000)]
    wait_ms: Option<u64>,
    /// Events a page; more is cut to 1,000.
    #[param(minimum = 1, maximum = 1000, default = 200)]
    limit: Option<usize>,
    /// The `next_cursor` of the page before.
    #[param(max_length = 2048)]
    cursor: Option<String>,
}

/// A page of a history, oldest first.
#[derive(Serialize, ToSchema)]
pub struct HistoryPage {
    workflow_id: String,
    #[schema(value_type = schema::RunId)]
    run_id: RunId,
    #[schema(value_type = Vec<schema::HistoryEvent>)]
    events: Vec<HistoryEvent>,
    /// The `cursor` of the next page; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
    /// The whole history's, hexadecimal.
    fingerprint: String,
}

impl From<views::HistoryPage> for HistoryPage {
    fn from(page: views::HistoryPage) -> Self {
        let next = page.next.map(|number| InRun { run: page.run_id, number });
        Self {
            workflow_id: page.workflow_id,
            run_id: page.run_id,
            events: page.events,
            next_cursor: next.map(|place| page::encode(List::History, &place)),
            fingerprint: page.fingerprint,
        }
    }
}

/// Events, oldest first
#[utoipa::path(
    get,
    path = "/history",
    tag = "executions",
    operation_id = "history",
    params(HistoryQuery),
    responses(
        (status = 200, description = "A page of the history; or `event` (a HistoryEvent) after `event`, then `end`", content(
            (HistoryPage = "application/json"),
            (String = "text/event-stream"),
        )),
        (status = 204, description = "With `Last-Event-ID`: there was the last event, and nothing follows"),
    ),
    extensions(("x-problems" = json!(["unknown-execution", "invalid-cursor"])))
)]
pub async fn history(
    State(engine): State<Engine>,
    ExecutionPath(target): ExecutionPath,
    Query(query): Query<HistoryQuery>,
    connection: Option<Extension<Connection>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let paging = Paging::new(query.limit, query.cursor);
    let (target, from) = match paging.position::<InRun>(List::History)? {
        Some(place) => (Target { run_id: Some(place.run), ..target }, place.number),
        None => (target, query.from.unwrap_or(1)),
    };
    if sse::is_wanted(&headers, query.follow) {
        return follow(&engine, target, from, &headers, connection).await;
    }
    let limit = paging.limit(DEFAULT_LIMIT);
    let mut page = engine.history(target.clone(), from, limit).await?;
    if let Some(ms) = query.wait_ms
        && page.events.is_empty()
    {
        let target = Target { run_id: Some(page.run_id), ..target };
        await_event(&engine, target.clone(), from, Duration::from_millis(ms.min(MAX_WAIT_MS)), connection).await?;
        page = engine.history(target, from, limit).await?;
    }
    Ok(Json(HistoryPage::from(page)).into_response())
}

/// Waits for an event, for the end, for the time, or for the host's shutdown.
async fn await_event(
    engine: &Engine,
    target: Target,
    from: u64,
    wait: Duration,
    connection: Option<Extension<Connection>>,
) -> Result<(), Problem> {
    let mut follow = engine.follow(target).await?;
    let arrived = async {
        loop {
            let chunk = follow.events(from, 1).await?;
            if !chunk.items.is_empty() || chunk.ended.is_some() {
                return Ok(());
            }
            follow.changed().await;
        }
    };
    tokio::select! {
        arrived = arrived => arrived,
        () = tokio::time::sleep(wait) => Ok(()),
        () = sse::stopping(connection.map(|Extension(c)| c)) => Ok(()),
    }
}

async fn follow(
    engine: &Engine,
    target: Target,
    from: u64,
    headers: &HeaderMap,
    connection: Option<Extension<Connection>>,
) -> Result<Response, Problem> {
    let back = sse::last_event::<InRun>(headers, List::History)?;
    let (target, from) = match back {
        Some(place) => (Target { run_id: Some(place.run), ..target }, place.number),
        None => (target, from),
    };
    let mut events = Events { follow: engine.follow(target).await?, from };
    if back.is_some() {
        let chunk = events.follow.events(from, 1).await?;
        if chunk.items.is_empty() && chunk.ended.is_some() {
            return Ok(sse::nothing_left());
        }
    }
    Ok(sse::answer(events, connection))
}

/// The events of a run as they come.
struct Events {
    follow: Follow,
    from: u64,
}

impl Source for Events {
    async fn read(&mut self, out: &mut Text) -> Result<Next, Problem> {
        let chunk = self.follow.events(self.from, sse::CHUNK).await?;
        let run = self.follow.execution.run_id;
        for event in &chunk.items {
            self.from = event.event_id + 1;
            let id = page::encode(List::History, &InRun { run, number: self.from });
            out.event("event", Some(&id), event)?;
        }
        sse::go_on(out, chunk.items.len(), chunk.ended)
    }

    async fn changed(&mut self) {
        self.follow.changed().await;
    }
}
