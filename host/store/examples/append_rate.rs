//! The raw rate of the store: batches of items as a sequential step makes them (two events of 300 bytes, a task in, a
//! task out, the row), and the latency of a lone commit. `cargo run --release --example append_rate [directory]`; with
//! `RELIVE_TEST_PG`, over the PostgreSQL database of that URL, too, which gets the schema.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use relive_core::{
    Digest, EventType, Namespace, RunId, RunKey, Shard, Timestamp, WorkflowId,
    canonical_hash::GENESIS,
    codec::StoredEvent,
    ids::ExecutionKey,
    ports::{AppendItem, HistoryStore, NewExecution, RowChange, Status, TaskRow},
};
use relive_store::{OpenOptions, PostgresOptions, PostgresStore, SqliteStore};
use uuid::Uuid;

type Failure = Box<dyn std::error::Error>;

/// Bytes of an event: some 200 of a payload, and what surrounds them.
const EVENT_BYTES: usize = 300;
const MEASURED_FOR: Duration = Duration::from_secs(2);

struct Run {
    key: RunKey,
    last: u64,
    hash: [u8; 32],
    commands: u64,
    row: RowChange,
}

fn main() -> Result<(), Failure> {
    let dir = std::env::args()
        .nth(1)
        .map_or_else(|| std::env::temp_dir().join(format!("append-rate-{}", std::process::id())), PathBuf::from);
    for page_size in [4096, 8192] {
        let dir = dir.join(page_size.to_string());
        let store = SqliteStore::open(&dir, OpenOptions { page_size, ..OpenOptions::default() })?;
        println!("SQLite, pages of {page_size} bytes in {}", dir.display());
        measure(&store)?;
        std::fs::remove_dir_all(&dir)?;
    }
    if let Ok(url) = std::env::var("RELIVE_TEST_PG") {
        PostgresStore::migrate(&url)?;
        let store = PostgresStore::connect(&PostgresOptions::new(url))?;
        println!("PostgreSQL");
        measure(&store)?;
    }
    Ok(())
}

fn measure(store: &dyn HistoryStore) -> Result<(), Failure> {
    let me = std::process::id();
    for batch in [1, 50, 200] {
        let named = |n| start(store, &format!("{me}-{batch}-{n}"));
        let mut runs = (0..batch).map(named).collect::<Result<Vec<_>, _>>()?;
        let (begin, mut times) = (Instant::now(), Vec::new());
        while begin.elapsed() < MEASURED_FOR {
            let items: Vec<AppendItem> = runs.iter_mut().map(step).collect();
            let one = Instant::now();
            for result in store.append(&items) {
                result?;
            }
            times.push(one.elapsed());
        }
        times.sort();
        let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
        let busy: Duration = times.iter().sum();
        let steps = (times.len() * batch) as f64 / busy.as_secs_f64();
        println!("  batch of {batch:>3}: {steps:>8.0} steps/s, {:>8.0} rows/s, p50 {p50:?}, p99 {p99:?}", steps * 5.0);
    }
    Ok(())
}

fn event(run: &mut Run, ty: EventType) -> StoredEvent {
    run.last += 1;
    let bytes: Arc<[u8]> = vec![b'x'; EVENT_BYTES].into();
    let timestamp = Timestamp(1_000 + run.last);
    let mut event = StoredEvent {
        event_id: run.last,
        timestamp,
        event_type: ty.code(),
        codec: 2,
        event_version: 1,
        bytes,
        hash: GENESIS,
    };
    event.hash = event.expected_hash(&run.hash);
    run.hash = event.hash;
    event
}

/// One activity completed, the next one scheduled.
fn step(run: &mut Run) -> AppendItem {
    let mut item = AppendItem::new(run.key, run.last, Some(1), run.row.clone());
    item.events = vec![event(run, EventType::TaskCompleted), event(run, EventType::TaskScheduled)];
    item.remove_tasks = vec![run.commands];
    run.commands += 1;
    item.put_tasks = vec![TaskRow::new(run.key, run.commands, run.last, Timestamp(5))];
    item.row.last_inbound_id = run.last - 1;
    item.row.applied_through = run.last - 1;
    item.row.command_count = run.commands;
    run.row = item.row.clone();
    item
}

fn start(store: &dyn HistoryStore, id: &str) -> Result<Run, Failure> {
    let key = store.allocate_run_key(Shard(0))?;
    let row = RowChange {
        status: Status::Running,
        blocked: None,
        last_inbound_id: 1,
        applied_through: 1,
        command_count: 0,
        reset_crashes: false,
        digest: None,
    };
    let mut run = Run { key, last: 0, hash: GENESIS, commands: 0, row };
    let mut item = AppendItem::new(key, 0, Some(1), run.row.clone());
    item.events = vec![event(&mut run, EventType::ExecutionStarted)];
    let run_id = RunId(Uuid::from_u128(u128::from(key.0)));
    item.create = Some(NewExecution {
        execution: ExecutionKey { namespace: Namespace::default(), workflow_id: WorkflowId::new(id)?, run_id },
        workflow: "order".into(),
        digest: Digest::of(b"code"),
        started_at: Timestamp(1),
        correlation_id: None,
    });
    for result in store.append(&[item]) {
        result?;
    }
    Ok(run)
}
