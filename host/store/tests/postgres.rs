//! What is PostgreSQL's alone: the schema, connecting, several hosts on one database, one round trip a batch, plans.
//! Skipped where `RELIVE_TEST_PG` names no server.

use std::{collections::BTreeSet, fmt::Write as _, path::Path};

use relive_core::{
    EventType, RunKey, Shard, ShardSet, Timestamp,
    ports::{
        AppendError, AppendItem, Appended, HistoryStore, ImageStore, StoreErrorKind, StoredImage, TimerRow, Wanted,
    },
};
use relive_store::{
    ConnectError, Migrated, PostgresOptions, PostgresStore,
    contract::{
        database::{TestDatabase, query_sql, run_sql, try_sql},
        support::{Script, append_one, check_run, completed, done, scheduled, signal, timer_created},
    },
    plans,
};

fn refused(url: &str) -> ConnectError {
    let Err(error) = PostgresStore::connect(&PostgresOptions::new(url)) else { panic!("{url} was not refused") };
    assert!(!error.to_string().contains("s3cret"), "{error}");
    error
}

fn page_of(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)).unwrap_or_default()
}

fn recorded(path: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    if std::env::var_os("RELIVE_BLESS").is_some() {
        std::fs::write(&path, found).unwrap();
    }
    let recorded = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        recorded == found,
        "{} differs from what was found:\n{found}\nrun with RELIVE_BLESS=1 if the change is meant",
        path.display()
    );
}

#[test]
fn what_cannot_be_used_is_told_with_what_to_do() {
    let Some(database) = TestDatabase::empty() else { return };
    let with = |user: &str, port: u16, name: &str| format!("postgres://{user}:s3cret@127.0.0.1:{port}/{name}");
    // Port 1 is nobody's.
    assert_eq!(refused(&with("relive", 1, "x")).code(), "store-unreachable");
    let server = database.url.split_once('@').unwrap().1.split('/').next().unwrap();
    let port: u16 = server.rsplit_once(':').unwrap().1.parse().unwrap();
    assert_eq!(refused(&with("nobody_of_that_name", port, "postgres")).code(), "store-access-refused");
    assert_eq!(refused(&format!("{}_not", database.url)).code(), "store-database-missing");
    assert_eq!(
        refused(&format!("{}?sslmode=verify-full", database.url.split('?').next().unwrap())).code(),
        "store-tls-failed"
    );
    assert_eq!(refused("sqlite://s3cret").code(), "store-url-invalid");
    let error = refused(&database.url);
    assert_eq!(error.code(), "store-schema-missing");
    assert!(error.to_string().contains("relive migrate-store"), "{error}");
}

#[test]
fn schemas_of_other_versions_are_refused() {
    let Some(database) = TestDatabase::migrated() else { return };
    drop(database.store());
    run_sql(&database.url, "UPDATE meta SET value = value + 7 WHERE key = 'schema_version'");
    let error = refused(&database.url);
    assert!(matches!(error, ConnectError::NewerSchema { .. }), "{error}");
    assert!(matches!(PostgresStore::migrate(&database.url), Err(ConnectError::NewerSchema { .. })));
    run_sql(&database.url, "UPDATE meta SET value = 1 WHERE key = 'schema_version'");
    let error = refused(&database.url);
    assert!(matches!(error, ConnectError::OlderSchema { found: 1, .. }), "{error}");
    assert!(error.to_string().contains("relive migrate-store"), "{error}");
}

#[test]
fn migrations_at_once_are_done_once() {
    let Some(database) = TestDatabase::empty() else { return };
    let migrated: Vec<Migrated> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| PostgresStore::migrate(&database.url).unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(migrated.iter().filter(|m| m.from == 0).count(), 1);
    assert!(migrated.iter().all(|m| m.from == 0 || m.from == m.to), "{migrated:?}");
    drop(database.store());
}

/// The schema as the server's own catalogs tell it.
fn schema(url: &str) -> String {
    let columns = "SELECT format('%s.%s %s%s%s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod) || coalesce(' ' || quote_ident(o.collname), ''), \
        CASE WHEN a.attnotnull THEN ' not null' ELSE '' END, coalesce(' ' || pg_get_expr(d.adbin, d.adrelid), '')) \
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid \
        LEFT JOIN pg_collation o ON o.oid = a.attcollation \
        LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 ORDER BY c.relname, a.attnum";
    let constraints = "SELECT format('%s: %s', conrelid::regclass, pg_get_constraintdef(oid)) FROM pg_constraint \
        WHERE connamespace = 'public'::regnamespace AND contype IN ('c', 'p', 'u') ORDER BY conrelid::regclass::text, conname";
    let indexes = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY indexname";
    let triggers = "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal ORDER BY tgname";
    let functions = "SELECT format('%s(%s) %s', proname, pg_get_function_identity_arguments(oid), md5(prosrc)) FROM pg_proc \
        WHERE pronamespace = 'public'::regnamespace ORDER BY proname";
    let mut text = "-- The schema after all migrations; written by a test with RELIVE_BLESS=1.\n".to_owned();
    for query in [columns, constraints, indexes, triggers, functions] {
        write!(text, "\n{}\n", query_sql(url, query).join("\n")).unwrap();
    }
    text
}

#[test]
fn the_schema_is_the_recorded_one() {
    let Some(database) = TestDatabase::migrated() else { return };
    recorded("migrations/postgres/schema.txt", &schema(&database.url));
}

#[test]
fn events_are_append_only() {
    let Some(database) = TestDatabase::migrated() else { return };
    let _ = Script::started(&database.store(), "a");
    for sql in ["UPDATE events SET type = 2", "DELETE FROM events", "TRUNCATE events"] {
        let error = try_sql(&database.url, sql).unwrap_err().to_string();
        assert!(error.contains("events are append-only") || error.contains("permission denied"), "{error}");
    }
    // Grants refuse it before the trigger does, for everybody but a superuser.
    let granted = query_sql(
        &database.url,
        "SELECT privilege_type::text FROM information_schema.role_table_grants \
         WHERE table_name = 'events' AND privilege_type IN ('UPDATE', 'DELETE', 'TRUNCATE')",
    );
    assert_eq!(granted, [""; 0]);
}

#[test]
fn the_database_knows_the_types_of_events() {
    let Some(database) = TestDatabase::migrated() else { return };
    let check = query_sql(
        &database.url,
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'events_known_type'",
    );
    let numbers = check[0].split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse::<u16>().ok());
    let known: BTreeSet<u16> = EventType::ALL.iter().map(|ty| ty.code()).collect();
    assert_eq!(numbers.collect::<BTreeSet<_>>(), known, "a new type of event is a migration of the constraint");
    let insert =
        "INSERT INTO events (key, timestamp, version, type, codec, hash, bytes) VALUES (1, 1, 1, 999, 1, '', '')";
    let error = try_sql(&database.url, insert).unwrap_err().to_string();
    assert!(error.contains("events_known_type"), "{error}");
}

#[test]
fn hosts_see_what_the_other_appended() {
    let Some(database) = TestDatabase::migrated() else { return };
    let (a, b) = (database.store(), database.store());
    let mut script = Script::started(&a, "w");
    // Both know the run, and one does not know what the other adds.
    let stale = script.item(Some(1), [scheduled(1, "1")]);
    assert_eq!(b.execution(script.run).unwrap().unwrap().last_event_id, 1);
    let message = script.item(None, [signal("x")]);
    script.append(&b, &message).unwrap();
    assert_eq!(
        append_one(&a, &stale),
        Err(AppendError::Conflict { expected: 1, actual: 2, tail: message.events.clone() })
    );
    // The other takes it over: the first is fenced off, though it saw nothing of it.
    let next = script.item(Some(1), [scheduled(1, "1")]);
    assert_eq!(b.stamp_epoch(script.run, 2).unwrap().epoch, 2);
    assert_eq!(append_one(&a, &next), Err(AppendError::Fenced { epoch: 1, owner: 2 }));
    let next = script.item(Some(2), [scheduled(1, "1")]);
    script.append(&b, &next).unwrap();
    // What the other ended is closed.
    let end = script.item(Some(2), [done(1), completed()]);
    let late = script.item(None, [signal("late")]);
    script.append(&b, &end).unwrap();
    assert!(matches!(append_one(&a, &late), Err(AppendError::Conflict { actual: 5, .. })));
    check_run(&a, script.run);
}

/// A message, the end of the task before, and another task.
fn step(script: &Script, epoch: u64, round: u64) -> AppendItem {
    let before = (round > 1).then(|| done(round - 1));
    let bodies = [Some(signal(&format!("{round}"))), before, Some(scheduled(round, "1"))];
    let mut item = script.item(Some(epoch), bodies.into_iter().flatten());
    item.put_tasks = vec![script.task(round, item.last_event_id())];
    item.remove_tasks = (round > 1).then_some(round - 1).into_iter().collect();
    item
}

#[test]
fn a_batch_is_one_round_trip_and_a_step_touches_no_index() {
    let Some(database) = TestDatabase::migrated() else { return };
    let store = database.store();
    let mut scripts: Vec<Script> = (0..40).map(|n| Script::new(&store, &format!("w{n}"))).collect();
    let trips = |batch: &[AppendItem]| {
        let before = store.round_trips();
        let results = store.append(batch);
        assert!(results.iter().all(Result::is_ok), "{results:?}");
        store.round_trips() - before
    };
    let starts: Vec<AppendItem> = scripts.iter().map(|s| s.start(Some(1))).collect();
    assert_eq!(trips(&starts), 1);
    scripts.iter_mut().zip(&starts).for_each(|(s, start)| s.took(start));
    for round in 1..=30 {
        let batch_step = |script: &Script| {
            let mut item = step(script, 1, round);
            item.inbound_keys = vec![format!("m:{round}")];
            item
        };
        let batch: Vec<AppendItem> = scripts.iter().map(batch_step).collect();
        assert_eq!(trips(&batch), 1);
        scripts.iter_mut().zip(&batch).for_each(|(s, item)| s.took(item));
    }
    // A host that knows nothing of a run reads it first, as owners do; then it is as fast.
    let other = database.store();
    let script = &mut scripts[0];
    other.stamp_epoch(script.run, 2).unwrap();
    let before = other.round_trips();
    let item = step(script, 2, 31);
    script.append(&other, &item).unwrap();
    assert_eq!(other.round_trips() - before, 1);
    check_run(&other, script.run);
    drop((store, other));
    // Counters are written when sessions end.
    let hot = || {
        query_sql(
            &database.url,
            "SELECT concat(n_tup_upd, ' ', n_tup_hot_upd) FROM pg_stat_user_tables WHERE relname = 'executions'",
        )
    };
    let mut counted = (0..200).map(|_| {
        std::thread::yield_now();
        hot()[0].split_once(' ').map(|(all, hot)| (all.parse::<u64>().unwrap(), hot.parse::<u64>().unwrap())).unwrap()
    });
    let (all, hot) = counted.find(|(all, _)| *all >= 1_202).expect("1,202 updates counted");
    // All of them are on a server of one's own; transactions elsewhere keep old versions alive, which fills pages.
    assert!(hot * 2 >= all, "{hot} of {all} updates were heap-only");
}

/// Who takes a run over while its owner appends gets a row and work that belong together.
#[test]
fn what_is_taken_is_of_one_moment() {
    let Some(database) = TestDatabase::migrated() else { return };
    let (a, b) = (database.store(), database.store());
    for n in 0..20 {
        let mut script = Script::started(&a, &format!("w{n}"));
        let run = script.run;
        std::thread::scope(|scope| {
            let owner = scope.spawn(|| {
                for round in 1.. {
                    let item = step(&script, 1, round);
                    match script.append(&a, &item) {
                        Ok(_) => {}
                        Err(AppendError::Fenced { epoch: 1, owner: 2 }) => return round - 1,
                        Err(other) => panic!("{other}"),
                    }
                }
                0
            });
            let begun =
                |row: Option<relive_core::ports::ExecutionRow>| row.is_some_and(|row| row.command_count > n / 2);
            while !begun(b.execution(run).unwrap()) {}
            // Alone, or together with others, where who appends without a pause may win: then alone.
            let together = || b.take_together(&[Wanted { run, epoch: 2, guest: None }]).unwrap().remove(0);
            let together = if n % 2 == 0 { None } else { together() };
            let taken = together.map_or_else(|| b.take(run, 2).unwrap().unwrap(), |prepared| prepared.taken);
            let last = owner.join().unwrap();
            assert_eq!((taken.row.epoch, taken.row.command_count), (2, last));
            assert_eq!(taken.tasks.iter().map(|t| t.command_no).collect::<Vec<_>>(), [last]);
        });
        check_run(&b, run);
    }
}

#[test]
fn one_bad_item_spoils_nothing_for_the_others() {
    let Some(database) = TestDatabase::migrated() else { return };
    let store = database.store();
    let mut scripts: Vec<Script> = (0..9).map(|n| Script::started(&store, &format!("w{n}"))).collect();
    let mut batch: Vec<AppendItem> = scripts.iter().map(|s| s.item(Some(1), [signal("x")])).collect();
    // No text of PostgreSQL's may hold NUL.
    batch[4].inbound_keys = vec!["m:\0".to_owned()];
    let results = store.append(&batch);
    for (n, result) in results.into_iter().enumerate() {
        match result {
            Err(AppendError::Backend(error)) => assert_eq!((n, error.kind), (4, StoreErrorKind::Fatal), "{error}"),
            result => assert_eq!((n != 4, result), (true, Ok(Appended { last_event_id: 2 }))),
        }
    }
    batch.remove(4);
    scripts.remove(4);
    scripts.iter().for_each(|s| check_run(&store, s.run));
}

#[test]
fn batches_of_any_size_are_appended() {
    let Some(database) = TestDatabase::migrated() else { return };
    let store = database.store();
    let scripts: Vec<Script> = (0..1_200).map(|n| Script::new(&store, &format!("w{n}"))).collect();
    let starts: Vec<AppendItem> = scripts.iter().map(|s| s.start(Some(1))).collect();
    assert!(store.append(&starts).iter().all(Result::is_ok));
    let again = store.append(&starts);
    assert!(again.iter().all(|r| matches!(r, Err(AppendError::Conflict { actual: 1, tail, .. }) if tail.len() == 1)));
}

#[test]
fn walks_keep_to_their_shards() {
    let Some(database) = TestDatabase::migrated() else { return };
    let store = database.store();
    let mut runs = Vec::new();
    for shard in [3, 200, 3, 7] {
        let key = store.allocate_run_key(Shard(shard)).unwrap();
        assert_eq!(key.shard(), Shard(shard));
        let mut script = Script::with_key(key, &format!("w{}", key.0));
        let start = script.start(Some(1));
        script.append(&store, &start).unwrap();
        let mut item = script.item(Some(1), [scheduled(1, "1"), timer_created(2, 50 + u64::from(shard))]);
        item.put_tasks = vec![script.task(1, 2)];
        item.put_timers = vec![script.timer(2, 50 + u64::from(shard))];
        script.append(&store, &item).unwrap();
        let message = script.item(None, [signal("x")]);
        script.append(&store, &message).unwrap();
        runs.push(key);
    }
    let set = |shards: &[u8]| shards.iter().map(|s| Shard(*s)).collect::<ShardSet>();
    for (shards, wanted) in
        [(&[3_u8][..], vec![0, 2]), (&[7, 200], vec![1, 3]), (&[8], vec![]), (&[3, 7, 8, 200], vec![0, 1, 2, 3])]
    {
        let shards = set(shards);
        let mut wanted: Vec<RunKey> = wanted.iter().map(|n: &usize| runs[*n]).collect();
        wanted.sort();
        assert_eq!(store.needs_wake(&shards, RunKey(0), 10).unwrap(), wanted);
        let tasks = store.open_tasks(&shards, None, 10).unwrap();
        assert_eq!(tasks.iter().map(|t| t.run).collect::<Vec<_>>(), wanted);
        let timers = store.due_timers(&shards, None, Timestamp(u64::MAX), 10).unwrap();
        assert!(timers.is_sorted());
        assert_eq!(timers.iter().map(|t| t.run).collect::<BTreeSet<_>>(), wanted.iter().copied().collect());
        let page: Vec<TimerRow> = store.due_timers(&shards, timers.first().copied(), Timestamp(u64::MAX), 1).unwrap();
        assert_eq!(page, timers.get(1).copied().into_iter().collect::<Vec<_>>());
    }
    store.count_crash(&set(&[200]), &[], Timestamp(u64::MAX)).unwrap();
    let attempts: Vec<u32> = runs.iter().map(|run| store.open_work(*run).unwrap().0[0].attempt).collect();
    assert_eq!(attempts, [1, 2, 1, 1]);
}

#[test]
fn hosts_never_share_a_run_key() {
    let Some(database) = TestDatabase::migrated() else { return };
    let (a, b) = (database.store(), database.store());
    let take =
        |store: &PostgresStore| (0..3_000).map(|_| store.allocate_run_key(Shard(9)).unwrap()).collect::<Vec<_>>();
    let keys: BTreeSet<RunKey> = std::thread::scope(|scope| {
        let threads = [scope.spawn(|| take(&a)), scope.spawn(|| take(&b))];
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(keys.len(), 6_000);
}

#[test]
fn calls_may_come_from_any_thread() {
    let Some(database) = TestDatabase::migrated() else { return };
    let store = std::sync::Arc::new(database.store());
    let script = Script::started(&*store, "a");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    runtime.block_on(async {
        assert!(store.execution(script.run).unwrap().is_some());
        let theirs = store.clone();
        tokio::spawn(async move { assert!(theirs.execution(script.run).unwrap().is_some()) }).await.unwrap();
        let theirs = store.clone();
        tokio::task::spawn_blocking(move || assert!(theirs.execution(script.run).unwrap().is_some())).await.unwrap();
        // And be the last one.
        tokio::spawn(async move { drop(store) }).await.unwrap();
    });
}

#[test]
fn large_events_are_kept_once_and_checked() {
    let Some(database) = TestDatabase::migrated() else { return };
    let store = database.store();
    let text = format!("\"{}\"", "z".repeat(100 << 10));
    let scripts = ["a", "b"].map(|id| {
        let mut script = Script::started(&store, id);
        let mut item = script.item(Some(1), [scheduled(1, &text)]);
        item.put_tasks = vec![script.task(1, 2)];
        script.append(&store, &item).unwrap();
        script
    });
    let count = |sql: &str| query_sql(&database.url, sql).remove(0);
    assert_eq!(count("SELECT count(*)::text FROM artifacts"), "1");
    assert_eq!(count("SELECT max(length(bytes))::text FROM events WHERE codec >= 64"), "32");
    run_sql(&database.url, "UPDATE artifacts SET bytes = '\\x00'");
    for script in &scripts {
        assert_eq!(store.read_from(script.run, 1, 1).unwrap().len(), 1, "what is small is as it was");
        assert_eq!(store.read_from(script.run, 1, 9).unwrap_err().kind, StoreErrorKind::Corrupt);
    }
    run_sql(&database.url, "DELETE FROM artifacts");
    assert_eq!(store.read_from(scripts[0].run, 1, 9).unwrap_err().kind, StoreErrorKind::Corrupt);
}

#[test]
fn images_of_ended_runs_are_not_left_behind() {
    let Some(database) = TestDatabase::migrated() else { return };
    let store = database.store();
    let mut script = Script::started(&store, "a");
    let image = |event_id| StoredImage { run: script.run, event_id, bytes: vec![1; 10].into() };
    for event_id in 1..=8 {
        store.save_images(&[image(event_id)]).unwrap();
    }
    let count = || query_sql(&database.url, "SELECT count(*)::text FROM images");
    assert_eq!(count(), ["5"]);
    let end = script.item(Some(1), [completed()]);
    script.append(&store, &end).unwrap();
    assert_eq!(count(), ["0"]);
}

/// Enough rows that a walk over a table would be noticed, and known to the planner.
const FILL: &str = "
INSERT INTO executions (key, epoch, last_event_id, last_timestamp, last_inbound_id, applied_through, command_count, \
    history_bytes, log_count, crashes, started_at, closed_at, status, last_hash, run_id, digest, namespace, workflow_id, \
    workflow, blocked, correlation_id) SELECT n << 8 | n % 256, 1, 3, 3, 2, 2, 1, 100, 0, 0, 1, NULL, CASE WHEN n % 3 = 0 THEN 0 ELSE 2 END, \
    '\\x00', gen_random_uuid(), '\\x00', 'default', 'w' || n, 'flow' || n % 50, NULL, 'c' || n \
    FROM generate_series(1::bigint, 20000) n;
INSERT INTO events SELECT ((n << 8 | n % 256) << 24) | e, e, 1, 20, 1, '\\x00', '\\x00' FROM generate_series(1::bigint, 20000) n, generate_series(1, 3) e;
INSERT INTO tasks (key, event_id, attempt, due_at, scheduled_at) SELECT ((n << 8 | n % 256) << 24) | 1, 1, 1, n, n FROM generate_series(1::bigint, 20000) n;
INSERT INTO timers (key, deadline) SELECT ((n << 8 | n % 256) << 24) | 2, n FROM generate_series(1::bigint, 20000) n;
INSERT INTO inbound_keys SELECT n << 8, 'm:' || n FROM generate_series(1::bigint, 20000) n;
INSERT INTO published SELECT n << 8, 1, 'k', '1' FROM generate_series(1::bigint, 20000) n;
INSERT INTO logs SELECT (n << 8) << 24, 1, 1, '\\x00', '[]' FROM generate_series(1::bigint, 20000) n;
INSERT INTO outbox SELECT (n << 8) << 24, 1 FROM generate_series(1::bigint, 20000) n;
INSERT INTO artifacts SELECT decode(md5(n::text), 'hex'), 'event', n, 1, '\\x00' FROM generate_series(1::bigint, 20000) n;
INSERT INTO images SELECT (n << 8) << 24, '\\x00' FROM generate_series(1::bigint, 20000) n;
ANALYZE";

/// Whether the plan reads nothing from one end to the other: no table, and no index without a condition, or with one that
/// its first column does not serve.
fn is_direct(plan: &str) -> bool {
    let lines: Vec<&str> = plan.lines().collect();
    let unconditional = |at: usize| {
        let scan = lines[at].contains("Index Scan") || lines[at].contains("Index Only Scan");
        scan && !lines.get(at + 1).is_some_and(|next| next.contains("Index Cond:"))
    };
    !plan.contains("Seq Scan") && !plan.contains("((status <= 1) AND (key =") && !(0..lines.len()).any(unconditional)
}

/// The indexes that a plan goes by, each with what it looks up there.
fn ways(plan: &str) -> BTreeSet<String> {
    let lines: Vec<&str> = plan.lines().collect();
    let way = |at: usize| {
        let index = lines[at].split_once(" using ").or_else(|| lines[at].split_once("Bitmap Index Scan on "));
        let (_, index) = index?;
        let by = lines.get(at + 1).filter(|next| next.contains("Index Cond:")).map_or("", |next| next.trim());
        Some(format!("{} {by}", index.split(' ').next()?))
    };
    (0..lines.len()).filter_map(way).collect()
}

#[test]
fn no_statement_walks_a_table() {
    let Some(database) = TestDatabase::migrated() else { return };
    let empty = plans::explain(&database.url).unwrap();
    run_sql(&database.url, FILL);
    let version = query_sql(&database.url, "SELECT split_part(current_setting('server_version'), '.', 1)").remove(0);
    let mut page = format!(
        "# How PostgreSQL goes about Relive's statements\n\n\
        Written by a test with `RELIVE_BLESS=1`, with PostgreSQL {version} and 20,000 executions. On any version and over\n\
        empty tables, too, no statement may walk a whole table or index: plans are made once a session, with\n\
        `plan_cache_mode = force_generic_plan`, and may not depend on how full a table was then.\n"
    );
    for (plan, before) in plans::explain(&database.url).unwrap().iter().zip(&empty) {
        assert!(is_direct(&plan.plan), "{}:\n{}\n{}", plan.name, plan.sql, plan.plan);
        assert!(is_direct(&before.plan), "{} while tables are empty:\n{}", plan.name, before.plan);
        assert_eq!(ways(&before.plan), ways(&plan.plan), "{}: another way while tables are empty", plan.name);
        let text = plan.plan.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
        write!(page, "\n## {}\n\n```\n{text}\n```\n", plan.name).unwrap();
    }
    // Other versions say the same in other words.
    let blessed = std::env::var_os("RELIVE_BLESS").is_some();
    if blessed || page_of("docs/operations/postgres-plans.md").contains(&format!("PostgreSQL {version} and")) {
        recorded("docs/operations/postgres-plans.md", &page);
    }
}

#[test]
fn many_are_taken_and_one_that_somebody_has_is_left() {
    let Some(database) = TestDatabase::migrated() else { return };
    let store = database.store();
    let scripts: Vec<Script> = (0..300).map(|n| Script::started(&store, &format!("w{n}"))).collect();
    let wanted = |epoch| scripts.iter().map(|s| Wanted { run: s.run, epoch, guest: Some(0) }).collect::<Vec<_>>();
    let before = store.round_trips();
    assert!(store.take_together(&wanted(2)).unwrap().iter().all(Option::is_some));
    let statements = store.round_trips() - before;
    assert!(statements <= 3, "{statements} round trips");
    let key = scripts[7].run.0;
    let held = format!("SELECT key::text FROM executions WHERE key = {key} FOR UPDATE");
    let hold = format!(
        "BEGIN; {held}; DO $$ BEGIN WHILE NOT EXISTS (SELECT FROM meta WHERE key = 'go') LOOP PERFORM pg_sleep(0.01); \
         END LOOP; END $$; COMMIT"
    );
    std::thread::scope(|scope| {
        let holder = scope.spawn(|| run_sql(&database.url, &hold));
        while !query_sql(&database.url, &format!("{held} SKIP LOCKED")).is_empty() {
            assert!(!holder.is_finished());
            std::thread::yield_now();
        }
        // One that has its epoch is only read, whoever has it; one that is to be stamped is left to be taken alone.
        assert!(store.take_together(&wanted(2)).unwrap().iter().all(Option::is_some));
        let prepared = store.take_together(&wanted(3)).unwrap();
        let missing: Vec<usize> = (0..prepared.len()).filter(|n| prepared[*n].is_none()).collect();
        run_sql(&database.url, "INSERT INTO meta (key, value) VALUES ('go', 1)");
        assert_eq!(missing, [7]);
    });
    assert!(store.take_together(&wanted(3)).unwrap().iter().all(Option::is_some));
}
