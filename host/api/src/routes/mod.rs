//! The table of routes; a file each below.

mod activities;
mod components;
mod executions;
mod health;
mod keys;
mod not_found;
mod status;
mod verify;
mod workflows;

use axum::{
    Router, middleware,
    routing::{get, post},
};
use relive_engine::Engine;

use crate::envelope::envelope;

/// The whole surface over one engine.
pub fn router(engine: Engine) -> Router {
    let namespace = Router::new()
        .route("/components/inspect", post(components::inspect))
        .route("/workflows", get(workflows::list).post(workflows::deploy))
        .route("/activities", get(activities::list).post(activities::deploy))
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
