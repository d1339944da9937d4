//! `GET /failed-tasks`: activities whose attempts are used up and whose last attempt nobody answered. What to do about
//! one is decided below its execution: `/activities/{step}/redrive`, `/activities/{step}/give-up`.

use axum::{Json, extract::State};
use relive_engine::{Engine, FailedTask};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    extract::{NamespacePath, Query},
    page::{self, List, Paging},
    problem::Problem,
};

const DEFAULT_LIMIT: usize = 100;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct FailedQuery {
    /// Of this task queue alone.
    #[param(max_length = 256)]
    queue: Option<String>,
    /// Tasks a page; more is cut to 1,000.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// The `next_cursor` of the page before.
    #[param(max_length = 2048)]
    cursor: Option<String>,
}

/// A page of failed tasks, by execution and step.
#[derive(Serialize, ToSchema)]
pub struct FailedTasks {
    failed_tasks: Vec<FailedTask>,
    /// The `cursor` of the next page; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// Activities whose attempts are exhausted: operators decide about them
#[utoipa::path(
    get,
    path = "/failed-tasks",
    tag = "operate",
    operation_id = "failed-tasks",
    params(FailedQuery),
    responses((status = 200, description = "A page of them", body = FailedTasks)),
    extensions(("x-problems" = json!(["invalid-cursor"])))
)]
pub async fn list(
    State(engine): State<Engine>,
    NamespacePath(namespace): NamespacePath,
    Query(query): Query<FailedQuery>,
) -> Result<Json<FailedTasks>, Problem> {
    let paging = Paging::new(query.limit, query.cursor);
    let after = paging.position::<String>(List::FailedTasks)?;
    let found = engine.failed_tasks(namespace, query.queue, after, paging.limit(DEFAULT_LIMIT)).await?;
    let next_cursor = found.next.map(|next| page::encode(List::FailedTasks, &next));
    Ok(Json(FailedTasks { failed_tasks: found.failed_tasks, next_cursor }))
}
