//! Errors as RFC 9457 problem details. A handler answers with a [`Problem`]; `envelope` writes it, because only there
//! the correlation id is known for certain.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use relive_core::{Error, ErrorContext, ErrorKind};
use serde::Serialize;

use crate::codes::status_of;

/// Seconds after which what could not be now may be tried again: a restart takes about as long, and so does a store's
/// short trouble.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");
const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");

/// An error on its way to the client.
#[derive(Clone, Debug)]
pub struct Problem(Box<Error>);

/// The document (RFC 9457, with `code`, `kind`, `context` and `correlation_id` as extensions).
#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: String,
    status: u16,
    detail: &'a str,
    code: &'a str,
    kind: ErrorKind,
    context: &'a ErrorContext,
    correlation_id: &'a str,
}

impl Problem {
    /// A request that makes no sense to this crate.
    pub fn invalid(code: &'static str, message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Validation, code, message).into()
    }

    /// A fault of the host. The log has what happened; the client learns only that it did.
    pub fn internal() -> Self {
        Error::new(
            ErrorKind::Unknown,
            "internal",
            "the host failed to answer this request; look for the correlation id in its log",
        )
        .into()
    }

    /// Its code, and what it says.
    pub fn told(&self) -> (&str, &str) {
        (self.0.code, &self.0.message)
    }

    /// The document, for a stream whose status was sent before.
    pub fn document(&self) -> impl Serialize + '_ {
        self.of("")
    }

    fn of<'a>(&'a self, correlation_id: &'a str) -> Document<'a> {
        Document {
            r#type: format!("urn:relive:problem:{}", self.0.code),
            title: title(self.0.code),
            status: self.status().as_u16(),
            detail: &self.0.message,
            code: self.0.code,
            kind: self.0.kind,
            context: &self.0.context,
            correlation_id,
        }
    }

    pub fn status(&self) -> StatusCode {
        status_of(self.0.code, self.0.kind)
    }

    /// Turns `response` into the problem's document, keeping its other headers (`Allow`).
    pub fn write_to(&self, response: &mut Response, correlation_id: &str) {
        let body = serde_json::to_vec(&self.of(correlation_id)).unwrap_or_default();
        *response.status_mut() = self.status();
        *response.body_mut() = Body::from(body);
        response.headers_mut().remove(header::CONTENT_LENGTH);
        response.headers_mut().insert(header::CONTENT_TYPE, MEDIA_TYPE);
        if matches!(self.status(), StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        // Proxies and browsers must not keep what may be different in a moment.
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}

/// `unknown-workflow` -> `Unknown workflow`.
pub fn title(code: &str) -> String {
    let mut title = code.replace('-', " ");
    if let Some(first) = title.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    title
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self(Box::new(error))
    }
}

impl IntoResponse for Problem {
    /// An empty response of the right status that carries the problem to the envelope.
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}
