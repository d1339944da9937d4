//! Numbers about a host, for dashboards and alerts: kept in atomics on the way, put together when somebody asks.
//!
//! `cells` holds counters and histograms, `table` says which there are, `scrape` puts them together. What needs the
//! store is asked at most every few seconds. Must not know: in which format they are shown.

mod cells;
mod family;
mod process;
mod scrape;
mod table;

use std::sync::atomic::{AtomicU64, AtomicUsize};

use relive_core::{
    FailureKind,
    ports::{AppendError, Status, StoreErrorKind},
};

pub use cells::{Counter, FAST, Histogram, LONG, SIZES, Snapshot, WIDE};
pub use family::{Definition, Family, Kind, Sample, Value};
pub use table::DEFINITIONS;

/// How attempts fail, by [`kind_of`].
const FAILURES: [&str; 6] = ["application", "timeout", "canceled", "terminated", "rejected", "infrastructure"];
/// How appends are refused, by [`refusal_of`].
const REFUSALS: [&str; 7] = ["conflict", "fenced", "transient", "no-space", "read-only", "corrupt", "fatal"];

/// What is counted on the way.
pub(crate) struct Metrics {
    pub started: Counter,
    pub completed: Counter,
    pub failed: Counter,
    pub canceled: Counter,
    pub terminated: Counter,
    pub continued: Counter,
    pub endtoend: Histogram,
    pub turns: Histogram,
    pub replays: Histogram,
    pub cache_hits: Counter,
    pub cache_misses: Counter,
    pub schedule_to_start: Histogram,
    pub attempts: Histogram,
    attempts_failed: [Counter; FAILURES.len()],
    pub exhausted: Counter,
    /// Attempts that run in this host now.
    pub running: AtomicUsize,
    pub appends: Histogram,
    pub batches: Histogram,
    append_errors: [Counter; REFUSALS.len()],
    pub timers: Histogram,
    /// How long the oldest message that waits to be published has waited, in ns.
    pub outbox_lag: AtomicU64,
    census: scrape::Counted,
}

impl Default for Metrics {
    fn default() -> Self {
        let counter = Counter::default;
        Self {
            started: counter(),
            completed: counter(),
            failed: counter(),
            canceled: counter(),
            terminated: counter(),
            continued: counter(),
            endtoend: Histogram::seconds(LONG),
            turns: Histogram::seconds(FAST),
            replays: Histogram::seconds(FAST),
            cache_hits: counter(),
            cache_misses: counter(),
            schedule_to_start: Histogram::seconds(WIDE),
            attempts: Histogram::seconds(WIDE),
            attempts_failed: Default::default(),
            exhausted: counter(),
            running: AtomicUsize::new(0),
            appends: Histogram::seconds(FAST),
            batches: Histogram::sizes(),
            append_errors: Default::default(),
            timers: Histogram::seconds(FAST),
            outbox_lag: AtomicU64::new(0),
            census: scrape::Counted::default(),
        }
    }
}

impl Metrics {
    /// A run ended.
    pub fn ended(&self, status: Status, nanos: u64) {
        let counter = match status {
            Status::Completed => &self.completed,
            Status::Failed => &self.failed,
            Status::Canceled => &self.canceled,
            Status::Terminated => &self.terminated,
            Status::ContinuedAsNew => &self.continued,
            Status::Running | Status::Blocked => return,
        };
        counter.one();
        self.endtoend.record(nanos);
    }

    /// An attempt failed.
    pub fn attempt_failed(&self, kind: FailureKind) {
        self.attempts_failed[kind_of(kind)].one();
    }

    /// The store refused an item.
    pub fn append_refused(&self, error: &AppendError) {
        if let Some(at) = refusal_of(error) {
            self.append_errors[at].one();
        }
    }
}

fn kind_of(kind: FailureKind) -> usize {
    match kind {
        FailureKind::Application => 0,
        FailureKind::Timeout => 1,
        FailureKind::Canceled => 2,
        FailureKind::Terminated => 3,
        FailureKind::Rejected => 4,
        FailureKind::Infrastructure => 5,
    }
}

/// What callers did wrong is no trouble of the store's.
fn refusal_of(error: &AppendError) -> Option<usize> {
    Some(match error {
        AppendError::Conflict { .. } => 0,
        AppendError::Fenced { .. } => 1,
        AppendError::Backend(error) => match error.kind {
            StoreErrorKind::Transient => 2,
            StoreErrorKind::NoSpace => 3,
            StoreErrorKind::ReadOnly => 4,
            StoreErrorKind::Corrupt => 5,
            StoreErrorKind::Fatal => 6,
        },
        _ => return None,
    })
}
