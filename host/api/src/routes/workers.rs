//! `POST /workers`: a worker makes itself known. `GET /workers`: those there are. `POST /workers/{id}/beat`: it is
//! there. `DELETE /workers/{id}`: it stops, and what it has goes back.

use axum::{Json, extract::State, http::StatusCode};
use relive_engine::{BEAT_EVERY, Engine, RegisterRequest, WorkerView};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    extract::{JsonBody, NamespacePath, Param, Query, parse},
    page::{self, List, Paging},
    problem::Problem,
};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RegisterBody {
    /// What it calls itself: host and process, mostly.
    identity: String,
    #[serde(default)]
    task_queues: Vec<String>,
    /// What it runs; anything if absent.
    #[serde(default)]
    activities: Vec<String>,
    /// The library that it is made with.
    sdk: Option<String>,
    /// The id that it had before the host lost it; what it has under that one stays its own.
    replaces: Option<String>,
    /// Tokens of what it really has under that id; what else the host gave it goes back. All of it if absent.
    holds: Option<Vec<String>>,
}

#[derive(Serialize, ToSchema)]
pub struct Registered {
    worker_id: String,
    /// It is lost once it was not heard of for three times this; a poll is heard of, too.
    beat_every_ms: u64,
}

/// A worker makes itself known
#[utoipa::path(
    post,
    path = "/workers",
    tag = "workers",
    operation_id = "register-worker",
    request_body(content = RegisterBody),
    responses((status = 201, description = "It is known until it is not heard of", body = Registered)),
    extensions(("x-problems" = json!(["invalid-argument", "too-many-workers", "shutting-down"])))
)]
pub async fn register(
    State(engine): State<Engine>,
    NamespacePath(namespace): NamespacePath,
    JsonBody(bytes): JsonBody,
) -> Result<(StatusCode, Json<Registered>), Problem> {
    let body: RegisterBody = parse(&bytes)?;
    let request = RegisterRequest {
        identity: body.identity,
        task_queues: body.task_queues,
        activities: body.activities,
        sdk: body.sdk,
        replaces: body.replaces,
        holds: body.holds,
    };
    let worker_id = engine.blocking(move |engine| engine.register_worker(&namespace, request)).await?.id;
    let beat_every_ms = u64::try_from(BEAT_EVERY.as_millis()).unwrap_or(u64::MAX);
    Ok((StatusCode::CREATED, Json(Registered { worker_id, beat_every_ms })))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Workers a page; more is cut to 1,000.
    #[param(minimum = 1, maximum = 1000, default = 1000)]
    limit: Option<usize>,
    /// The `next_cursor` of the page before.
    #[param(max_length = 2048)]
    cursor: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct Workers {
    workers: Vec<WorkerView>,
    /// The `cursor` of the next page; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// Workers, by id
#[utoipa::path(
    get,
    path = "/workers",
    tag = "workers",
    operation_id = "list-workers",
    params(ListQuery),
    responses((status = 200, description = "The workers", body = Workers)),
    extensions(("x-problems" = json!(["invalid-cursor"])))
)]
pub async fn list(
    State(engine): State<Engine>,
    NamespacePath(namespace): NamespacePath,
    Query(query): Query<ListQuery>,
) -> Result<Json<Workers>, Problem> {
    let mut all = engine.all_workers(&namespace).await?;
    all.sort_by(|a, b| a.id.cmp(&b.id));
    let paging = Paging::new(query.limit, query.cursor);
    let (workers, next_cursor) = page::cut(all, &paging, List::Workers, |worker| worker.id.clone())?;
    Ok(Json(Workers { workers, next_cursor }))
}

#[derive(Serialize, ToSchema)]
pub struct Heard {
    worker_id: String,
}

/// A worker tells that it is there
#[utoipa::path(
    post,
    path = "/workers/{worker}/beat",
    tag = "workers",
    operation_id = "beat-worker",
    responses((status = 200, description = "It was heard", body = Heard)),
    extensions(("x-problems" = json!(["unknown-worker"])))
)]
pub async fn beat(
    State(engine): State<Engine>,
    NamespacePath(namespace): NamespacePath,
    Param(id): Param,
) -> Result<Json<Heard>, Problem> {
    engine.beat_worker(&namespace, &id).await?;
    Ok(Json(Heard { worker_id: id }))
}

/// A worker stops; what it has goes back
#[utoipa::path(
    delete,
    path = "/workers/{worker}",
    tag = "workers",
    operation_id = "end-worker",
    responses((status = 200, description = "It is gone", body = Heard)),
    extensions(("x-problems" = json!(["unknown-worker"])))
)]
pub async fn end(
    State(engine): State<Engine>,
    NamespacePath(namespace): NamespacePath,
    Param(id): Param,
) -> Result<Json<Heard>, Problem> {
    let worker_id = id.clone();
    engine.blocking(move |engine| engine.end_worker(&namespace, &id)).await?;
    Ok(Json(Heard { worker_id }))
}
