//! Spans of what lasts longer than any call: runs, and attempts that workers have. They are told when they end, with the
//! time of their beginning, so that nothing is held open for an execution that waits. Whoever exports spans finds ids and
//! times in fields (`trace_id`, `span_id`, `parent_span_id`, `start_ns`); nobody pays for them where nobody listens.

use relive_core::{
    RunId, Timestamp,
    ports::ExecutionRow,
    trace::{SpanId, TraceId, TraceParent},
};

use crate::views::ResultView;

/// Whether anybody listens.
pub(crate) fn wanted() -> bool {
    tracing::enabled!(tracing::Level::INFO)
}

/// A run ended. `trace` is what its history says, `before` the run that it continued.
pub(crate) fn run_ended(row: &ExecutionRow, view: &ResultView, trace: Option<&str>, before: Option<RunId>) {
    if !wanted() {
        return;
    }
    let run = row.execution.run_id;
    let trace = trace.and_then(|text| text.parse().ok()).unwrap_or_else(|| TraceId::of_run(run));
    let parent = before.map_or_else(|| SpanId::of_start(run), SpanId::of_run);
    let span = tracing::info_span!(
        "workflow",
        otel.name = %format_args!("workflow {}", row.workflow),
        workflow = %row.workflow,
        execution = %row.execution,
        correlation_id = row.correlation_id.as_deref(),
        status = view.status.name(),
        events = row.last_event_id,
        trace_id = %trace,
        span_id = %SpanId::of_run(run),
        parent_span_id = %parent,
        start_ns = row.started_at.0,
        error = tracing::field::Empty,
    );
    if let Some(failure) = &view.failure {
        span.record("error", tracing::field::display(failure));
    }
}

/// An attempt of a worker's ended.
pub(crate) fn attempt_ended(row: &ExecutionRow, activity: &str, attempt: u32, parent: TraceParent, since: Timestamp) {
    if !wanted() {
        return;
    }
    let _span = tracing::info_span!(
        "activity",
        otel.name = %format_args!("activity {activity}"),
        name = activity,
        execution = %row.execution,
        correlation_id = row.correlation_id.as_deref(),
        attempt,
        worker = true,
        trace_id = %parent.trace,
        span_id = %parent.span,
        parent_span_id = %SpanId::of_run(row.execution.run_id),
        start_ns = since.0,
    );
}
