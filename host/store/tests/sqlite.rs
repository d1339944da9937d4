//! What only the embedded store promises: durability, errors of the disk, and its own schema.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use relive_core::{
    Digest, Namespace, RunKey, Shard, ShardSet, Timestamp,
    history::{Violation, decode_all},
    ports::{ActivityRow, AppendError, Catalog, ComponentMeta, HistoryStore, Implementation, StoreErrorKind},
};
use relive_store::{
    FaultPoint, OpenError, OpenOptions, SqliteStore,
    contract::support::{Script, append_one, check_run, completed, done, json, scheduled, signal, timer_created},
};
use rusqlite::{Connection, ffi};

fn open(dir: &Path) -> SqliteStore {
    SqliteStore::open(dir, OpenOptions::default()).unwrap()
}

fn refused(dir: &Path) -> OpenError {
    SqliteStore::open(dir, OpenOptions::default()).err().expect("the directory must be refused")
}

/// A connection of somebody who pokes at the file.
fn poke(dir: &Path) -> Connection {
    Connection::open(dir.join("relive.db")).unwrap()
}

/// Options whose faults are these, one a time that the point is passed; `None` lets it pass.
fn faulty(point: FaultPoint, codes: &[Option<i32>]) -> (OpenOptions, Arc<AtomicUsize>) {
    let left = Mutex::new(codes.iter().copied().collect::<VecDeque<_>>());
    let hits = Arc::new(AtomicUsize::new(0));
    let counted = hits.clone();
    let faults = move |at: FaultPoint| {
        let code = if at == point { left.lock().unwrap().pop_front().flatten() } else { None };
        counted.fetch_add(usize::from(code.is_some()), Ordering::Relaxed);
        code
    };
    (OpenOptions { faults: Some(Arc::new(faults)), ..OpenOptions::default() }, hits)
}

#[test]
fn everything_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut script = Script::started(&store, "a");
    let mut item = script.item(Some(1), [scheduled(1, "1"), timer_created(2, 77)]);
    item.put_tasks = vec![script.task(1, 2)];
    item.put_timers = vec![script.timer(2, 77)];
    item.published.insert("p".to_owned(), json("1"));
    script.append(&store, &item).unwrap();
    let row = store.execution(script.run).unwrap();
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.execution(script.run).unwrap(), row);
    assert_eq!(store.due_timers(&ShardSet::ALL, None, Timestamp(77), 9).unwrap(), item.put_timers);
    assert_eq!(store.open_tasks(&ShardSet::ALL, None, 9).unwrap(), item.put_tasks);
    assert_eq!(store.published(script.run, None).unwrap().len(), 1);
    assert!(store.allocate_run_key(Shard(0)).unwrap() > script.run);
    check_run(&store, script.run);
}

#[test]
fn epochs_grow_and_a_clean_end_is_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    assert_eq!((store.epoch(), store.was_clean()), (1, true));
    drop(store);
    let store = open(dir.path());
    assert_eq!((store.epoch(), store.was_clean()), (2, false));
    store.close_clean().unwrap();
    drop(store);
    assert!(open(dir.path()).was_clean());
    assert!(!open(dir.path()).was_clean());
}

#[test]
fn a_directory_has_one_host() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let error = refused(dir.path());
    assert!(matches!(error, OpenError::Locked { pid: Some(pid), .. } if pid == std::process::id()), "{error:?}");
    assert_eq!(error.code(), "data-dir-locked");
    assert!(error.to_string().contains(&format!("process {}", std::process::id())));
    drop(store);
    open(dir.path());
}

#[test]
fn a_newer_schema_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    poke(dir.path()).pragma_update(None, "user_version", 99).unwrap();
    let error = refused(dir.path());
    assert!(matches!(error, OpenError::NewerVersion { found: 99, .. }), "{error:?}");
    let version: i64 = poke(dir.path()).pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, 99);
}

#[test]
fn what_is_not_a_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    assert_eq!(refused(&file).code(), "data-dir-not-a-directory");
    assert_eq!(refused(&file.join("below")).code(), "data-dir-not-a-directory");
}

#[test]
fn a_directory_that_cannot_be_written_to_is_refused() {
    // Nobody, not even root, may make files here; and it is on every Linux.
    let error = refused(&PathBuf::from("/sys/kernel"));
    assert!(matches!(error, OpenError::ReadOnly(_)), "{error:?}");
    assert_eq!(error.code(), "data-dir-read-only");
}

#[test]
fn garbage_and_foreign_databases_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("relive.db"), vec![42; 8192]).unwrap();
    assert_eq!(refused(dir.path()).code(), "data-dir-corrupt");
    let dir = tempfile::tempdir().unwrap();
    poke(dir.path()).execute_batch("CREATE TABLE mine (x)").unwrap();
    assert_eq!(refused(dir.path()).code(), "data-dir-corrupt");
}

#[test]
fn events_are_append_only() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let _ = Script::started(&store, "a");
    drop(store);
    for sql in ["UPDATE events SET type = 2", "DELETE FROM events"] {
        let error = poke(dir.path()).execute(sql, []).unwrap_err();
        assert!(error.to_string().contains("events are append-only"), "{error}");
    }
}

#[test]
fn the_schema_is_the_recorded_one() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let conn = poke(dir.path());
    let mut statement =
        conn.prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY type, name").unwrap();
    let parts: Vec<String> = statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
    let found = format!(
        "-- The schema after all migrations; written by a test with RELIVE_BLESS=1.\n\n{};\n",
        parts.join(";\n\n")
    );
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations/sqlite/schema.sql");
    if std::env::var_os("RELIVE_BLESS").is_some() {
        std::fs::write(&path, &found).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(&path).unwrap(),
        found,
        "run this test with RELIVE_BLESS=1 if the change is meant"
    );
}

#[test]
fn activities_of_an_older_schema_are_wasm() {
    let dir = tempfile::tempdir().unwrap();
    let conn = poke(dir.path());
    for sql in ["0001_initial.sql", "0002_images.sql"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations/sqlite").join(sql);
        conn.execute_batch(&std::fs::read_to_string(path).unwrap()).unwrap();
    }
    let digest = Digest::of(b"1");
    let sql = "INSERT INTO activities VALUES ('default', 'pay', ?1, '{\"env\": {}}', 7)";
    conn.execute(sql, [digest.0.as_slice()]).unwrap();
    // "RLIV": the file is ours.
    conn.pragma_update(None, "application_id", 0x524c_4956).unwrap();
    conn.pragma_update(None, "user_version", 2).unwrap();
    drop(conn);
    let implementation = Implementation::Wasm { digest, grants: json("{\"env\": {}}") };
    let row = ActivityRow { name: "pay".into(), implementation, deployed_at: Timestamp(7) };
    assert_eq!(open(dir.path()).activities(&Namespace::default()), Ok(vec![row]));
}

#[test]
fn a_flipped_byte_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut script = Script::started(&store, "a");
    script.go_on(&store, [scheduled(1, "\"some input\""), done(1)]);
    drop(store);
    let path = dir.path().join("relive.db");
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(10).position(|w| w == b"some input").expect("the input in the file");
    bytes[at + 3] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let events = open(dir.path()).read_from(script.run, 1, usize::MAX).unwrap();
    assert_eq!(decode_all(&events), Err(Violation::BrokenChain(2)));
}

#[test]
fn large_events_are_kept_once_and_checked() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let text = format!("\"{}\"", "z".repeat(100 << 10));
    let scripts = ["a", "b"].map(|id| {
        let mut script = Script::started(&store, id);
        let mut item = script.item(Some(1), [scheduled(1, &text)]);
        item.put_tasks = vec![script.task(1, 2)];
        script.append(&store, &item).unwrap();
        script
    });
    drop(store);
    let db = poke(dir.path());
    let count = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count("SELECT count(*) FROM artifacts"), 1);
    assert_eq!(count("SELECT max(length(bytes)) FROM events WHERE codec >= 64"), 32);
    db.execute("UPDATE artifacts SET bytes = zeroblob(size)", []).unwrap();
    let store = open(dir.path());
    for script in &scripts {
        assert_eq!(store.read_from(script.run, 1, 1).unwrap().len(), 1, "what is small is as it was");
        assert_eq!(store.read_from(script.run, 1, 9).unwrap_err().kind, StoreErrorKind::Corrupt);
    }
    drop(store);
    db.execute("DELETE FROM artifacts", []).unwrap();
    assert_eq!(open(dir.path()).read_from(scripts[0].run, 1, 9).unwrap_err().kind, StoreErrorKind::Corrupt);
}

#[test]
fn a_changed_component_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let digest = Digest::of(b"component");
    store
        .put_component(&ComponentMeta { digest, size: 9, inspection: json("{}"), added_at: Timestamp(1) }, b"component")
        .unwrap();
    drop(store);
    poke(dir.path()).execute("UPDATE components SET bytes = x'00'", []).unwrap();
    assert_eq!(open(dir.path()).component(&digest).unwrap_err().kind, StoreErrorKind::Corrupt);
}

#[test]
fn a_full_disk_refuses_and_then_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path(), OpenOptions { max_pages: Some(80), ..OpenOptions::default() }).unwrap();
    let mut script = Script::started(&store, "a");
    let big = format!("\"{}\"", "x".repeat(60_000));
    let mut full = None;
    for no in 1..100 {
        let item = script.item(Some(1), [scheduled(no, &big)]);
        match script.append(&store, &item) {
            Ok(_) => {}
            Err(error) => {
                full = Some(error);
                break;
            }
        }
    }
    assert!(matches!(full, Some(AppendError::Backend(e)) if e.kind == StoreErrorKind::NoSpace));
    assert!(script.last > 1, "nothing was written before the disk was full");
    // A batch that does not fit fails alone; what fits goes on.
    let small = Script::new(&store, "b");
    let results = store.append(&[script.item(Some(1), [scheduled(100, &big)]), small.start(Some(1))]);
    assert!(matches!(&results[0], Err(AppendError::Backend(e)) if e.kind == StoreErrorKind::NoSpace), "{results:?}");
    assert!(results[1].is_ok(), "{results:?}");
    assert_eq!(store.execution(script.run).unwrap().unwrap().last_event_id, script.last);
    drop(store);
    let store = open(dir.path());
    script.go_on(&store, [scheduled(101, &big)]);
    let events = store.read_from(script.run, 1, usize::MAX).unwrap();
    assert_eq!(decode_all(&events).unwrap().len() as u64, script.last);
}

#[test]
fn busy_is_tried_again_and_then_told() {
    let dir = tempfile::tempdir().unwrap();
    // The first commit is the claim of opening.
    let busy = Some(ffi::SQLITE_BUSY);
    let (options, hits) = faulty(FaultPoint::BeforeCommit, &[None, busy, busy, None, busy, busy, busy]);
    let store = SqliteStore::open(dir.path(), options).unwrap();
    let mut script = Script::new(&store, "a");
    let start = script.start(Some(1));
    script.append(&store, &start).expect("the third try");
    assert_eq!(hits.load(Ordering::Relaxed), 2);
    let item = script.item(Some(1), [signal("x")]);
    let result = append_one(&store, &item);
    assert!(matches!(&result, Err(AppendError::Backend(e)) if e.kind == StoreErrorKind::Transient), "{result:?}");
    assert_eq!(hits.load(Ordering::Relaxed), 5);
    script.append(&store, &item).expect("the caller's own retry");
    check_run(&store, script.run);
}

#[test]
fn a_lost_reply_is_found_by_the_retry() {
    let dir = tempfile::tempdir().unwrap();
    let (options, hits) = faulty(FaultPoint::AfterCommit, &[None, None, Some(ffi::SQLITE_CORRUPT)]);
    let store = SqliteStore::open(dir.path(), options).unwrap();
    let script = Script::started(&store, "a");
    let item = script.item(Some(1), [signal("x")]);
    assert!(matches!(append_one(&store, &item), Err(AppendError::Backend(_))));
    assert_eq!(hits.load(Ordering::Relaxed), 1);
    assert_eq!(
        append_one(&store, &item),
        Err(AppendError::Conflict { expected: 1, actual: 2, tail: item.events.clone() })
    );
}

#[test]
fn a_statement_that_fails_is_alone() {
    let dir = tempfile::tempdir().unwrap();
    // Eight starts, then a batch of five: its third item fails, in the batch, in its half, and alone.
    let corrupt = Some(ffi::SQLITE_CORRUPT);
    let mut codes = vec![None; 5];
    codes.extend([None, None, corrupt]); // the whole
    codes.extend([None, None]); // items 0 and 1
    codes.extend([corrupt]); // items 2 to 4
    codes.extend([corrupt]); // item 2 alone
    let (options, hits) = faulty(FaultPoint::Write, &codes);
    let store = SqliteStore::open(dir.path(), options).unwrap();
    let mut scripts: Vec<Script> = (0..5).map(|n| Script::started(&store, &format!("w{n}"))).collect();
    let batch: Vec<_> = scripts.iter().map(|s| s.item(Some(1), [signal("x")])).collect();
    let results = store.append(&batch);
    assert_eq!(hits.load(Ordering::Relaxed), 3);
    for (n, result) in results.iter().enumerate() {
        assert_eq!(result.is_ok(), n != 2, "item {n}: {result:?}");
        if n != 2 {
            scripts[n].took(&batch[n]);
        }
        check_run(&store, scripts[n].run);
    }
}

#[test]
fn a_failed_sync_is_fatal() {
    let dir = tempfile::tempdir().unwrap();
    let (mut options, _) = faulty(FaultPoint::BeforeCommit, &[None, None, Some(ffi::SQLITE_IOERR_FSYNC)]);
    let ended = Arc::new(AtomicUsize::new(0));
    let seen = ended.clone();
    options.fatal = Arc::new(move |_| _ = seen.fetch_add(1, Ordering::Relaxed));
    let store = SqliteStore::open(dir.path(), options).unwrap();
    let script = Script::started(&store, "a");
    let batch = [script.item(Some(1), [signal("x")]), Script::with_key(RunKey(500), "b").start(Some(1))];
    for result in store.append(&batch) {
        assert!(matches!(&result, Err(AppendError::Backend(e)) if e.kind == StoreErrorKind::Fatal), "{result:?}");
    }
    assert_eq!(ended.load(Ordering::Relaxed), 1);
    // Where the process does not end, nothing is written or told any more.
    assert!(matches!(append_one(&store, &batch[0]), Err(AppendError::Backend(e)) if e.kind == StoreErrorKind::Fatal));
    assert_eq!(store.execution(script.run).unwrap_err().kind, StoreErrorKind::Fatal);
    assert_eq!(ended.load(Ordering::Relaxed), 1);
}

#[test]
fn a_batch_is_one_commit_and_a_refused_one_none() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let scripts: Vec<Script> = (0..40).map(|n| Script::new(&store, &format!("w{n}"))).collect();
    let before = store.commits();
    let batch: Vec<_> = scripts.iter().map(|s| s.start(Some(1))).collect();
    assert!(store.append(&batch).iter().all(Result::is_ok));
    assert_eq!(store.commits(), before + 1);
    assert!(store.append(&batch).iter().all(Result::is_err));
    store.stamp_epoch(scripts[0].run, 1).unwrap();
    assert_eq!(store.commits(), before + 1, "nothing changed");
    store.stamp_epoch(scripts[0].run, 2).unwrap();
    assert_eq!(store.commits(), before + 2);
}

#[test]
fn the_log_is_moved_and_started_over() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut script = Script::started(&store, "a");
    let big = format!("\"{}\"", "x".repeat(1 << 20));
    for no in 1..=60 {
        script.go_on(&store, [scheduled(no, &big)]);
    }
    store.checkpoint().unwrap();
    script.go_on(&store, [signal("x")]);
    let log = std::fs::metadata(dir.path().join("relive.db-wal")).unwrap().len();
    let database = std::fs::metadata(dir.path().join("relive.db")).unwrap().len();
    assert!(database > 60 << 20, "the database holds what the log held, has {database} bytes");
    assert!(log <= 64 << 20, "the log has {log} bytes");
}

#[test]
fn an_ordinary_step_touches_no_index() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let conn = poke(dir.path());
    // The statement of `append::step` opens cursors on these trees; the wake index is evaluated, not written.
    let sql = "EXPLAIN UPDATE executions SET last_event_id = 2, last_inbound_id = 2, applied_through = 2 WHERE key = 1 AND status = 0";
    let mut statement = conn.prepare(sql).unwrap();
    let roots: Vec<i64> = statement
        .query_map([], |row| Ok((row.get::<_, String>(1)?, row.get::<_, i64>(3)?)))
        .unwrap()
        .filter_map(|row| row.ok().filter(|(op, _)| op == "OpenWrite").map(|(_, root)| root))
        .collect();
    let names: Vec<String> = roots
        .iter()
        .map(|root| {
            conn.query_row("SELECT name FROM sqlite_schema WHERE rootpage = ?1", [root], |row| row.get(0)).unwrap()
        })
        .collect();
    assert_eq!(names, ["executions", "executions_wake"]);
}

#[test]
fn a_history_whose_row_is_damaged_leaves_the_others_readable() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (a, mut b) = (Script::started(&store, "a"), Script::started(&store, "b"));
    drop(store);
    poke(dir.path()).execute("UPDATE executions SET status = 77 WHERE key = ?1", [a.run.0.cast_signed()]).unwrap();
    let store = open(dir.path());
    assert_eq!(store.execution(a.run).unwrap_err().kind, StoreErrorKind::Corrupt);
    let results = store.append(&[a.item(Some(1), [signal("x")]), b.item(Some(1), [completed()])]);
    assert!(matches!(&results[0], Err(AppendError::Backend(e)) if e.kind == StoreErrorKind::Corrupt), "{results:?}");
    assert!(results[1].is_ok());
    b.took(&b.item(Some(1), [completed()]));
    check_run(&store, b.run);
    assert!(store.find(&Namespace::default(), &b.execution.workflow_id, None).unwrap().is_some());
}

#[test]
fn a_workflows_executions_are_listed_by_an_index() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let sql = "EXPLAIN QUERY PLAN SELECT workflow_id FROM executions \
               WHERE key < 9 AND namespace = 'default' AND workflow = 'w' ORDER BY key DESC LIMIT 9";
    let plan: Vec<String> =
        poke(dir.path()).prepare(sql).unwrap().query_map([], |row| row.get(3)).unwrap().map(Result::unwrap).collect();
    let plan = plan.join("; ");
    assert!(plan.contains("executions_by_workflow") && !plan.contains("TEMP B-TREE"), "{plan}");
}
