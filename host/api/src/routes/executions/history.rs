//! `GET /executions/{id}/history`: events, oldest first, a page at a time.

use axum::{Json, extract::State};
use relive_core::{HistoryEvent, RunId};
use relive_engine::{Engine, Target, schema, views};
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
pub struct HistoryQuery {
    /// The event to begin with; 1 if absent. A cursor says it better.
    #[param(minimum = 1)]
    from: Option<u64>,
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
    responses((status = 200, description = "A page of the history", body = HistoryPage)),
    extensions(("x-problems" = json!(["unknown-execution", "invalid-cursor"])))
)]
pub async fn history(
    State(engine): State<Engine>,
    ExecutionPath(target): ExecutionPath,
    Query(query): Query<HistoryQuery>,
) -> Result<Json<HistoryPage>, Problem> {
    let paging = Paging::new(query.limit, query.cursor);
    let (target, from) = match paging.position::<InRun>(List::History)? {
        Some(place) => (Target { run_id: Some(place.run), ..target }, place.number),
        None => (target, query.from.unwrap_or(1)),
    };
    Ok(Json(engine.history(target, from, paging.limit(DEFAULT_LIMIT)).await?.into()))
}
