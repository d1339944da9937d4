//! `GET /executions`: newest first, filtered, a page at a time (`next` of a page is `after` of the one that follows).

use axum::{Json, extract::State};
use relive_core::{
    WorkflowId,
    ports::{ListFilter, Status},
};
use relive_engine::{Engine, views::ExecutionPage};
use serde::Deserialize;

use crate::{
    extract::{NamespacePath, Query},
    problem::Problem,
};

const DEFAULT_LIMIT: usize = 50;
/// A page is built in memory; a row has half a kilobyte.
const MAX_LIMIT: usize = 1_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    workflow: Option<String>,
    workflow_id: Option<String>,
    status: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

pub async fn list(
    State(engine): State<Engine>,
    NamespacePath(namespace): NamespacePath,
    Query(query): Query<ListQuery>,
) -> Result<Json<ExecutionPage>, Problem> {
    let workflow_id = query.workflow_id.as_deref().map(WorkflowId::new).transpose();
    let filter = ListFilter {
        namespace,
        workflow: query.workflow,
        workflow_id: workflow_id.map_err(|e| Problem::invalid("invalid-name", e.to_string()))?,
        status: query.status.as_deref().map(status).transpose()?,
    };
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT);
    Ok(Json(engine.list(filter, query.after, limit).await?))
}

fn status(name: &str) -> Result<Status, Problem> {
    Status::from_name(name).ok_or_else(|| {
        let known = Status::ALL.map(Status::name).join(", ");
        Problem::invalid("invalid-query", format!("there is no status {name:?}; there are {known}"))
    })
}
