//! `POST /verify`: the checker over all histories of a namespace. `POST /executions/{id}/verify`: over one.
//! `?deep=true` also relives each and holds its memory images against the relived guest.

use axum::{Json, extract::State};
use relive_engine::{Engine, views::VerifyReport};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{
    extract::{ExecutionPath, NamespacePath, Query},
    problem::Problem,
};

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct VerifyQuery {
    /// Also relive each, and hold its memory images against the relived guest.
    #[serde(default)]
    deep: bool,
}

/// Checks all histories of the namespace
#[utoipa::path(
    post,
    path = "/verify",
    tag = "operate",
    operation_id = "verify-namespace",
    params(VerifyQuery),
    responses((status = 200, description = "What was found", body = VerifyReport)),
)]
pub async fn namespace(
    State(engine): State<Engine>,
    NamespacePath(namespace): NamespacePath,
    Query(query): Query<VerifyQuery>,
) -> Result<Json<VerifyReport>, Problem> {
    Ok(Json(engine.verify(namespace, None, query.deep).await?))
}

/// Checks the history of one run
#[utoipa::path(
    post,
    path = "/verify",
    tag = "operate",
    operation_id = "verify-execution",
    params(VerifyQuery),
    responses((status = 200, description = "What was found", body = VerifyReport)),
    extensions(("x-problems" = json!(["unknown-execution"])))
)]
pub async fn execution(
    State(engine): State<Engine>,
    ExecutionPath(target): ExecutionPath,
    Query(query): Query<VerifyQuery>,
) -> Result<Json<VerifyReport>, Problem> {
    Ok(Json(engine.verify(target.namespace.clone(), Some(target), query.deep).await?))
}
