//! The body of `cancel`, `terminate` and `unblock`.

use serde::Serialize;

use crate::exit::Failure;

#[derive(Serialize)]
struct Body<'a> {
    reason: &'a str,
}

/// `{"reason": ..}`.
pub fn body(reason: &str) -> Result<String, Failure> {
    serde_json::to_string(&Body { reason }).map_err(|e| Failure::usage(e.to_string()))
}
