//! `GET /executions/{id}`: everything about one execution at a glance.

use axum::{Json, extract::State};
use relive_engine::{Engine, views::ExecutionDetail};

use crate::{extract::ExecutionPath, problem::Problem};

/// Everything about one execution at a glance
#[utoipa::path(
    get,
    path = "/",
    tag = "executions",
    operation_id = "show",
    responses((status = 200, description = "The execution", body = ExecutionDetail)),
    extensions(("x-problems" = json!(["unknown-execution"])))
)]
pub async fn show(
    State(engine): State<Engine>,
    ExecutionPath(target): ExecutionPath,
) -> Result<Json<ExecutionDetail>, Problem> {
    Ok(Json(engine.show(target).await?))
}
