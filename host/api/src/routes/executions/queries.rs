//! `GET /executions/{id}/queries`: the committed published values. `GET .../queries/{key}`: one of them.

use axum::{Json, extract::State};
use relive_engine::{Engine, views::QueryView};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    extract::{ExecutionPath, Param, Query},
    page::{self, List, Paging},
    problem::Problem,
};

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Values a page; more is cut to 1,000.
    #[param(minimum = 1, maximum = 1000, default = 1000)]
    limit: Option<usize>,
    /// The `next_cursor` of the page before.
    #[param(max_length = 2048)]
    cursor: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct Values {
    values: Vec<QueryView>,
    /// The `cursor` of the next page; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// The committed published values
#[utoipa::path(
    get,
    path = "/queries",
    tag = "executions",
    operation_id = "queries",
    params(ListQuery),
    responses((status = 200, description = "Values by key", body = Values)),
    extensions(("x-problems" = json!(["unknown-execution", "invalid-cursor"])))
)]
pub async fn all(
    State(engine): State<Engine>,
    ExecutionPath(target): ExecutionPath,
    Query(query): Query<ListQuery>,
) -> Result<Json<Values>, Problem> {
    let all = engine.queries(target).await?;
    let paging = Paging::new(query.limit, query.cursor);
    let (values, next_cursor) = page::cut(all, &paging, List::Queries, |value| value.key.clone())?;
    Ok(Json(Values { values, next_cursor }))
}

/// One published value; the guest is not woken
#[utoipa::path(
    get,
    path = "/queries/{key}",
    tag = "executions",
    operation_id = "query",
    responses((status = 200, description = "The value", body = QueryView)),
    extensions(("x-problems" = json!(["unknown-execution", "unknown-key"])))
)]
pub async fn one(
    State(engine): State<Engine>,
    ExecutionPath(target): ExecutionPath,
    Param(key): Param,
) -> Result<Json<QueryView>, Problem> {
    Ok(Json(engine.query(target, key).await?))
}
