//! The idempotency key of a request: a header, or a field of the body.

use axum::http::HeaderMap;
use utoipa::IntoParams;

use super::header;
use crate::problem::Problem;

const HEADER: &str = "idempotency-key";

/// The header, for the document.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code, reason = "read by the derive alone")]
pub struct IdempotencyKey {
    /// The same key again is the same request. At most 256 bytes of printable ASCII.
    #[param(rename = "Idempotency-Key", max_length = 256)]
    idempotency_key: Option<String>,
}

/// The key that the request gives: in the field, in the header, or the same in both.
pub fn idempotency_key(headers: &HeaderMap, field: Option<String>, name: &str) -> Result<Option<String>, Problem> {
    match (header(headers, HEADER)?, field) {
        (Some(header), Some(field)) if header != field => Err(Problem::invalid(
            "invalid-argument",
            format!("the header Idempotency-Key is {header:?} and the field {name} is {field:?}; give one of them"),
        )),
        (Some(header), None) => Ok(Some(header.to_owned())),
        (_, field) => Ok(field),
    }
}
