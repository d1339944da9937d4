//! `GET /executions/{id}/queries`: the committed published values. `GET .../queries/{key}`: one of them.

use axum::{Json, extract::State};
use relive_engine::{Engine, views::QueryView};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    extract::{ExecutionPath, Param},
    problem::Problem,
};

#[derive(Serialize, ToSchema)]
pub struct Values {
    values: Vec<QueryView>,
}

/// The committed published values
#[utoipa::path(
    get,
    path = "/queries",
    tag = "executions",
    operation_id = "queries",
    responses((status = 200, description = "Values by key", body = Values)),
    extensions(("x-problems" = json!(["unknown-execution"])))
)]
pub async fn all(State(engine): State<Engine>, ExecutionPath(target): ExecutionPath) -> Result<Json<Values>, Problem> {
    Ok(Json(Values { values: engine.queries(target).await? }))
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
