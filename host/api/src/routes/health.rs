//! `GET /healthz`: the process answers. `GET /readyz`: it takes work.

use axum::{Extension, extract::State};
use relive_core::{Error, ErrorKind};
use relive_engine::Engine;

use crate::{connection::Connection, problem::Problem};

/// The process answers
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "host",
    operation_id = "healthz",
    responses((status = 200, description = "It does", body = String, content_type = "text/plain")),
)]
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// Not while it wakes what a former host left, not while it shuts down, not while its store cannot be written.
/// The host takes work
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "host",
    operation_id = "readyz",
    responses((status = 200, description = "It does", body = String, content_type = "text/plain")),
    extensions(("x-problems" = json!(["shutting-down", "recovering", "store-unavailable", "read-only", "no-space"])))
)]
pub async fn readyz(
    State(engine): State<Engine>,
    connection: Option<Extension<Connection>>,
) -> Result<&'static str, Problem> {
    if connection.is_some_and(|Extension(connection)| connection.is_stopping()) {
        let message = "the host is shutting down; ask again in a few seconds";
        return Err(Error::new(ErrorKind::Concurrency, "shutting-down", message).into());
    }
    engine.readiness().await?;
    Ok("ready\n")
}
