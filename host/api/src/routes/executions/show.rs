//! `GET /executions/{id}`: everything about one execution at a glance.

use axum::{Json, extract::State};
use relive_engine::{Engine, views::ExecutionDetail};

use crate::{extract::ExecutionPath, problem::Problem};

pub async fn show(
    State(engine): State<Engine>,
    ExecutionPath(target): ExecutionPath,
) -> Result<Json<ExecutionDetail>, Problem> {
    Ok(Json(engine.show(target).await?))
}
