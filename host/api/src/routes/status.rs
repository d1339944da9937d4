//! `GET /v1/status`: the host at a glance.

use axum::{Json, extract::State};
use relive_engine::{Engine, views::HostStatus};

/// The host at a glance
#[utoipa::path(
    get,
    path = "/v1/status",
    tag = "host",
    operation_id = "status",
    responses((status = 200, description = "Counts since its start", body = HostStatus)),
)]
pub async fn status(State(engine): State<Engine>) -> Json<HostStatus> {
    Json(engine.status())
}
