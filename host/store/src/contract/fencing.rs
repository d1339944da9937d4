//! Epochs, outside writers, unique inbound keys, and replies that were lost.

use relive_core::{
    codec::StoredEvent,
    ports::{AppendError, PREPARED_EVENTS, Status, StoredImage, Wanted},
};

use super::{Store, support::*};

pub fn stale_epoch_is_fenced(store: &dyn Store) {
    let mut script = Script::started(store, "a");
    assert_eq!(store.stamp_epoch(script.run, 5).unwrap().epoch, 5);
    let stale = script.item(Some(4), [scheduled(1, "1")]);
    assert_eq!(append_one(store, &stale), Err(AppendError::Fenced { epoch: 4, owner: 5 }));
    assert_untouched(store, &script);
    let item = script.item(Some(5), [scheduled(1, "1")]);
    script.append(store, &item).unwrap();
    // Fenced comes before the conflict: a zombie must let go, not rebase.
    assert_eq!(append_one(store, &stale), Err(AppendError::Fenced { epoch: 4, owner: 5 }));
}

pub fn later_epoch_takes_over(store: &dyn Store) {
    let mut script = Script::started(store, "a");
    let item = script.item(Some(3), [scheduled(1, "1")]);
    script.append(store, &item).unwrap();
    assert_eq!(store.execution(script.run).unwrap().unwrap().epoch, 3);
    let old = script.item(Some(1), [done(1)]);
    assert_eq!(append_one(store, &old), Err(AppendError::Fenced { epoch: 1, owner: 3 }));
}

pub fn stamping(store: &dyn Store) {
    let script = Script::started(store, "a");
    let row = store.stamp_epoch(script.run, 1).unwrap();
    assert_eq!((row.epoch, row.last_event_id, row.status), (1, 1, Status::Running));
    assert_eq!(store.stamp_epoch(script.run, 4).unwrap().epoch, 4);
    assert_eq!(store.stamp_epoch(script.run, 3), Err(AppendError::Fenced { epoch: 3, owner: 4 }));
    assert_eq!(store.execution(script.run).unwrap().unwrap().epoch, 4);
}

pub fn taking(store: &dyn Store) {
    let mut script = Script::started(store, "a");
    let mut item = script.item(Some(1), [scheduled(1, "1"), scheduled(2, "1"), timer_created(3, 50)]);
    item.put_tasks = vec![script.task(1, 2), script.task(2, 3)];
    item.put_timers = vec![script.timer(3, 50)];
    script.append(store, &item).unwrap();
    let taken = store.take(script.run, 4).unwrap().unwrap();
    assert_eq!((taken.row.key, taken.row.last_event_id, taken.row.command_count), (script.run, 4, 3));
    assert_eq!((taken.tasks, taken.timers), store.open_work(script.run).unwrap());
    // Once more, as after a hand-over that was called off.
    assert_eq!(store.take(script.run, 4).unwrap().unwrap().tasks, item.put_tasks);
    let end = script.item(Some(4), [completed()]);
    script.append(store, &end).unwrap();
    let taken = store.take(script.run, 4).unwrap().unwrap();
    assert_eq!((taken.row.status, taken.tasks, taken.timers), (Status::Completed, Vec::new(), Vec::new()));
    assert_eq!(store.take(Script::new(store, "b").run, 1), Ok(None));
}

/// What is told of many at once is what is told of each alone.
pub fn taking_together(store: &dyn Store) {
    if store.takes_together() == 1 {
        return;
    }
    let mut busy = Script::started(store, "busy");
    let mut item = busy.item(Some(1), [scheduled(1, "1"), scheduled(2, "1"), timer_created(3, 50)]);
    item.put_tasks = vec![busy.task(1, 2), busy.task(2, 3)];
    item.put_timers = vec![busy.timer(3, 50)];
    busy.append(store, &item).unwrap();
    let idle = Script::started(store, "idle");
    let mut closed = Script::started(store, "closed");
    let end = closed.item(Some(1), [completed()]);
    closed.append(store, &end).unwrap();
    let foreign = Script::started(store, "foreign");
    store.stamp_epoch(foreign.run, 9).unwrap();
    let unknown = Script::new(store, "unknown").run;
    let runs = [busy.run, unknown, idle.run, closed.run, foreign.run];
    let wanted = |guest| runs.map(|run| Wanted { run, epoch: 4, guest });
    for guest in [None, Some(0)] {
        let prepared = store.take_together(&wanted(guest)).unwrap();
        let [Some(first), None, Some(second), Some(third), None] = &prepared[..] else { panic!("{prepared:?}") };
        assert_eq!((first.taken.row.epoch, first.taken.tasks.len(), first.taken.timers.len()), (4, 2, 1));
        for (told, run) in [(first, busy.run), (second, idle.run), (third, closed.run)] {
            assert_eq!(told.taken, store.take(run, 4).unwrap().unwrap());
            assert_eq!(store.execution(run).unwrap().unwrap(), told.taken.row);
        }
        let open = guest.is_some();
        assert_eq!((first.kit.is_some(), second.kit.is_some(), third.kit.is_some()), (open, open, false));
    }
    // Stamped, all of them: the owner of before is fenced off.
    let stale = busy.item(Some(3), [done(1)]);
    assert_eq!(append_one(store, &stale), Err(AppendError::Fenced { epoch: 3, owner: 4 }));
    assert_eq!(store.execution(foreign.run).unwrap().unwrap().epoch, 9);
    // And those who take them append at once.
    let item = busy.item(Some(4), [done(1)]);
    busy.append(store, &item).unwrap();
    assert_eq!(store.take_together(&[]).unwrap(), []);
}

fn ids(events: &[StoredEvent]) -> Vec<u64> {
    events.iter().map(|e| e.event_id).collect()
}

pub fn what_wakes_a_guest_comes_along(store: &dyn Store) {
    if store.takes_together() == 1 {
        return;
    }
    let mut script = Script::started(store, "a");
    let mut long = Script::started(store, "long");
    for n in 0..6 {
        script.go_on(store, [signal(&format!("m{n}"))]);
    }
    for n in 0..2 * PREPARED_EVENTS {
        long.go_on(store, [signal(&format!("m{n}"))]);
    }
    let large = "x".repeat(100_000);
    let mut heavy = Script::started(store, "heavy");
    heavy.go_on(store, [scheduled(1, &format!("{large:?}"))]);
    heavy.go_on(store, [signal("m")]);
    let kit =
        |run, guest| store.take_together(&[Wanted { run, epoch: 1, guest }]).unwrap().remove(0).unwrap().kit.unwrap();
    let told = kit(script.run, Some(0));
    assert_eq!((told.covered, &told.image), (0, &None));
    assert_eq!(told.events, store.read_from(script.run, 1, 100).unwrap());
    assert_eq!(ids(&kit(script.run, Some(5)).events), [1, 6, 7], "the image is at hand");
    assert_eq!(kit(script.run, Some(5)).covered, 5);
    let few: Vec<u64> = (1..=PREPARED_EVENTS as u64).collect();
    assert_eq!(ids(&kit(long.run, Some(0)).events), few);
    assert_eq!(ids(&kit(heavy.run, Some(0)).events), [1, 3], "large ones are left out");
    let image = |event_id, bytes: &[u8]| StoredImage { run: script.run, event_id, bytes: bytes.into() };
    store.save_images(&[image(3, b"older")]).unwrap();
    store.save_images(&[image(6, b"newest")]).unwrap();
    let told = kit(script.run, Some(0));
    assert_eq!((told.covered, told.image, ids(&told.events)), (6, Some(image(6, b"newest")), vec![1, 7]));
    assert_eq!(kit(script.run, Some(7)).image, None, "there is a better one");
    store.save_images(&[image(7, &vec![7; 100_000])]).unwrap();
    let told = kit(script.run, Some(0));
    assert_eq!((told.covered, told.image, ids(&told.events)), (7, None, vec![1]), "a large image is left out");
}

pub fn outsiders_append_only_their_events(store: &dyn Store) {
    let mut script = Script::started(store, "a");
    for body in [scheduled(1, "1"), timer_created(1, 5), completed(), timer_fired(1)] {
        let item = script.item(None, [body]);
        assert!(matches!(append_one(store, &item), Err(AppendError::Malformed(_))), "{item:?}");
        assert_untouched(store, &script);
    }
    script.go_on(store, [scheduled(1, "1")]);
    for body in [signal("x"), cancel(), done(1), terminated()] {
        let item = script.item(None, [body]);
        script.append(store, &item).unwrap();
    }
}

pub fn outsiders_keep_the_owners_numbers(store: &dyn Store) {
    let mut script = Script::started(store, "a");
    script.go_on(store, [signal("x"), scheduled(1, "1"), scheduled(2, "2")]);
    assert_eq!(store.stamp_epoch(script.run, 7).unwrap().epoch, 7);
    let mut item = script.item(None, [signal("y")]);
    item.row.applied_through = 0;
    item.row.command_count = 0;
    script.append(store, &item).unwrap();
    let row = store.execution(script.run).unwrap().unwrap();
    assert_eq!((row.epoch, row.applied_through, row.command_count, row.last_inbound_id), (7, 2, 2, 5));
}

pub fn inbound_keys_are_unique(store: &dyn Store) {
    let (mut a, mut b) = (Script::started(store, "a"), Script::started(store, "b"));
    let keyed = |script: &Script, key: &str| {
        let mut item = script.item(None, [signal(key)]);
        item.inbound_keys = vec![key.to_owned()];
        item
    };
    let item = keyed(&a, "m:1");
    a.append(store, &item).unwrap();
    let again = keyed(&a, "m:1");
    assert_eq!(append_one(store, &again), Err(AppendError::Duplicate("m:1".to_owned())));
    assert_untouched(store, &a);
    // Keys belong to their run.
    let other = keyed(&b, "m:1");
    b.append(store, &other).unwrap();
    // Twice in one batch.
    let (first, second) = (keyed(&a, "m:2"), keyed(&a, "m:2"));
    let results = store.append(&[first.clone(), second]);
    assert_eq!(results[1], Err(AppendError::Duplicate("m:2".to_owned())));
    a.took(&first);
    // And after the end.
    let end = a.item(Some(1), [completed()]);
    a.append(store, &end).unwrap();
    a.row.status = Status::Running;
    assert_eq!(append_one(store, &keyed(&a, "m:2")), Err(AppendError::Duplicate("m:2".to_owned())));
}

pub fn lost_replies(store: &dyn Store) {
    let mut script = Script::started(store, "a");
    // The owner's item, tried again as it was: the tail is its own events.
    let mut item = script.item(Some(1), [scheduled(1, "1")]);
    item.put_tasks = vec![script.task(1, 2)];
    script.append(store, &item).unwrap();
    assert_eq!(
        append_one(store, &item),
        Err(AppendError::Conflict { expected: 1, actual: 2, tail: item.events.clone() })
    );
    // A message's, with another one in between: its key is known.
    let mut message = script.item(None, [signal("x")]);
    message.inbound_keys = vec!["m:x".to_owned()];
    script.append(store, &message).unwrap();
    let between = script.item(None, [signal("y")]);
    script.append(store, &between).unwrap();
    assert_eq!(append_one(store, &message), Err(AppendError::Duplicate("m:x".to_owned())));
    check_run(store, script.run);
}
