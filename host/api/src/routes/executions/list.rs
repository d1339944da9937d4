//! `GET /executions`: newest first, filtered, a page at a time (`next` of a page is `after` of the one that follows).

use axum::{Json, extract::State};
use relive_core::{
    WorkflowId,
    ports::{ListFilter, Status},
};
use relive_engine::{Engine, schema, views::ExecutionPage};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{
    extract::{NamespacePath, Query},
    problem::Problem,
};

const DEFAULT_LIMIT: usize = 50;
/// A page is built in memory; a row has half a kilobyte.
const MAX_LIMIT: usize = 1_000;

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
    /// The last page's `next`.
    after: Option<String>,
    /// Executions a page; more is cut to 1,000.
    #[param(minimum = 1, maximum = 1000, default = 50)]
    limit: Option<usize>,
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
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT);
    Ok(Json(engine.list(filter, query.after, limit).await?))
}

fn status(name: &str) -> Result<Status, Problem> {
    Status::from_name(name).ok_or_else(|| {
        let known = Status::ALL.map(Status::name).join(", ");
        Problem::invalid("invalid-query", format!("there is no status {name:?}; there are {known}"))
    })
}
