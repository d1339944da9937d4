//! `GET /v1/openapi.json`: the document of this interface.

use axum::{
    http::{HeaderValue, header},
    response::IntoResponse,
};

/// The OpenAPI 3.1 document of this host
#[utoipa::path(
    get,
    path = "/v1/openapi.json",
    tag = "host",
    operation_id = "openapi",
    responses((status = 200, description = "This document", body = Object))
)]
pub async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], crate::openapi::openapi())
}
