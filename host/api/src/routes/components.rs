//! `POST /components/inspect`: everything that can be known about an upload, kept nowhere.

use axum::{Json, body::Body, extract::State};
use relive_engine::Engine;

use crate::{
    extract::{NamespacePath, read_upload},
    problem::Problem,
};

pub async fn inspect(
    State(engine): State<Engine>,
    NamespacePath(_): NamespacePath,
    body: Body,
) -> Result<Json<relive_core::Json>, Problem> {
    Ok(Json(engine.inspect(read_upload(body).await?).await?))
}
