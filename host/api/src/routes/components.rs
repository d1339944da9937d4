//! `POST /components/inspect`: everything that can be known about an upload, kept nowhere.

use axum::{Json, body::Body, extract::State};
use relive_engine::{Engine, schema};

use crate::{
    extract::{NamespacePath, read_upload},
    problem::Problem,
};

/// Everything that can be known about an upload; it is kept nowhere
#[utoipa::path(
    post,
    path = "/components/inspect",
    tag = "deploy",
    operation_id = "inspect-component",
    request_body(content((schema::Component = "application/wasm"), (schema::Component = "application/octet-stream")), description = "A WebAssembly component"),
    responses((status = 200, description = "What admission found out", body = schema::Json)),
    extensions(("x-problems" = json!(["upload"])))
)]
pub async fn inspect(
    State(engine): State<Engine>,
    NamespacePath(_): NamespacePath,
    body: Body,
) -> Result<Json<relive_core::Json>, Problem> {
    Ok(Json(engine.inspect(read_upload(body).await?).await?))
}
