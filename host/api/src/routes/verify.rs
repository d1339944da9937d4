//! `POST /verify`: the checker over all histories of a namespace. `POST /executions/{id}/verify`: over one.

use axum::{Json, extract::State};
use relive_engine::{Engine, views::VerifyReport};

use crate::{
    extract::{ExecutionPath, NamespacePath},
    problem::Problem,
};

pub async fn namespace(
    State(engine): State<Engine>,
    NamespacePath(namespace): NamespacePath,
) -> Result<Json<VerifyReport>, Problem> {
    Ok(Json(engine.verify(namespace, None).await?))
}

pub async fn execution(
    State(engine): State<Engine>,
    ExecutionPath(target): ExecutionPath,
) -> Result<Json<VerifyReport>, Problem> {
    Ok(Json(engine.verify(target.namespace.clone(), Some(target)).await?))
}
