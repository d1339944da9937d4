//! `GET /metrics`: what Prometheus scrapes. Open to everybody who reaches the listener, like `/healthz`.

use std::sync::Arc;

use axum::{Extension, extract::State, http::header::CONTENT_TYPE, response::IntoResponse};
use relive_engine::Engine;

use crate::{exposition, traffic::Traffic};

/// Numbers about the host, as Prometheus reads them
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "host",
    operation_id = "metrics",
    responses((status = 200, description = "Prometheus' text format", body = String, content_type = "text/plain")),
)]
pub async fn metrics(State(engine): State<Engine>, Extension(traffic): Extension<Arc<Traffic>>) -> impl IntoResponse {
    let mut families = engine.metrics().await;
    families.extend(traffic.families());
    ([(CONTENT_TYPE, exposition::MEDIA_TYPE)], exposition::text(&families))
}
