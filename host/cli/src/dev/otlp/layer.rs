//! Spans of `tracing` as spans of OpenTelemetry. The ids are those that the spans' own fields name (`trace_id`, `span_id`,
//! `parent_span_id`), because they are derived and other hosts and workers name the same ones; the beginning may be
//! before the span was made (`start_ns`). `tracing-opentelemetry` draws ids and takes times itself, and cannot be told.

use std::{
    borrow::Cow,
    fmt::Debug,
    sync::mpsc::SyncSender,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use opentelemetry::{
    InstrumentationScope, KeyValue,
    trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState},
};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, SpanData};
use tracing::{
    Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

use super::Message;

/// Makes spans and hands them on; what does not fit into the queue is lost, nobody waits.
pub struct Spans {
    pub(super) queue: SyncSender<Message>,
    pub(super) scope: InstrumentationScope,
    pub(super) ids: RandomIdGenerator,
}

/// What fields say of a span.
#[derive(Default)]
struct Told {
    name: Option<String>,
    server: bool,
    trace: Option<TraceId>,
    span: Option<SpanId>,
    parent: Option<SpanId>,
    start: Option<SystemTime>,
    error: Option<String>,
    attributes: Vec<KeyValue>,
}

/// A span that is open.
struct Open {
    trace: TraceId,
    span: SpanId,
    parent: Option<SpanId>,
    start: SystemTime,
    told: Told,
}

impl Told {
    fn text(&mut self, name: &'static str, value: String) {
        match name {
            "trace_id" => self.trace = TraceId::from_hex(&value).ok(),
            "span_id" => self.span = SpanId::from_hex(&value).ok(),
            "parent_span_id" => self.parent = SpanId::from_hex(&value).ok(),
            "otel.name" => self.name = Some(value),
            "otel.kind" => self.server = value == "server",
            "error" => self.error = Some(value),
            _ => self.attributes.push(KeyValue::new(name, value)),
        }
    }
}

impl Visit for Told {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.text(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field.name(), value.to_owned());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.attributes.push(KeyValue::new(field.name(), value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.attributes.push(KeyValue::new(field.name(), value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "start_ns" {
            self.start = Some(UNIX_EPOCH + Duration::from_nanos(value));
        } else {
            self.attributes.push(KeyValue::new(field.name(), value.cast_signed()));
        }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut told = Told::default();
        attributes.record(&mut told);
        let above = span.parent().and_then(|p| p.extensions().get::<Open>().map(|open| (open.trace, open.span)));
        let trace = told.trace.or(above.map(|(trace, _)| trace)).unwrap_or_else(|| self.ids.new_trace_id());
        let open = Open {
            trace,
            span: told.span.unwrap_or_else(|| self.ids.new_span_id()),
            parent: told.parent.or(above.filter(|(of, _)| *of == trace).map(|(_, span)| span)),
            start: told.start.unwrap_or_else(SystemTime::now),
            told,
        };
        span.extensions_mut().insert(open);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(open) = span.extensions_mut().get_mut::<Open>() {
            values.record(&mut open.told);
            open.trace = open.told.trace.unwrap_or(open.trace);
            open.span = open.told.span.unwrap_or(open.span);
            open.parent = open.told.parent.or(open.parent);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let Some(open) = span.extensions_mut().remove::<Open>() else { return };
        let data = self.finished(open, span.name());
        let _ = self.queue.try_send(Message::Span(Box::new(data)));
    }
}

impl Spans {
    fn finished(&self, open: Open, name: &'static str) -> SpanData {
        let Open { trace, span, parent, start, told } = open;
        SpanData {
            span_context: SpanContext::new(trace, span, TraceFlags::SAMPLED, false, TraceState::default()),
            parent_span_id: parent.unwrap_or(SpanId::INVALID),
            parent_span_is_remote: false,
            span_kind: if told.server { SpanKind::Server } else { SpanKind::Internal },
            name: told.name.map_or(Cow::Borrowed(name), Cow::Owned),
            start_time: start,
            end_time: SystemTime::now().max(start),
            attributes: told.attributes,
            dropped_attributes_count: 0,
            events: Default::default(),
            links: Default::default(),
            status: told.error.map_or(Status::Unset, Status::error),
            instrumentation_scope: self.scope.clone(),
        }
    }
}
