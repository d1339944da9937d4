//! The raw rate of the same rows: what a sequential step writes (two events, a task in, a task out, the row), in
//! batches of 50, straight into the store. PostgreSQL's where `RELIVE_TEST_PG` names a database; it gets the schema.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Instant};

use relive_core::{
    Digest, EventType, ExecutionKey, Namespace, RunId, RunKey, Shard, Timestamp, WorkflowId,
    canonical_hash::GENESIS,
    codec::StoredEvent,
    ports::{AppendItem, HistoryStore, NewExecution, RowChange, Status, TaskRow},
};
use relive_store::{OpenOptions, PostgresOptions, PostgresStore, SqliteStore};

use crate::Figures;

const BATCH: u64 = 50;
const ROUNDS: u64 = 400;
/// Rows of a step: two events, a task inserted, a task deleted, an execution updated.
const ROWS_PER_STEP: u64 = 5;

struct Run {
    key: RunKey,
    last: u64,
    hash: [u8; 32],
    steps: u64,
}

pub fn measure(data: &Path) -> anyhow::Result<Figures> {
    let store = SqliteStore::open(data, OpenOptions::default())?;
    let mut figures = Figures::from([("raw_sqlite_rows_per_s", rate(&store)?)]);
    if let Ok(url) = std::env::var("RELIVE_TEST_PG") {
        PostgresStore::migrate(&url)?;
        let store = PostgresStore::connect(&PostgresOptions::new(url))?;
        figures.insert("raw_pg_rows_per_s", rate(&store)?);
    }
    Ok(figures)
}

/// Rows a second of one writer.
fn rate(store: &dyn HistoryStore) -> anyhow::Result<f64> {
    let mut runs = Vec::new();
    for n in 0..BATCH {
        runs.push(begin(store, n)?);
    }
    let began = Instant::now();
    for _ in 0..ROUNDS {
        let items: Vec<AppendItem> = runs.iter_mut().map(step).collect();
        for result in store.append(&items) {
            result?;
        }
    }
    Ok((BATCH * ROUNDS * ROWS_PER_STEP) as f64 / began.elapsed().as_secs_f64())
}

fn event(run: &mut Run, ty: EventType) -> StoredEvent {
    run.last += 1;
    let mut event = StoredEvent {
        event_id: run.last,
        timestamp: Timestamp(run.last),
        event_type: ty.code(),
        codec: 2,
        event_version: 1,
        bytes: Arc::from([7u8; 250].as_slice()),
        hash: [0; 32],
    };
    event.hash = event.expected_hash(&run.hash);
    run.hash = event.hash;
    event
}

fn change(inbound: u64, commands: u64) -> RowChange {
    RowChange {
        status: Status::Running,
        blocked: None,
        last_inbound_id: inbound,
        applied_through: inbound,
        command_count: commands,
        reset_crashes: false,
        digest: None,
    }
}

fn task(run: &Run) -> TaskRow {
    let at = Timestamp(run.last);
    TaskRow::new(run.key, run.steps, run.last, at)
}

fn begin(store: &dyn HistoryStore, n: u64) -> anyhow::Result<Run> {
    let mut run = Run { key: store.allocate_run_key(Shard(0))?, last: 0, hash: GENESIS, steps: 1 };
    let execution = ExecutionKey {
        namespace: Namespace::default(),
        workflow_id: WorkflowId::new(&format!("raw-{}-{n}", std::process::id()))?,
        run_id: RunId(uuid::Uuid::now_v7()),
    };
    let mut item = AppendItem::new(run.key, 0, Some(1), change(1, 1));
    item.create = Some(NewExecution {
        execution,
        workflow: "raw".into(),
        digest: Digest([0; 32]),
        started_at: Timestamp(0),
        correlation_id: None,
    });
    item.events = vec![event(&mut run, EventType::ExecutionStarted), event(&mut run, EventType::TaskScheduled)];
    item.put_tasks = vec![task(&run)];
    item.published = BTreeMap::new();
    for result in store.append(&[item]) {
        result?;
    }
    Ok(run)
}

fn step(run: &mut Run) -> AppendItem {
    let expected = run.last;
    let mut item = AppendItem::new(run.key, expected, Some(u64::MAX >> 1), change(expected + 1, run.steps + 1));
    item.events = vec![event(run, EventType::TaskCompleted), event(run, EventType::TaskScheduled)];
    item.remove_tasks = vec![run.steps];
    run.steps += 1;
    item.put_tasks = vec![task(run)];
    item
}
