//! Connections that fail in every way: no append is lost, none is doubled, and everything goes on by itself.
//! Skipped where `RELIVE_TEST_PG` names no server.

#[path = "../../testkit/src/proxy.rs"]
mod proxy;

use std::{
    collections::BTreeMap,
    net::ToSocketAddrs as _,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use proxy::Proxy;
use relive_core::{
    codec::StoredEvent,
    history::decode_all,
    ports::{AppendError, AppendItem, Appended, BeatError, ClusterStore, HistoryStore, HostBeat, StoreErrorKind},
};
use relive_store::{
    PostgresOptions, PostgresStore,
    contract::{
        Store,
        database::{TestDatabase, query_sql},
        support::{Script, append_one, check_run, signal},
    },
};

/// A database behind a proxy.
fn proxied() -> Option<(TestDatabase, Proxy, PostgresStore)> {
    let database = TestDatabase::migrated()?;
    let (before, rest) = database.url.split_once('@').unwrap();
    let (server, path) = rest.split_once('/').unwrap();
    let proxy = Proxy::start(server.to_socket_addrs().unwrap().next().unwrap()).unwrap();
    // Without an attempt at TLS, a connection's first reply is the server's own.
    let sslmode = if path.contains('?') { "&sslmode=disable" } else { "?sslmode=disable" };
    let url = format!("{before}@{}/{path}{sslmode}", proxy.address);
    let options = PostgresOptions { limit: Duration::from_secs(2), ..PostgresOptions::new(url) };
    let store = PostgresStore::connect(&options).unwrap();
    Some((database, proxy, store))
}

fn is_transient<T>(result: &Result<T, AppendError>) -> bool {
    matches!(result, Err(AppendError::Backend(error)) if error.kind == StoreErrorKind::Transient)
}

/// Repeats an item as callers do; tells whether it found itself.
fn persist(store: &dyn Store, item: &AppendItem) -> bool {
    loop {
        match append_one(store, item) {
            Ok(Appended { .. }) => return false,
            Err(AppendError::Backend(error)) => assert_eq!(error.kind, StoreErrorKind::Transient, "{error}"),
            Err(AppendError::Conflict { tail, .. }) => {
                assert_eq!(tail, item.events, "somebody else's events");
                return true;
            }
            Err(AppendError::Duplicate(key)) => {
                assert!(item.inbound_keys.contains(&key));
                return true;
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn a_lost_reply_is_found_by_the_retry() {
    let Some((_database, proxy, store)) = proxied() else { return };
    let mut script = Script::started(&store, "a");
    // The statement is known to the connection, so that the next reply is to its execution.
    for n in 1..=2 {
        let item = script.item(Some(1), [signal(&format!("s{n}"))]);
        script.append(&store, &item).unwrap();
    }
    let item = script.item(Some(1), [signal("s3")]);
    proxy.lose_replies(1);
    let result = append_one(&store, &item);
    assert!(is_transient(&result), "{result:?}");
    assert_eq!(proxy.lost(), 1);
    let found = append_one(&store, &item);
    assert_eq!(found, Err(AppendError::Conflict { expected: 3, actual: 4, tail: item.events.clone() }));
    script.took(&item);
    // A message's reply is lost and others come in between: its key is known.
    let mut message = script.item(None, [signal("x")]);
    message.inbound_keys = vec!["m:x".to_owned()];
    append_one(&store, &message).unwrap();
    script.took(&message);
    assert_eq!(append_one(&store, &message), Err(AppendError::Duplicate("m:x".to_owned())));
    check_run(&store, script.run);
}

#[test]
fn a_killed_session_is_told_once_and_then_replaced() {
    let Some((database, _proxy, store)) = proxied() else { return };
    let mut script = Script::started(&store, "a");
    let kill = || {
        let others = "SELECT count(pg_terminate_backend(pid))::text FROM pg_stat_activity \
            WHERE datname = current_database() AND pid <> pg_backend_pid()";
        assert_ne!(query_sql(&database.url, others), ["0"]);
    };
    store.execution(script.run).unwrap();
    kill();
    // A read is tried again on a connection of its own.
    assert_eq!(store.execution(script.run).unwrap().unwrap().last_event_id, 1);
    let item = script.item(Some(1), [signal("s1")]);
    append_one(&store, &item).unwrap();
    script.took(&item);
    kill();
    let item = script.item(Some(1), [signal("s2")]);
    let first = append_one(&store, &item);
    assert!(is_transient(&first), "{first:?}");
    assert_eq!(append_one(&store, &item), Ok(Appended { last_event_id: 3 }));
    check_run(&store, script.run);
}

#[test]
fn a_silent_server_is_not_waited_for_for_ever() {
    let Some((_database, proxy, store)) = proxied() else { return };
    let mut script = Script::started(&store, "a");
    let item = script.item(Some(1), [signal("s1")]);
    let beat = HostBeat {
        id: "h".into(),
        incarnation: 1,
        address: "http://h".into(),
        version: "1".into(),
        draining: false,
        lease: Duration::from_secs(5),
    };
    store.beat(&beat).unwrap();
    proxy.stall();
    let result = append_one(&store, &item);
    assert!(is_transient(&result), "{result:?}");
    assert!(matches!(store.beat(&beat), Err(BeatError::Store(e)) if e.kind == StoreErrorKind::Transient));
    assert!(store.execution(script.run).is_err_and(|e| e.kind == StoreErrorKind::Transient));
    proxy.pass();
    // What was held back may have arrived by now, or not: either way it counts once.
    persist(&store, &item);
    script.took(&item);
    store.beat(&beat).unwrap();
    check_run(&store, script.run);
}

#[test]
fn nothing_is_lost_or_doubled_while_connections_are_cut() {
    const WRITERS: usize = 4;
    const EVENTS: usize = 60;
    let Some((_database, proxy, store)) = proxied() else { return };
    let scripts: Vec<Script> = (0..WRITERS).map(|n| Script::started(&store, &format!("w{n}"))).collect();
    let (found, working) = (AtomicUsize::new(0), AtomicUsize::new(WRITERS));
    let done: Mutex<BTreeMap<usize, Vec<StoredEvent>>> = Mutex::default();
    std::thread::scope(|scope| {
        for (n, script) in scripts.iter().enumerate() {
            let (mut script, store, found, working, done) = (script.clone(), &store, &found, &working, &done);
            scope.spawn(move || {
                let mut mine = Vec::new();
                for event in 0..EVENTS {
                    let mut item = script.item(Some(1), [signal(&format!("{event}"))]);
                    item.inbound_keys = vec![format!("m:{event}")];
                    found.fetch_add(usize::from(persist(store, &item)), Ordering::Relaxed);
                    mine.extend(item.events.iter().cloned());
                    script.took(&item);
                }
                done.lock().unwrap().insert(n, mine);
                working.fetch_sub(1, Ordering::AcqRel);
            });
        }
        // By turns: a reply that is lost, everything cut in the middle, a moment in which nobody gets in.
        for turn in 0.. {
            if working.load(Ordering::Acquire) == 0 {
                break;
            }
            let before = proxy.lost();
            match turn % 3 {
                0 => {
                    proxy.lose_replies(1);
                    while proxy.lost() == before && working.load(Ordering::Acquire) > 0 {
                        std::thread::yield_now();
                    }
                }
                1 => proxy.cut(),
                _ => {
                    proxy.refuse();
                    proxy.cut();
                    proxy.delay(Duration::from_millis(1));
                    proxy.pass();
                }
            }
            // So that something is done in between.
            let read = store.execution(scripts[0].run);
            assert!(read.is_ok_and(|row| row.is_some()) || proxy.lost() > 0);
        }
    });
    for (n, mine) in done.into_inner().unwrap() {
        let stored = store.read_from(scripts[n].run, 2, usize::MAX).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(stored, mine, "each event once, in order");
        assert_eq!(decode_all(&store.read_from(scripts[n].run, 1, usize::MAX).unwrap()).unwrap().len(), EVENTS + 1);
    }
    println!("{} replies lost, {} items found themselves", proxy.lost(), found.load(Ordering::Relaxed));
    assert!(proxy.lost() > 0);
}

/// Two hosts append batches over the same runs in another order: their transactions meet in every way.
#[test]
fn hosts_that_meet_on_the_same_rows_get_through() {
    const RUNS: usize = 12;
    const ROUNDS: usize = 25;
    let Some(database) = TestDatabase::migrated() else { return };
    let hosts = [database.store(), database.store(), database.store()];
    let scripts: Vec<Script> = (0..RUNS).map(|n| Script::started(&hosts[0], &format!("w{n}"))).collect();
    let stuck = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for (h, store) in hosts.iter().enumerate() {
            let (mut scripts, stuck) = (scripts.clone(), &stuck);
            scope.spawn(move || {
                if h % 2 == 1 {
                    scripts.reverse();
                }
                for round in 0..ROUNDS {
                    let mut open: Vec<usize> = (0..RUNS).collect();
                    while !open.is_empty() {
                        let keyed = |n: &usize| {
                            let mut item = scripts[*n].item(None, [signal(&format!("{h}-{round}"))]);
                            item.inbound_keys = vec![format!("m:{h}-{round}")];
                            item
                        };
                        let batch: Vec<AppendItem> = open.iter().map(keyed).collect();
                        let results = store.append(&batch);
                        let mut again = Vec::new();
                        for ((n, item), result) in open.iter().zip(&batch).zip(results) {
                            match result {
                                Ok(_) => scripts[*n].took(item),
                                Err(AppendError::Conflict { actual, tail, .. }) => {
                                    let last = tail.last().expect("a tail");
                                    let script = &mut scripts[*n];
                                    (script.last, script.hash, script.time) = (actual, last.hash, last.timestamp);
                                    script.row.last_inbound_id = actual;
                                    again.push(*n);
                                }
                                Err(other) => {
                                    eprintln!("{other}");
                                    stuck.store(true, Ordering::Release);
                                }
                            }
                        }
                        open = again;
                    }
                }
            });
        }
    });
    assert!(!stuck.load(Ordering::Acquire));
    for script in &scripts {
        check_run(&hosts[0], script.run);
        let row = hosts[1].execution(script.run).unwrap().unwrap();
        assert_eq!(row.last_event_id, 1 + (hosts.len() * ROUNDS) as u64);
    }
}
