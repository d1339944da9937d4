//! `GET /executions/{id}/queries`: the committed published values. `GET .../queries/{key}`: one of them.

use axum::{Json, extract::State};
use relive_engine::{Engine, views::QueryView};
use serde::Serialize;

use crate::{
    extract::{ExecutionPath, Param},
    problem::Problem,
};

#[derive(Serialize)]
pub struct Values {
    values: Vec<QueryView>,
}

pub async fn all(State(engine): State<Engine>, ExecutionPath(target): ExecutionPath) -> Result<Json<Values>, Problem> {
    Ok(Json(Values { values: engine.queries(target).await? }))
}

pub async fn one(
    State(engine): State<Engine>,
    ExecutionPath(target): ExecutionPath,
    Param(key): Param,
) -> Result<Json<QueryView>, Problem> {
    Ok(Json(engine.query(target, key).await?))
}
