//! `POST /task-queues/{queue}/poll`: tasks for a worker, at once or when one is ready. `GET /task-queues` and
//! `GET /task-queues/{queue}`: what waits, who has what, who asks. `PUT /task-queues/{queue}`: its limits.

use std::time::Duration;

use axum::{Json, extract::State};
use relive_core::ports::{QueueLimits, RateLimit};
use relive_engine::{Engine, Handed, PollRequest, QueueView};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::tasks::TaskView;
use crate::{
    extract::{JsonBody, NamespacePath, Param, Query, parse},
    forward::Forwarded,
    page::{self, List, Paging},
    problem::Problem,
};

/// Below what proxies cut off.
const DEFAULT_WAIT_MS: u64 = 30_000;

#[derive(Deserialize, ToSchema)]
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

#[derive(Serialize, ToSchema)]
pub struct Polled {
    /// Each is the worker's now; none if nothing became ready in time.
    #[schema(value_type = Vec<TaskView>)]
    tasks: Vec<HandedView>,
}

/// A task of this host, or of another as that one tells it.
#[derive(Serialize)]
#[serde(untagged)]
enum HandedView {
    Own(Box<TaskView>),
    Foreign(Box<RawValue>),
}

impl From<Handed> for HandedView {
    fn from(handed: Handed) -> Self {
        match handed {
            Handed::Own(task) => Self::Own(Box::new(TaskView::from(*task))),
            Handed::Foreign(task) => Self::Foreign(task),
        }
    }
}

/// Takes tasks, at once or when one is ready
#[utoipa::path(
    post,
    path = "/task-queues/{queue}/poll",
    tag = "workers",
    operation_id = "poll",
    request_body(content = PollBody),
    responses((status = 200, description = "The worker's tasks; none if nothing became ready in time", body = Polled)),
    extensions(("x-problems" = json!(["unknown-worker", "invalid-argument", "shutting-down"])))
)]
pub async fn poll(
    State(engine): State<Engine>,
    NamespacePath(namespace): NamespacePath,
    Param(task_queue): Param,
    forwarded: Forwarded,
    JsonBody(bytes): JsonBody,
) -> Result<Json<Polled>, Problem> {
    let body: PollBody = parse(&bytes)?;
    let request = PollRequest {
        namespace,
        task_queue,
        worker: body.worker_id,
        activities: body.activities,
        max_tasks: body.max_tasks,
        wait: Duration::from_millis(body.wait_ms),
    };
    let tasks = match forwarded {
        Forwarded::No => engine.poll_anywhere(request).await?,
        Forwarded::Yes => engine.poll(request).await?.into_iter().map(|task| Handed::Own(Box::new(task))).collect(),
    };
    Ok(Json(Polled { tasks: tasks.into_iter().map(HandedView::from).collect() }))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Queues a page; more is cut to 1,000.
    #[param(minimum = 1, maximum = 1000, default = 1000)]
    limit: Option<usize>,
    /// The `next_cursor` of the page before.
    #[param(max_length = 2048)]
    cursor: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct Queues {
    task_queues: Vec<QueueView>,
    /// The `cursor` of the next page; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// Task queues, by name
#[utoipa::path(
    get,
    path = "/task-queues",
    tag = "workers",
    operation_id = "list-task-queues",
    params(ListQuery),
    responses((status = 200, description = "The queues", body = Queues)),
    extensions(("x-problems" = json!(["invalid-cursor"])))
)]
pub async fn list(
    State(engine): State<Engine>,
    NamespacePath(namespace): NamespacePath,
    forwarded: Forwarded,
    Query(query): Query<ListQuery>,
) -> Result<Json<Queues>, Problem> {
    let mut all = match forwarded {
        Forwarded::No => engine.all_task_queues(&namespace).await,
        Forwarded::Yes => engine.task_queues(&namespace),
    };
    all.sort_by(|a, b| a.name.cmp(&b.name));
    let paging = Paging::new(query.limit, query.cursor);
    let (task_queues, next_cursor) = page::cut(all, &paging, List::TaskQueues, |queue| queue.name.clone())?;
    Ok(Json(Queues { task_queues, next_cursor }))
}

/// One task queue: what waits, who has what, who asks
#[utoipa::path(
    get,
    path = "/task-queues/{queue}",
    tag = "workers",
    operation_id = "task-queue",
    responses((status = 200, description = "The queue", body = QueueView)),
)]
pub async fn describe(
    State(engine): State<Engine>,
    NamespacePath(namespace): NamespacePath,
    Param(queue): Param,
    forwarded: Forwarded,
) -> Result<Json<QueueView>, Problem> {
    Ok(Json(match forwarded {
        Forwarded::No => engine.whole_task_queue(&namespace, &queue).await?,
        Forwarded::Yes => engine.task_queue(&namespace, &queue)?,
    }))
}

/// The limits of a queue; what is absent or null is not limited.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TaskQueueLimits)]
struct Limits {
    /// Attempts per second that are handed to workers at most.
    #[schema(exclusive_minimum = 0, maximum = 1000000)]
    rate: Option<f64>,
    /// With `rate`: as many may go out at once after a pause; one second's worth if absent.
    #[schema(minimum = 1, maximum = 1000000)]
    burst: Option<u32>,
    /// Attempts that workers have at once at most, all workers together.
    #[schema(minimum = 1, maximum = 1000000)]
    concurrency: Option<u32>,
}

impl Limits {
    fn checked(self) -> Result<QueueLimits, Problem> {
        if self.rate.is_none() && self.burst.is_some() {
            return Err(Problem::invalid("invalid-argument", "burst belongs to a rate; give both, or neither"));
        }
        let rate = self.rate.map(|per_second| {
            // A rate out of its range is refused below; the cast saturates.
            let second = per_second.ceil().max(1.0) as u32;
            RateLimit { per_second, burst: self.burst.unwrap_or(second) }
        });
        Ok(QueueLimits { rate, concurrency: self.concurrency })
    }
}

/// Limits a task queue: how fast attempts go out, and how many workers have at once
///
/// Takes the place of the limits before, at once: polls that wait are served if there is room. What workers have already
/// stays theirs. Each host of a cluster holds the queue's tasks of its own shards to these limits.
#[utoipa::path(
    put,
    path = "/task-queues/{queue}",
    tag = "operate",
    operation_id = "limit-task-queue",
    request_body(content = Limits),
    responses((status = 200, description = "The queue, with its limits", body = QueueView)),
    extensions(("x-problems" = json!(["invalid-argument", "shutting-down"])))
)]
pub async fn limit(
    State(engine): State<Engine>,
    NamespacePath(namespace): NamespacePath,
    Param(queue): Param,
    JsonBody(bytes): JsonBody,
) -> Result<Json<QueueView>, Problem> {
    let limits = parse::<Limits>(&bytes)?.checked()?;
    Ok(Json(engine.limit_task_queue(&namespace, &queue, limits).await?))
}
