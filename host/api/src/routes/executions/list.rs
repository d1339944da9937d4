//! `GET /executions`: newest first, filtered, a page at a time.

use axum::{Json, extract::State};
use relive_core::{
    WorkflowId,
    ports::{ListFilter, Status},
};
use relive_engine::{Engine, schema, views::ExecutionView};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    extract::{NamespacePath, Query},
    page::{self, List, Paging},
    problem::Problem,
};

const DEFAULT_LIMIT: usize = 50;

/// A page of executions, newest first.
#[derive(Serialize, ToSchema)]
pub struct ExecutionPage {
    executions: Vec<ExecutionView>,
    /// The `cursor` of the next page; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Only executions of this workflow.
    workflow: Option<String>,
    /// Only runs of this workflow id.
    workflow_id: Option<String>,
    /// Only executions that stand like this.
    #[param(value_type = Option<schema::Status>)]
    status: Option<String>,
    /// Executions a page; more is cut to 1,000.
    #[param(minimum = 1, maximum = 1000, default = 50)]
    limit: Option<usize>,
    /// The `next_cursor` of the page before.
    #[param(max_length = 2048)]
    cursor: Option<String>,
}

/// Executions, newest first
#[utoipa::path(
    get,
    path = "/executions",
    tag = "executions",
    operation_id = "list-executions",
    params(ListQuery),
    responses((status = 200, description = "A page of the list", body = ExecutionPage)),
    extensions(("x-problems" = json!(["invalid-cursor"])))
)]
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
    let paging = Paging::new(query.limit, query.cursor);
    let found = engine.list(filter, paging.position(List::Executions)?, paging.limit(DEFAULT_LIMIT)).await?;
    let next_cursor = found.next.map(|key| page::encode(List::Executions, &key));
    Ok(Json(ExecutionPage { executions: found.executions, next_cursor }))
}

fn status(name: &str) -> Result<Status, Problem> {
    Status::from_name(name).ok_or_else(|| {
        let known = Status::ALL.map(Status::name).join(", ");
        Problem::invalid("invalid-query", format!("there is no status {name:?}; there are {known}"))
    })
}
