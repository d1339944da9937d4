//! The trace that a request is part of: the client's (header `traceparent`, W3C Trace Context), else a new one if anybody
//! listens to spans. Executions that the request starts go on in it.

use axum::{
    extract::{MatchedPath, Request},
    http::StatusCode,
};
use relive_core::{
    RunId,
    trace::{SpanId, TraceId, TraceParent},
};
use tracing::{Span, field::Empty};
use uuid::Uuid;

pub const TRACEPARENT: &str = "traceparent";

/// A request's trace.
#[derive(Clone, Copy, Debug)]
pub struct Trace(TraceId);

impl Trace {
    pub fn id(self) -> TraceId {
        self.0
    }

    /// For another host that goes on with the request that this is called in: its span goes below this one's. None: nobody
    /// listens here.
    pub fn passed_on(self) -> Option<TraceParent> {
        let current = Span::current();
        let span = SpanId::of_start(RunId(Uuid::now_v7()));
        (!current.is_disabled()).then(|| {
            current.record("span_id", tracing::field::display(span));
            TraceParent { trace: self.0, span, sampled: true }
        })
    }
}

/// The span of a request, and its trace among the request's extensions. A header that is none is as good as none.
pub fn span(request: &mut Request, route: Option<&MatchedPath>, correlation_id: &str) -> Span {
    let header = request.headers().get(TRACEPARENT).and_then(|value| value.to_str().ok());
    let parent: Option<TraceParent> = header.and_then(|text| text.parse().ok());
    let (method, route) = (request.method(), route.map_or("other", MatchedPath::as_str));
    let span = tracing::info_span!(
        "request",
        otel.name = %format_args!("{method} {route}"),
        otel.kind = "server",
        %method,
        route,
        correlation_id,
        trace_id = Empty,
        span_id = Empty,
        parent_span_id = Empty,
        status = Empty,
        error = Empty,
    );
    let drawn = || (!span.is_disabled()).then(|| TraceId::drawn(Uuid::now_v7().as_u128()));
    let trace = parent.map(|parent| parent.trace).or_else(drawn);
    if let Some(trace) = trace {
        span.record("trace_id", tracing::field::display(trace));
        request.extensions_mut().insert(Trace(trace));
    }
    if let Some(parent) = parent {
        span.record("parent_span_id", tracing::field::display(parent.span));
    }
    span
}

/// The request that this is called in started a run: the run's span goes below it.
pub fn started(run: RunId) {
    Span::current().record("span_id", tracing::field::display(SpanId::of_start(run)));
}

/// How the request ended.
pub fn answered(span: &Span, status: StatusCode) {
    span.record("status", status.as_u16());
    if status.is_server_error() {
        span.record("error", status.as_str());
    }
}
