//! Exporting spans to an OpenTelemetry collector (OTLP over HTTP, protobuf): a layer that makes them, and a thread that
//! sends what has queued up. A collector that is slow or gone costs spans, never work.

mod layer;

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{Protocol, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{RandomIdGenerator, SpanData, SpanExporter as _},
};

use crate::exit::{Exit, Failure};

pub use layer::Spans;

/// Spans that wait to be sent; one takes about a kilobyte.
const QUEUE: usize = 8_192;
/// Spans of one request.
const BATCH: usize = 512;
/// A span waits this long for others.
const GATHER: Duration = Duration::from_secs(1);
/// How long the collector may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Where collectors take traces, below their address.
const PATH: &str = "/v1/traces";

/// What the thread is told.
pub(super) enum Message {
    Span(Box<SpanData>),
    /// Nothing: look whether it is over.
    Look,
}

/// The thread; ends, with everything sent, when it is dropped.
pub struct Exporter {
    ending: Arc<AtomicBool>,
    queue: SyncSender<Message>,
    thread: Option<JoinHandle<()>>,
}

/// Starts exporting to the collector at `endpoint`, with or without the path.
pub fn start(endpoint: &str, instance: &str) -> Result<(Spans, Exporter), Failure> {
    let unusable = |what: String| {
        Failure::usage(format!("failed to export traces to {endpoint:?}: {what}"))
            .hint("give the collector's address as http://127.0.0.1:4318")
    };
    if !endpoint.starts_with("http://") {
        return Err(unusable("only http:// is spoken; a collector on this machine or network takes it".to_owned()));
    }
    let base = endpoint.trim_end_matches('/');
    let url = if base.ends_with(PATH) { base.to_owned() } else { format!("{base}{PATH}") };
    let mut exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(url)
        .with_timeout(PATIENCE)
        .build()
        .map_err(|e| unusable(e.to_string()))?;
    let version = env!("CARGO_PKG_VERSION");
    let attributes =
        [KeyValue::new("service.version", version), KeyValue::new("service.instance.id", instance.to_owned())];
    exporter.set_resource(&Resource::builder().with_service_name("relive").with_attributes(attributes).build());
    // The client needs a runtime, and this thread is where it lives.
    let failed = |e: std::io::Error| Failure::new(Exit::Failed, "threads", format!("failed to start exporting: {e}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let (queue, spans) = sync_channel(QUEUE);
    let send = move |batch| {
        if let Err(error) = runtime.block_on(exporter.export(batch)) {
            tracing::debug!(%error, "failed to export spans");
        }
    };
    let ending = Arc::<AtomicBool>::default();
    let over = ending.clone();
    let run = move || run(&spans, &over, &send);
    let thread = std::thread::Builder::new().name("relive-otlp".to_owned()).spawn(run);
    let thread = Some(thread.map_err(failed)?);
    let scope = InstrumentationScope::builder("relive").with_version(version).build();
    let layer = Spans { queue: queue.clone(), scope, ids: RandomIdGenerator::default() };
    Ok((layer, Exporter { ending, queue, thread }))
}

/// Sends what comes, some at once, until it is over; then what there is, as long as the collector's time.
fn run(spans: &Receiver<Message>, over: &AtomicBool, send: &dyn Fn(Vec<SpanData>)) {
    let mut batch = Vec::new();
    let mut since = Instant::now();
    while !over.load(Ordering::Acquire) {
        let wait = if batch.is_empty() { GATHER } else { GATHER.saturating_sub(since.elapsed()) };
        match spans.recv_timeout(wait) {
            Ok(Message::Span(span)) => {
                if batch.is_empty() {
                    since = Instant::now();
                }
                batch.push(*span);
            }
            Ok(Message::Look) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if batch.len() >= BATCH || (!batch.is_empty() && since.elapsed() >= GATHER) {
            send(std::mem::take(&mut batch));
        }
    }
    let rest = spans.try_iter().filter_map(|message| match message {
        Message::Span(span) => Some(*span),
        Message::Look => None,
    });
    batch.extend(rest);
    let until = Instant::now() + PATIENCE;
    while !batch.is_empty() && Instant::now() < until {
        let later = batch.split_off(batch.len().min(BATCH));
        send(std::mem::replace(&mut batch, later));
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Release);
        let _ = self.queue.try_send(Message::Look);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
