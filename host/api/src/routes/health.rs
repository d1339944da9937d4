//! `GET /healthz`: the process answers. `GET /readyz`: it takes work.

use axum::Extension;
use relive_core::{Error, ErrorKind};

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

/// The router exists only once the engine has recovered, so what is left to ask is whether the host shuts down.
/// The host takes work
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "host",
    operation_id = "readyz",
    responses((status = 200, description = "It does", body = String, content_type = "text/plain")),
    extensions(("x-problems" = json!(["shutting-down"])))
)]
pub async fn readyz(connection: Option<Extension<Connection>>) -> Result<&'static str, Problem> {
    match connection {
        Some(Extension(connection)) if connection.is_stopping() => Err(Error::new(
            ErrorKind::Concurrency,
            "shutting-down",
            "the host is shutting down; ask again in a few seconds",
        )
        .into()),
        _ => Ok("ready\n"),
    }
}
