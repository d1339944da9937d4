//! The host's own log: stderr or a file, filtered by RELIVE_LOG; and the spans that are exported beside it.

use std::{io::IsTerminal, path::Path, sync::Mutex};

use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter, Layer, fmt, fmt::writer::BoxMakeWriter, layer::SubscriberExt, registry::LookupSpan,
    util::SubscriberInitExt,
};

use super::otlp::Spans;
use crate::exit::{Exit, Failure};

const FILTER: &str = "RELIVE_LOG";
/// Quiet unless something is wrong: what executions do is in their histories.
const DEFAULT_FILTER: &str = "warn";
/// Which spans are exported: turns and appends are of the level `debug`.
const SPAN_FILTER: &str = "RELIVE_OTLP_FILTER";
const DEFAULT_SPAN_FILTER: &str = "relive=info";

/// Starts the log, and hands spans to `spans`.
pub fn start(file: Option<&Path>, spans: Option<Spans>) -> Result<(), Failure> {
    let filter = filter(FILTER, DEFAULT_FILTER)?;
    let writer = match file {
        None => BoxMakeWriter::new(std::io::stderr),
        Some(path) => {
            let opened = std::fs::OpenOptions::new().create(true).append(true).open(path);
            let file = opened.map_err(|e| Failure::usage(format!("failed to open the log {}: {e}", path.display())))?;
            BoxMakeWriter::new(Mutex::new(file))
        }
    };
    let ansi = file.is_none() && std::io::stderr().is_terminal();
    let started = match spans {
        // One filter over everything: what it refuses costs a comparison.
        None => tracing_subscriber::registry().with(filter).with(lines(writer, ansi)).try_init(),
        Some(spans) => {
            let exported = self::filter(SPAN_FILTER, DEFAULT_SPAN_FILTER)?;
            let log = lines::<tracing_subscriber::Registry>(writer, ansi).with_filter(filter);
            tracing_subscriber::registry().with(log).with(spans.with_filter(exported)).try_init()
        }
    };
    started.map_err(|e| Failure::new(Exit::Failed, "log", format!("failed to start the log: {e}")))
}

/// A log that cannot be written, on a full disk for one, is no reason to panic on whatever thread had a line for it.
fn lines<S: Subscriber + for<'a> LookupSpan<'a>>(writer: BoxMakeWriter, ansi: bool) -> impl Layer<S> {
    fmt::layer().log_internal_errors(false).with_ansi(ansi).with_writer(writer)
}

fn filter(variable: &str, default: &str) -> Result<EnvFilter, Failure> {
    let text = std::env::var(variable).unwrap_or_else(|_| default.to_owned());
    EnvFilter::try_new(&text).map_err(|e| {
        Failure::usage(format!("{variable}={text:?} is no filter: {e}")).hint("write it as info,relive_engine=debug")
    })
}
