//! The stores against each other: random sequences of operations must have the same answers from both.

use std::cell::Cell;

use proptest::{prelude::*, test_runner::TestRunner};
use relive_core::{
    RunKey, ShardSet, Timestamp,
    event::EventBody,
    ports::{AppendItem, HistoryStore, ListFilter},
};
use relive_store::{
    MemoryStore, OpenOptions, SqliteStore,
    contract::{
        database::TestDatabase,
        support::{
            Script, cancel, completed, continued, done, json, scheduled, signal, terminated, timer_created, timer_fired,
        },
    },
};

/// Few runs, ids and keys, so that they meet.
const RUNS: u64 = 4;

#[derive(Clone, Debug)]
enum Op {
    Append(Vec<Step>),
    Stamp(u64, u64),
    Crash(u64, u64),
}

/// One item, made from where the run is believed to stand.
#[derive(Clone, Debug)]
struct Step {
    run: u64,
    /// What the writer has wrong.
    behind: u64,
    epoch: Option<u64>,
    kind: Kind,
    key: Option<u8>,
    publish: bool,
}

#[derive(Clone, Debug)]
enum Kind {
    Start,
    Signals(u8),
    Schedule,
    Complete,
    TimerCreate(u64),
    TimerFire,
    Cancel,
    Apply,
    End,
    Terminate,
    Continue,
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![
        4 => Just(Kind::Start),
        4 => (1..4_u8).prop_map(Kind::Signals),
        4 => Just(Kind::Schedule),
        2 => Just(Kind::Complete),
        3 => (0..50_u64).prop_map(Kind::TimerCreate),
        2 => Just(Kind::TimerFire),
        1 => Just(Kind::Cancel),
        2 => Just(Kind::Apply),
        1 => Just(Kind::End),
        1 => Just(Kind::Terminate),
        1 => Just(Kind::Continue),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    let epoch = prop_oneof![3 => Just(Some(1)), 1 => Just(Some(2)), 1 => Just(None)];
    let behind = prop_oneof![8 => Just(0), 1 => Just(1_u64), 1 => Just(2)];
    let key = prop_oneof![3 => Just(None), 1 => (0..3_u8).prop_map(Some)];
    (1..=RUNS, behind, epoch, kinds(), key, any::<bool>()).prop_map(|(run, behind, epoch, kind, key, publish)| Step {
        run,
        behind,
        epoch,
        kind,
        key,
        publish,
    })
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        8 => prop::collection::vec(steps(), 1..5).prop_map(Op::Append),
        1 => (1..=RUNS, 0..4_u64).prop_map(|(run, epoch)| Op::Stamp(run, epoch)),
        1 => (1..=RUNS, 0..9_000_000_u64).prop_map(|(run, now)| Op::Crash(run, now)),
    ];
    prop::collection::vec(op, 1..40)
}

fn believed(store: &MemoryStore, step: &Step) -> Script {
    let mut script = Script::with_key(RunKey(step.run), if step.run.is_multiple_of(2) { "even" } else { "odd" });
    let events = store.read_from(RunKey(step.run), 1, usize::MAX).unwrap();
    let known = events.len().saturating_sub(usize::try_from(step.behind).unwrap());
    if let (Some(row), Some(event)) = (store.execution(RunKey(step.run)).unwrap(), events[..known].last()) {
        (script.last, script.hash, script.time) = (event.event_id, event.hash, event.timestamp);
        script.row.last_inbound_id = row.last_inbound_id.min(event.event_id);
        script.row.applied_through = row.applied_through.min(event.event_id);
        script.row.command_count = row.command_count;
    }
    script
}

fn item(store: &MemoryStore, step: &Step) -> AppendItem {
    let script = believed(store, step);
    let next = script.row.command_count + 1;
    let timers = store.open_work(script.run).unwrap().1;
    let bodies: Vec<EventBody> = match &step.kind {
        Kind::Start => return with_extras(script.start(step.epoch), step),
        Kind::Signals(n) => (0..*n).map(|n| signal(&n.to_string())).collect(),
        Kind::Schedule => vec![scheduled(next, "1"), scheduled(next + 1, "2")],
        Kind::Complete => vec![done(next.saturating_sub(1).max(1))],
        Kind::TimerCreate(at) => vec![timer_created(next, *at)],
        Kind::TimerFire => vec![timer_fired(timers.first().map_or(1, |t| t.command_no))],
        Kind::Cancel => vec![cancel()],
        Kind::Apply => Vec::new(),
        Kind::End => vec![completed()],
        Kind::Terminate => vec![terminated()],
        Kind::Continue => vec![continued(script.execution.run_id)],
    };
    let mut item = script.item(step.epoch, bodies);
    match &step.kind {
        Kind::Schedule => {
            item.put_tasks = vec![script.task(next, script.last + 1), script.task(next + 1, script.last + 2)]
        }
        Kind::Complete => item.remove_tasks = vec![next.saturating_sub(1).max(1)],
        Kind::TimerCreate(at) => item.put_timers = vec![script.timer(next, *at)],
        Kind::TimerFire => item.remove_timers = vec![timers.first().map_or(1, |t| t.command_no)],
        Kind::Continue => {
            let next = Script::with_key(RunKey(step.run + RUNS), script.execution.workflow_id.as_str());
            item.successor = Some(Box::new(next.start(step.epoch)));
        }
        _ => {}
    }
    with_extras(item, step)
}

fn with_extras(mut item: AppendItem, step: &Step) -> AppendItem {
    item.inbound_keys.extend(step.key.map(|key| format!("m:{key}")));
    if step.publish {
        item.published.insert("p".to_owned(), json(&item.expected.to_string()));
    }
    item
}

fn compare(memory: &MemoryStore, other: &dyn HistoryStore) {
    let all = &ShardSet::ALL;
    for run in (1..=2 * RUNS).map(RunKey) {
        assert_eq!(memory.execution(run), other.execution(run));
        assert_eq!(memory.read_from(run, 1, 999), other.read_from(run, 1, 999));
        assert_eq!(memory.open_work(run), other.open_work(run));
        assert_eq!(memory.published(run, None), other.published(run, None));
    }
    assert_eq!(memory.needs_wake(all, RunKey(0), 99), other.needs_wake(all, RunKey(0), 99));
    assert_eq!(memory.open_tasks(all, None, 999), other.open_tasks(all, None, 999));
    assert_eq!(memory.due_timers(all, None, Timestamp(30), 99), other.due_timers(all, None, Timestamp(30), 99));
    assert_eq!(memory.list(&ListFilter::default(), None, 99), other.list(&ListFilter::default(), None, 99));
    for id in ["even", "odd"] {
        let script = Script::with_key(RunKey(1), id);
        let name = (&script.execution.namespace, &script.execution.workflow_id);
        assert_eq!(memory.find(name.0, name.1, None), other.find(name.0, name.1, None));
    }
}

/// Plays a sequence on both; gives how many items were appended and how many refused. `stores` take turns: one, or
/// several on one database.
fn play(ops: Vec<Op>, stores: &[&dyn HistoryStore]) -> (usize, usize) {
    let memory = MemoryStore::new();
    let (mut appended, mut refused) = (0, 0);
    for (op, other) in ops.into_iter().zip(stores.iter().cycle()) {
        match op {
            Op::Append(steps) => {
                let batch: Vec<AppendItem> = steps.iter().map(|step| item(&memory, step)).collect();
                let results = memory.append(&batch);
                assert_eq!(results, other.append(&batch));
                appended += results.iter().filter(|r| r.is_ok()).count();
                refused += results.iter().filter(|r| r.is_err()).count();
            }
            Op::Stamp(run, epoch) => {
                assert_eq!(memory.stamp_epoch(RunKey(run), epoch), other.stamp_epoch(RunKey(run), epoch));
            }
            Op::Crash(run, now) => {
                memory.count_crash(&ShardSet::ALL, &[RunKey(run)], Timestamp(now)).unwrap();
                other.count_crash(&ShardSet::ALL, &[RunKey(run)], Timestamp(now)).unwrap();
            }
        }
    }
    stores.iter().for_each(|other| compare(&memory, *other));
    (appended, refused)
}

/// Plays many sequences, each by `play_one`.
fn agree(cases: u32, play_one: impl Fn(Vec<Op>) -> (usize, usize)) {
    let (appended, refused) = (Cell::new(0), Cell::new(0));
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let result = TestRunner::new(config).run(&ops(), |ops| {
        let (a, r) = play_one(ops);
        appended.set(appended.get() + a);
        refused.set(refused.get() + r);
        Ok(())
    });
    result.unwrap();
    let least = 3 * cases as usize;
    assert!(appended.get() > least && refused.get() > least, "too little happened: {appended:?} {refused:?}");
    println!("{appended:?} items appended, {refused:?} refused");
}

#[test]
fn memory_and_sqlite_agree() {
    agree(64, |ops| {
        let dir = tempfile::tempdir().unwrap();
        play(ops, &[&SqliteStore::open(dir.path(), OpenOptions::default()).unwrap()])
    });
}

#[test]
fn memory_and_postgres_agree() {
    agree_on_postgres(|database, ops| play(ops, &[&database.store()]));
}

/// What each host knows of a run is stale half of the time.
#[test]
fn memory_and_two_hosts_on_postgres_agree() {
    agree_on_postgres(|database, ops| play(ops, &[&database.store(), &database.store()]));
}

fn agree_on_postgres(play_one: impl Fn(&TestDatabase, Vec<Op>) -> (usize, usize)) {
    if TestDatabase::empty().is_none() {
        return;
    }
    agree(16, |ops| {
        let database = TestDatabase::migrated().unwrap();
        play_one(&database, ops)
    });
}
