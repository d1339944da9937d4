//! `POST /workers`: a worker makes itself known. `GET /workers`: those there are. `POST /workers/{id}/beat`: it is
//! there. `DELETE /workers/{id}`: it stops, and what it has goes back.

use axum::{Json, body::Body, extract::State, http::StatusCode};
use relive_engine::{BEAT_EVERY, Engine, RegisterRequest, WorkerView};
use serde::{Deserialize, Serialize};

use crate::{
    extract::{NamespacePath, Param, parse, read_small},
    problem::Problem,
};

#[derive(Deserialize)]
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
}

#[derive(Serialize)]
pub struct Registered {
    worker_id: String,
    /// It is lost once it was not heard of for three times this; a poll is heard of, too.
    beat_every_ms: u64,
}

pub async fn register(
    State(engine): State<Engine>,
    NamespacePath(namespace): NamespacePath,
    body: Body,
) -> Result<(StatusCode, Json<Registered>), Problem> {
    let bytes = read_small(body).await?;
    let body: RegisterBody = parse(&bytes)?;
    let request = RegisterRequest {
        identity: body.identity,
        task_queues: body.task_queues,
        activities: body.activities,
        sdk: body.sdk,
        replaces: body.replaces,
    };
    let worker_id = engine.register_worker(&namespace, request)?.id;
    let beat_every_ms = u64::try_from(BEAT_EVERY.as_millis()).unwrap_or(u64::MAX);
    Ok((StatusCode::CREATED, Json(Registered { worker_id, beat_every_ms })))
}

#[derive(Serialize)]
pub struct Workers {
    workers: Vec<WorkerView>,
}

pub async fn list(State(engine): State<Engine>, NamespacePath(namespace): NamespacePath) -> Json<Workers> {
    Json(Workers { workers: engine.workers(&namespace) })
}

#[derive(Serialize)]
pub struct Heard {
    worker_id: String,
}

pub async fn beat(
    State(engine): State<Engine>,
    NamespacePath(namespace): NamespacePath,
    Param(id): Param,
) -> Result<Json<Heard>, Problem> {
    engine.beat_worker(&namespace, &id)?;
    Ok(Json(Heard { worker_id: id }))
}

pub async fn end(
    State(engine): State<Engine>,
    NamespacePath(namespace): NamespacePath,
    Param(id): Param,
) -> Result<Json<Heard>, Problem> {
    engine.end_worker(&namespace, &id)?;
    Ok(Json(Heard { worker_id: id }))
}
