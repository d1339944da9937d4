//! The table of routes; a file each below.

mod activities;
mod components;
mod executions;
mod health;
mod keys;
mod not_found;
mod status;
mod task_queues;
mod tasks;
mod verify;
mod workers;
mod workflows;

use axum::{
    Router, middleware,
    routing::{delete, get, post},
};
use relive_engine::Engine;

use crate::envelope::envelope;

/// The whole surface over one engine.
pub fn router(engine: Engine) -> Router {
    let namespace = Router::new()
        .route("/components/inspect", post(components::inspect))
        .route("/workflows", get(workflows::list).post(workflows::deploy))
        .route("/activities", get(activities::list).post(activities::deploy))
        .route("/activities/pending", get(activities::pending))
        .route("/workers", get(workers::list).post(workers::register))
        .route("/workers/{param}", delete(workers::end))
        .route("/workers/{param}/beat", post(workers::beat))
        .route("/task-queues", get(task_queues::list))
        .route("/task-queues/{param}", get(task_queues::describe))
        .route("/task-queues/{param}/poll", post(task_queues::poll))
        .route("/tasks/claim", post(tasks::claim))
        .route("/tasks/complete", post(tasks::answer))
        .route("/tasks/{param}/complete", post(tasks::complete))
        .route("/tasks/{param}/fail", post(tasks::fail))
        .route("/tasks/{param}/cancel", post(tasks::cancel))
        .route("/tasks/{param}/heartbeat", post(tasks::heartbeat))
        .route("/tasks/{param}/defer", post(tasks::defer))
        .route("/verify", post(verify::namespace))
        .route("/executions", get(executions::list).post(executions::start))
        .nest("/executions/{id}", executions::of_one());
    Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/.well-known/relive/keys.json", get(keys::keys))
        .route("/v1/status", get(status::status))
        .nest("/v1/namespaces/{namespace}", namespace)
        .fallback(not_found::route)
        .method_not_allowed_fallback(not_found::method)
        .layer(middleware::from_fn(envelope))
        .with_state(engine)
}
