//! `POST /task-queues/{queue}/poll`: tasks for a worker, at once or when one is ready. `GET /task-queues` and
//! `GET /task-queues/{queue}`: what waits, who has what, who asks.

use std::time::Duration;

use axum::{Json, body::Body, extract::State};
use relive_engine::{Engine, PollRequest, QueueView};
use serde::{Deserialize, Serialize};

use super::tasks::TaskView;
use crate::{
    extract::{NamespacePath, Param, parse, read_small},
    problem::Problem,
};

/// Below what proxies cut off.
const DEFAULT_WAIT_MS: u64 = 30_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PollBody {
    worker_id: String,
    /// 1 to 100.
    #[serde(default = "one")]
    max_tasks: usize,
    /// How long to wait if nothing is ready: 30 s if absent, at most a minute.
    #[serde(default = "default_wait")]
    wait_ms: u64,
    /// Take these activities alone.
    activities: Option<Vec<String>>,
}

fn one() -> usize {
    1
}

fn default_wait() -> u64 {
    DEFAULT_WAIT_MS
}

#[derive(Serialize)]
pub struct Polled {
    /// Each is the worker's now; none if nothing became ready in time.
    tasks: Vec<TaskView>,
}

pub async fn poll(
    State(engine): State<Engine>,
    NamespacePath(namespace): NamespacePath,
    Param(task_queue): Param,
    body: Body,
) -> Result<Json<Polled>, Problem> {
    let bytes = read_small(body).await?;
    let body: PollBody = parse(&bytes)?;
    let request = PollRequest {
        namespace,
        task_queue,
        worker: body.worker_id,
        activities: body.activities,
        max_tasks: body.max_tasks,
        wait: Duration::from_millis(body.wait_ms),
    };
    let tasks = engine.poll(request).await?;
    Ok(Json(Polled { tasks: tasks.into_iter().map(TaskView::from).collect() }))
}

#[derive(Serialize)]
pub struct Queues {
    task_queues: Vec<QueueView>,
}

pub async fn list(State(engine): State<Engine>, NamespacePath(namespace): NamespacePath) -> Json<Queues> {
    Json(Queues { task_queues: engine.task_queues(&namespace) })
}

pub async fn describe(
    State(engine): State<Engine>,
    NamespacePath(namespace): NamespacePath,
    Param(queue): Param,
) -> Result<Json<QueueView>, Problem> {
    Ok(Json(engine.task_queue(&namespace, &queue)?))
}
