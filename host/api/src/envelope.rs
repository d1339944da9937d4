//! What is done around every request: correlation id, origin check, panics, problem documents, one log line.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc, time::Instant};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderValue},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;
use tracing::Instrument;
use uuid::Uuid;

use crate::{connection::Connection, problem::Problem, trace, traffic::Traffic};

/// Names a request across logs, events and hosts.
pub const CORRELATION_HEADER: &str = "x-correlation-id";

/// Longer ids are replaced: they are kept in every history that the request starts.
const MAX_CORRELATION_BYTES: usize = 128;

/// The correlation id of a request: the client's, else a fresh one.
#[derive(Clone, Debug)]
pub struct CorrelationId(HeaderValue);

impl CorrelationId {
    fn of(headers: &HeaderMap) -> Self {
        headers.get(CORRELATION_HEADER).filter(|id| is_usable(id)).cloned().map_or_else(Self::fresh, Self)
    }

    fn fresh() -> Self {
        let mut buffer = Uuid::encode_buffer();
        let text = Uuid::now_v7().simple().encode_lower(&mut buffer);
        Self(HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("none")))
    }

    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }
}

fn is_usable(id: &HeaderValue) -> bool {
    (1..=MAX_CORRELATION_BYTES).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
}

/// The outermost layer of the router.
pub async fn envelope(State(traffic): State<Arc<Traffic>>, mut request: Request, next: Next) -> Response {
    let id = CorrelationId::of(request.headers());
    let started = Instant::now();
    let line =
        tracing::enabled!(tracing::Level::DEBUG).then(|| format!("{} {}", request.method(), request.uri().path()));
    let (method, route) = (request.method().clone(), request.extensions().get::<MatchedPath>().cloned());
    let span = trace::span(&mut request, route.as_ref(), id.as_str());
    request.extensions_mut().insert(id.clone());
    let refused = request.extensions().get::<Connection>().and_then(|c| c.check_origin(request.headers()).err());
    let mut response = match refused {
        Some(problem) => problem.into_response(),
        None => match AssertUnwindSafe(next.run(request)).catch_unwind().instrument(span.clone()).await {
            Ok(response) => response,
            Err(panic) => {
                tracing::error!(
                    correlation_id = id.as_str(),
                    panic = panic_text(&*panic),
                    "a request handler panicked"
                );
                Problem::internal().into_response()
            }
        },
    };
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        problem.write_to(&mut response, id.as_str());
        if response.status().is_server_error() {
            tracing::warn!(correlation_id = id.as_str(), ?problem, "a request failed");
        }
    }
    trace::answered(&span, response.status());
    let took = started.elapsed();
    traffic.answered(&method, route.as_ref().map(MatchedPath::as_str), response.status(), took);
    if let Some(line) = line {
        let micros = took.as_micros();
        tracing::debug!(correlation_id = id.as_str(), status = response.status().as_u16(), %micros, "{line}");
    }
    response.headers_mut().insert(CORRELATION_HEADER, id.0);
    response
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "no message",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &str) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(CORRELATION_HEADER, HeaderValue::from_str(value).expect("a header"));
        CorrelationId::of(&headers).as_str().to_owned()
    }

    #[test]
    fn a_usable_id_is_kept_and_another_replaced() {
        assert_eq!(of("order-17/a"), "order-17/a");
        for bad in ["", "two words", &"x".repeat(MAX_CORRELATION_BYTES + 1)] {
            assert_eq!(of(bad).len(), 32, "{bad:?}");
        }
    }
}
