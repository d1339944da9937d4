//! `POST /verify`: the checker over all histories of a namespace. `POST /executions/{id}/verify`: over one.
//! `?deep=true` also relives each and holds its memory images against the relived guest.

use axum::{Json, extract::State};
use relive_engine::{Engine, views::VerifyReport};
use serde::Deserialize;

use crate::{
    extract::{ExecutionPath, NamespacePath, Query},
    problem::Problem,
};

#[derive(Deserialize)]
pub struct VerifyQuery {
    #[serde(default)]
    deep: bool,
}

pub async fn namespace(
    State(engine): State<Engine>,
    NamespacePath(namespace): NamespacePath,
    Query(query): Query<VerifyQuery>,
) -> Result<Json<VerifyReport>, Problem> {
    Ok(Json(engine.verify(namespace, None, query.deep).await?))
}

pub async fn execution(
    State(engine): State<Engine>,
    ExecutionPath(target): ExecutionPath,
    Query(query): Query<VerifyQuery>,
) -> Result<Json<VerifyReport>, Problem> {
    Ok(Json(engine.verify(target.namespace.clone(), Some(target), query.deep).await?))
}
