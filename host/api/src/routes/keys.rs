//! `GET /.well-known/relive/keys.json`: the public keys that requests to http activities are signed with (RFC 7517).
//! Open to everybody: receivers have no credentials here, and need none.

use axum::{
    extract::State,
    http::header::{CACHE_CONTROL, CONTENT_TYPE},
    response::IntoResponse,
};
use relive_engine::Engine;

/// Receivers may keep the set this long; a key that they do not know is a reason to ask again.
const CACHE: &str = "public, max-age=300";

/// The public keys that requests to http activities are signed with
#[utoipa::path(
    get,
    path = "/.well-known/relive/keys.json",
    tag = "host",
    operation_id = "activity-keys",
    responses((status = 200, description = "A JWK set (RFC 7517)", body = Object, content_type = "application/jwk-set+json")),
)]
pub async fn keys(State(engine): State<Engine>) -> impl IntoResponse {
    let headers = [(CONTENT_TYPE, "application/jwk-set+json"), (CACHE_CONTROL, CACHE)];
    (headers, engine.activity_keys().to_string())
}
