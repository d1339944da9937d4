//! `GET /v1/status`: the host at a glance.

use axum::{Json, extract::State};
use relive_engine::{Engine, views::HostStatus};

pub async fn status(State(engine): State<Engine>) -> Json<HostStatus> {
    Json(engine.status())
}
