//! The table of routes; a file each below.

mod activities;
mod components;
mod executions;
mod failed_tasks;
mod health;
mod hosts;
mod keys;
mod metrics;
mod not_found;
mod openapi;
mod preflights;
mod status;
mod task_queues;
mod tasks;
mod verify;
mod versions;
mod workers;
mod workflows;

use axum::{Extension, Router, middleware};
use relive_engine::Engine;
use utoipa::openapi::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{envelope::envelope, traffic::Traffic};

/// Every route, with its documentation: `routes!` takes both from the handler, so none is there without the other.
fn table() -> OpenApiRouter<Engine> {
    let namespace = OpenApiRouter::new()
        .routes(routes!(components::inspect))
        .routes(routes!(workflows::list, workflows::deploy))
        .routes(routes!(versions::describe))
        .routes(routes!(versions::activate))
        .routes(routes!(versions::rollback))
        .routes(routes!(versions::past))
        .routes(routes!(versions::delete))
        .routes(routes!(preflights::preflight))
        .routes(routes!(preflights::past))
        .routes(routes!(activities::list, activities::deploy))
        .routes(routes!(activities::pending))
        .routes(routes!(workers::list, workers::register))
        .routes(routes!(workers::end))
        .routes(routes!(workers::beat))
        .routes(routes!(task_queues::list))
        .routes(routes!(task_queues::describe, task_queues::limit))
        .routes(routes!(task_queues::poll))
        .routes(routes!(tasks::claim))
        .routes(routes!(tasks::answer))
        .routes(routes!(tasks::complete))
        .routes(routes!(tasks::fail))
        .routes(routes!(tasks::cancel))
        .routes(routes!(tasks::heartbeat))
        .routes(routes!(tasks::defer))
        .routes(routes!(failed_tasks::list))
        .routes(routes!(verify::namespace))
        .routes(routes!(executions::list::list, executions::start::start))
        .nest("/executions/{id}", executions::of_one());
    OpenApiRouter::new()
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(metrics::metrics))
        .routes(routes!(keys::keys))
        .routes(routes!(openapi::openapi))
        .routes(routes!(status::status))
        .routes(routes!(hosts::hosts))
        .routes(routes!(hosts::shards))
        .nest("/v1/namespaces/{namespace}", namespace)
}

/// What the table documents, without what all routes have in common.
pub fn document() -> OpenApi {
    table().into_openapi()
}

/// The whole surface over one engine.
pub fn router(engine: Engine) -> Router {
    let (router, document) = table().split_for_parts();
    let traffic = Traffic::of(&document);
    crate::forward::layer(router, &engine)
        .fallback(not_found::route)
        .method_not_allowed_fallback(not_found::method)
        .layer(Extension(traffic.clone()))
        .layer(middleware::from_fn_with_state(traffic, envelope))
        .with_state(engine)
}
