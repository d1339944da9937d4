//! Appending: order, conflicts, wholeness, isolation, starts and successors.

use std::sync::atomic::{AtomicUsize, Ordering};

use relive_core::{
    ShardSet, Timestamp,
    canonical_hash::GENESIS,
    event::{EventBody, SignalReceived},
    ports::{AppendError, Appended, Status},
};

use super::{Store, support::*};

pub fn append_and_read_back(store: &dyn Store) {
    let mut script = Script::started(store, "a");
    let item = script.item(Some(1), [scheduled(1, "{\"n\":1}"), scheduled(2, "2")]);
    assert_eq!(append_one(store, &item), Ok(Appended { last_event_id: 3 }));
    script.took(&item);
    let all = store.read_from(script.run, 1, usize::MAX).unwrap();
    assert_eq!(all.iter().map(|e| e.event_id).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(all[1..], item.events);
    assert_eq!(store.read_from(script.run, 2, 1).unwrap(), item.events[..1]);
    assert_eq!(store.read_from(script.run, 4, 10).unwrap(), []);
    let row = store.execution(script.run).unwrap().unwrap();
    assert_eq!((row.key, &row.execution, &*row.workflow), (script.run, &script.execution, "order"));
    assert_eq!((row.status, row.epoch, row.command_count), (Status::Running, 1, 2));
    assert_eq!((row.crashes, row.closed_at, row.correlation_id.as_deref()), (0, None, Some("corr")));
}

pub fn start_again_finds_its_own_event(store: &dyn Store) {
    let script = Script::new(store, "a");
    let start = script.start(Some(1));
    append_one(store, &start).unwrap();
    assert_eq!(
        append_one(store, &start),
        Err(AppendError::Conflict { expected: 0, actual: 1, tail: start.events.clone() })
    );
}

pub fn conflict_has_the_tail(store: &dyn Store) {
    let mut script = Script::started(store, "a");
    let late = script.item(Some(1), [scheduled(1, "1")]);
    let first = script.item(None, [signal("x"), signal("y")]);
    script.append(store, &first).unwrap();
    assert_eq!(
        append_one(store, &late),
        Err(AppendError::Conflict { expected: 1, actual: 3, tail: first.events.clone() })
    );
    assert_untouched(store, &script);
    let ahead = Script { last: 9, ..script.clone() }.item(Some(1), [signal("z")]);
    assert_eq!(append_one(store, &ahead), Err(AppendError::Conflict { expected: 9, actual: 3, tail: Vec::new() }));
}

pub fn a_tail_is_whole(store: &dyn Store) {
    let mut script = Script::started(store, "a");
    let late = script.item(None, [signal("late")]);
    let one = script.item(None, [signal("1")]);
    script.took(&one);
    let two = script.item(None, [signal("2")]);
    script.took(&two);
    // The batch's own items are part of the tail, and later ones are not.
    let results = store.append(&[one.clone(), late, two.clone()]);
    assert_eq!(results[1], Err(AppendError::Conflict { expected: 1, actual: 2, tail: one.events }));
    assert!(results[0].is_ok() && results[2].is_ok());
}

pub fn unknown_run(store: &dyn Store) {
    let script = Script::new(store, "a");
    let item = Script { last: 1, ..script.clone() }.item(Some(1), [signal("x")]);
    assert_eq!(append_one(store, &item), Err(AppendError::NotFound));
    assert_eq!(store.stamp_epoch(script.run, 1), Err(AppendError::NotFound));
    assert_eq!(store.execution(script.run), Ok(None));
    assert_eq!(store.read_from(script.run, 1, 10), Ok(Vec::new()));
}

pub fn closed_run(store: &dyn Store) {
    let mut script = Script::started(store, "a");
    let end = script.item(Some(1), [completed()]);
    script.append(store, &end).unwrap();
    let row = store.execution(script.run).unwrap().unwrap();
    assert_eq!((row.status, row.closed_at), (Status::Completed, Some(script.time)));
    script.row.status = Status::Running;
    let late = script.item(None, [signal("x")]);
    assert_eq!(append_one(store, &late), Err(AppendError::Closed));
    assert_eq!(store.stamp_epoch(script.run, 2), Err(AppendError::Closed));
    // The end itself, tried again, finds itself.
    assert!(
        matches!(append_one(store, &end), Err(AppendError::Conflict { actual: 2, tail, .. }) if tail == end.events)
    );
    check_run(store, script.run);
}

fn assert_malformed(store: &dyn Store, script: &Script, item: &relive_core::ports::AppendItem) {
    let result = append_one(store, item);
    assert!(matches!(result, Err(AppendError::Malformed(_))), "{result:?}");
    assert_untouched(store, script);
}

pub fn gaps_are_malformed(store: &dyn Store) {
    let script = Script::started(store, "a");
    let mut gap = script.item(Some(1), [signal("x"), signal("y")]);
    gap.events.remove(0);
    assert_malformed(store, &script, &gap);
    let mut twice = script.item(Some(1), [signal("x"), signal("y")]);
    twice.events[1] = twice.events[0].clone();
    assert_malformed(store, &script, &twice);
    let mut unknown = script.item(Some(1), [signal("x")]);
    unknown.events[0].event_type = 9_999;
    assert_malformed(store, &script, &unknown);
    let mut far = Script { last: (1 << 24) - 1, ..script.clone() }.item(Some(1), [signal("x")]);
    far.row.last_inbound_id = 0;
    assert_malformed(store, &script, &far);
}

pub fn foreign_hashes_are_malformed(store: &dyn Store) {
    let script = Script::started(store, "a");
    let item = Script { hash: GENESIS, ..script.clone() }.item(Some(1), [signal("x")]);
    assert_malformed(store, &script, &item);
    let mut changed = script.item(Some(1), [signal("x")]);
    changed.events[0].bytes = b"other".as_slice().into();
    assert_malformed(store, &script, &changed);
}

pub fn times_never_run_back(store: &dyn Store) {
    let script = Script::started(store, "a");
    let item = Script { time: Timestamp(1), ..script.clone() }.item(Some(1), [signal("x")]);
    assert_malformed(store, &script, &item);
    let item = Script { time: Timestamp(u64::MAX - 10 * TICK), ..script.clone() }.item(Some(1), [signal("x")]);
    assert_malformed(store, &script, &item);
}

pub fn row_must_agree_with_events(store: &dyn Store) {
    let script = Script::started(store, "a");
    let mut open_end = script.item(Some(1), [completed()]);
    open_end.row.status = Status::Running;
    assert_malformed(store, &script, &open_end);
    let mut no_end = script.item(Some(1), [signal("x")]);
    no_end.row.status = Status::Completed;
    assert_malformed(store, &script, &no_end);
    assert_malformed(store, &script, &script.item(Some(1), [completed(), signal("x")]));
    let mut inbound = script.item(Some(1), [signal("x")]);
    inbound.row.last_inbound_id = 1;
    inbound.row.applied_through = 1;
    assert_malformed(store, &script, &inbound);
    let mut unseen = script.item(Some(1), [signal("x")]);
    unseen.row.applied_through = 9;
    assert_malformed(store, &script, &unseen);
    let mut foreign = script.item(Some(1), [scheduled(1, "1")]);
    foreign.put_tasks = vec![relive_core::ports::TaskRow { run: relive_core::RunKey(77), ..script.task(1, 2) }];
    assert_malformed(store, &script, &foreign);
}

pub fn item_is_whole_or_nothing(store: &dyn Store) {
    let script = Script::started(store, "a");
    let mut item = Script { last: 0, ..script.clone() }.item(Some(1), [scheduled(1, "1")]);
    item.expected = 5;
    item.events[0].event_id = 6;
    item.put_tasks = vec![script.task(1, 6)];
    item.put_timers = vec![script.timer(2, 5)];
    item.inbound_keys = vec!["k".to_owned()];
    item.published.insert("p".to_owned(), json("1"));
    assert!(matches!(append_one(store, &item), Err(AppendError::Conflict { .. })));
    assert_untouched(store, &script);
    assert_eq!(store.open_work(script.run), Ok((Vec::new(), Vec::new())));
    assert_eq!(store.published(script.run, None), Ok(Vec::new()));
    assert_eq!(store.due_timers(&ShardSet::ALL, None, Timestamp(10), 10), Ok(Vec::new()));
    let mut next = script.item(None, [signal("x")]);
    next.inbound_keys = vec!["k".to_owned()];
    assert!(append_one(store, &next).is_ok(), "the key of the refused item is free");
}

pub fn bad_items_leave_their_neighbours(store: &dyn Store) {
    let scripts: Vec<Script> = (0..6).map(|n| Script::started(store, &format!("w{n}"))).collect();
    let mut batch: Vec<_> = scripts.iter().map(|s| s.item(Some(1), [signal("x")])).collect();
    batch[1].events[0].event_id = 7;
    batch[2].run = relive_core::RunKey(1 << 30);
    batch[3].epoch = Some(0);
    batch[4] = Script { last: 0, ..scripts[4].clone() }.start(Some(1));
    let results = store.append(&batch);
    assert!(matches!(results[1], Err(AppendError::Malformed(_))));
    assert_eq!(results[2], Err(AppendError::NotFound));
    assert_eq!(results[3], Err(AppendError::Fenced { epoch: 0, owner: 1 }));
    assert!(matches!(results[4], Err(AppendError::Conflict { .. } | AppendError::Malformed(_))));
    for n in [0, 5] {
        assert_eq!(results[n], Ok(Appended { last_event_id: 2 }));
        check_run(store, scripts[n].run);
    }
    scripts[1..5].iter().for_each(|s| assert_untouched(store, s));
}

pub fn two_items_of_a_run_in_a_batch(store: &dyn Store) {
    let mut script = Script::new(store, "a");
    let start = script.start(Some(1));
    script.took(&start);
    let mut first = script.item(Some(1), [scheduled(1, "1")]);
    first.put_tasks = vec![script.task(1, 2)];
    script.took(&first);
    let mut second = script.item(Some(1), [done(1), timer_created(2, 50)]);
    second.remove_tasks = vec![1];
    second.put_timers = vec![script.timer(2, 50)];
    script.took(&second);
    let results = store.append(&[start, first, second]);
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    check_run(store, script.run);
    assert_eq!(store.open_work(script.run).unwrap().0, []);
}

pub fn empty_batch(store: &dyn Store) {
    assert_eq!(store.append(&[]), []);
}

pub fn payload_at_the_limit(store: &dyn Store) {
    let mut script = Script::started(store, "a");
    let text = format!("\"{}\"", "x".repeat((2 << 20) - 2));
    let mut item = script.item(Some(1), [scheduled(1, &text), scheduled(2, &text)]);
    item.published.insert("big".to_owned(), json(&text));
    item.put_tasks = vec![script.task(1, 2), script.task(2, 3)];
    script.append(store, &item).unwrap();
    check_run(store, script.run);
    assert_eq!(store.published(script.run, Some("big")).unwrap()[0].value, json(&text));
}

pub fn large_events_come_back_as_they_were(store: &dyn Store) {
    let sized = |id: usize, n: usize| {
        let payload = json(&format!("\"{}\"", "y".repeat(n)));
        EventBody::new(None, SignalReceived { channel: "in".into(), message_id: format!("m{n}-{id}").into(), payload })
    };
    let sizes = [10, (64 << 10) - 200, 64 << 10, 100 << 10, 1 << 20];
    for id in ["a", "b"] {
        // The same bytes again in another run.
        let mut script = Script::started(store, id);
        for size in sizes {
            let item = script.item(Some(1), [sized(1, size), sized(2, size / 100 + 1), sized(3, size)]);
            script.append(store, &item).unwrap();
            assert_eq!(store.read_from(script.run, item.expected + 1, 10).unwrap(), item.events, "{size}");
        }
        check_run(store, script.run);
    }
}

pub fn successor_in_the_same_item(store: &dyn Store) {
    let mut script = Script::started(store, "a");
    let mut next = Script::new(store, "a");
    let mut item = script.item(Some(1), [continued(next.execution.run_id)]);
    let mut start = next.start(Some(1));
    start.inbound_keys = vec!["m:carried".to_owned()];
    item.successor = Some(Box::new(start.clone()));
    script.append(store, &item).unwrap();
    next.took(&start);
    assert_eq!(store.execution(script.run).unwrap().unwrap().status, Status::ContinuedAsNew);
    let open = store.find(&script.execution.namespace, &script.execution.workflow_id, None).unwrap().unwrap();
    assert_eq!((open.key, open.status, open.epoch), (next.run, Status::Running, 1));
    let mut again = next.item(None, [signal("carried")]);
    again.inbound_keys = vec!["m:carried".to_owned()];
    assert_eq!(append_one(store, &again), Err(AppendError::Duplicate("m:carried".to_owned())));
    check_run(store, script.run);
    check_run(store, next.run);
}

pub fn a_run_goes_on_on_another_component(store: &dyn Store) {
    let mut script = Script::started(store, "a");
    let other = relive_core::Digest::of(b"other");
    let mut item = script.item(Some(1), [signal("m")]);
    item.row.digest = Some(other);
    script.append(store, &item).unwrap();
    assert_eq!(store.execution(script.run).unwrap().unwrap().digest, other);
    // And stays there.
    script.go_on(store, [signal("n")]);
    assert_eq!(store.execution(script.run).unwrap().unwrap().digest, other);
    let mut outside = script.item(None, [signal("o")]);
    outside.row.digest = Some(relive_core::Digest::of(b"foreign"));
    assert_malformed(store, &script, &outside);
}

pub fn bad_successor_refuses_the_whole(store: &dyn Store) {
    let script = Script::started(store, "a");
    let other = Script::new(store, "b");
    let mut item = script.item(Some(1), [continued(other.execution.run_id)]);
    item.successor = Some(Box::new(other.start(Some(1))));
    assert_malformed(store, &script, &item);
    let mut next = Script::new(store, "a").start(Some(1));
    next.events[0].hash = [1; 32];
    item.successor = Some(Box::new(next.clone()));
    assert_malformed(store, &script, &item);
    assert_eq!(store.execution(next.run), Ok(None));
    let mut early = script.item(Some(1), [signal("x")]);
    early.successor = Some(Box::new(Script::new(store, "a").start(Some(1))));
    assert_malformed(store, &script, &early);
}

pub fn already_started(store: &dyn Store) {
    let first = Script::started(store, "a");
    let second = Script::new(store, "a");
    let taken = Err(AppendError::AlreadyStarted(first.execution.run_id));
    assert_eq!(append_one(store, &second.start(Some(1))), taken);
    assert_eq!(store.execution(second.run), Ok(None));
    // Within a batch, too.
    let (b, c) = (Script::new(store, "b"), Script::new(store, "b"));
    let results = store.append(&[b.start(None), c.start(None)]);
    assert_eq!(results[1], Err(AppendError::AlreadyStarted(b.execution.run_id)));
}

pub fn id_is_free_after_the_end(store: &dyn Store) {
    let mut first = Script::started(store, "a");
    let end = first.item(None, [terminated()]);
    let second = Script::new(store, "a");
    let results = store.append(&[end.clone(), second.start(Some(1))]);
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    first.took(&end);
    assert_eq!(store.execution(first.run).unwrap().unwrap().status, Status::Terminated);
    check_run(store, first.run);
}

pub fn many_events(store: &dyn Store) {
    let mut script = Script::started(store, "a");
    for round in 0..3_u64 {
        let item = script.item(Some(1), (0..107).map(|n| signal(&format!("{round}-{n}"))));
        script.append(store, &item).unwrap();
    }
    check_run(store, script.run);
    assert_eq!(store.read_from(script.run, 100, 50).unwrap().first().unwrap().event_id, 100);
}

pub fn concurrent_writers(store: &dyn Store) {
    let script = Script::started(store, "a");
    let conflicts = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let (mut script, conflicts) = (script.clone(), &conflicts);
            scope.spawn(move || {
                for n in 0..25 {
                    let mut done = false;
                    while !done {
                        let mut item = script.item(None, [signal(&format!("{writer}-{n}"))]);
                        item.inbound_keys = vec![format!("m:{writer}-{n}")];
                        match script.append(store, &item) {
                            Ok(_) => done = true,
                            Err(AppendError::Conflict { actual, tail, .. }) => {
                                conflicts.fetch_add(1, Ordering::Relaxed);
                                let last = tail.last().expect("a tail");
                                (script.last, script.hash, script.time) = (actual, last.hash, last.timestamp);
                                script.row.last_inbound_id = actual;
                            }
                            Err(other) => panic!("{other}"),
                        }
                    }
                }
            });
        }
    });
    assert_eq!(store.execution(script.run).unwrap().unwrap().last_event_id, 101);
    assert!(conflicts.load(Ordering::Relaxed) > 0, "the writers never met");
    check_run(store, script.run);
}

pub fn concurrent_starts(store: &dyn Store) {
    let started = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let script = Script::new(store, "one");
                match append_one(store, &script.start(Some(1))) {
                    Ok(_) => _ = started.fetch_add(1, Ordering::Relaxed),
                    Err(error) => assert!(matches!(error, AppendError::AlreadyStarted(_)), "{error}"),
                }
            });
        }
    });
    assert_eq!(started.load(Ordering::Relaxed), 1);
}
