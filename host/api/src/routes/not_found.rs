//! Paths and methods that are not there.

use axum::http::{Method, Uri};

use crate::problem::Problem;

pub async fn route(uri: Uri) -> Problem {
    Problem::invalid("unknown-route", format!("there is nothing at {}; the routes are under /v1", uri.path()))
}

pub async fn method(method: Method, uri: Uri) -> Problem {
    Problem::invalid(
        "method-not-allowed",
        format!("{} does not take {method}; the header Allow names what it takes", uri.path()),
    )
}
