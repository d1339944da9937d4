//! Requests that come over no connection of this host's listener: another transport has unpacked them.

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::Request,
    http::header::{AUTHORIZATION, CONTENT_TYPE},
    response::Response,
};
use tower::ServiceExt;

use crate::{envelope::CORRELATION_HEADER, problem::Problem};

/// A hundred tasks with payloads of 2 MiB each.
const MAX_ANSWER_BYTES: usize = 256 << 20;

/// A request of the API, without a connection.
#[derive(Debug)]
pub struct DirectRequest<'a> {
    pub method: &'a str,
    /// From `/v1` on.
    pub path: &'a str,
    /// JSON.
    pub body: Bytes,
    pub correlation_id: Option<&'a str>,
    pub authorization: Option<&'a str>,
}

/// Has the router answer: the status, and the body whole. Not for routes that stream.
pub async fn direct(router: Router, request: DirectRequest<'_>) -> (u16, Bytes) {
    let headers = [
        (CONTENT_TYPE.as_str(), Some("application/json")),
        (CORRELATION_HEADER, request.correlation_id),
        (AUTHORIZATION.as_str(), request.authorization),
    ];
    let mut made = Request::builder().method(request.method).uri(request.path);
    for (name, value) in headers {
        if let Some(value) = value {
            made = made.header(name, value);
        }
    }
    let response = match made.body(Body::from(request.body)) {
        Ok(made) => match router.oneshot(made).await {
            Ok(response) => response,
            Err(never) => match never {},
        },
        // A header or a path that HTTP does not have.
        Err(error) => {
            let problem = Problem::invalid("invalid-path", error.to_string());
            let mut response = Response::default();
            problem.write_to(&mut response, request.correlation_id.unwrap_or_default());
            response
        }
    };
    whole(response).await
}

async fn whole(response: Response) -> (u16, Bytes) {
    let status = response.status().as_u16();
    match to_bytes(response.into_body(), MAX_ANSWER_BYTES).await {
        Ok(body) => (status, body),
        Err(error) => {
            tracing::warn!(%error, "an answer was not read to its end");
            (500, Bytes::from_static(br#"{"status":500,"code":"internal","detail":"the answer was cut off"}"#))
        }
    }
}
