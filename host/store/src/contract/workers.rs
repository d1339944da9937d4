//! Workers that hosts share. Time is not waited for: silence of no length is silence.

use std::{sync::Arc, time::Duration};

use relive_core::{
    Namespace, Timestamp,
    ports::{Claim, Replaces, TaskRow, WorkerEnd, WorkerRow},
};

use super::{
    SharedStore,
    support::{Script, scheduled},
};

const LONG: Duration = Duration::from_secs(3_600);
const MANY: usize = 1_000;

fn worker(id: &str) -> WorkerRow {
    WorkerRow {
        id: id.into(),
        namespace: Namespace::default(),
        identity: format!("machine:{id}").into(),
        task_queues: vec!["mail".to_owned(), "a \"queue\", with {signs}".to_owned()],
        activities: vec!["send".to_owned()],
        sdk: Some("python/1".to_owned()),
        registered_at: Timestamp(0),
        last_seen: Timestamp(0),
        ended: None,
    }
}

fn read(store: &dyn SharedStore, id: &str) -> Option<WorkerRow> {
    store.workers_by_id(&[id.into()]).unwrap().pop()
}

fn ended(store: &dyn SharedStore, id: &str) -> Option<WorkerEnd> {
    read(store, id).expect("it is there").ended
}

pub fn workers_come_and_go(store: &dyn SharedStore) {
    assert!(read(store, "a").is_none());
    assert!(store.put_worker(&worker("a"), None, MANY).unwrap());
    let a = read(store, "a").unwrap();
    assert_eq!(WorkerRow { registered_at: Timestamp(0), last_seen: Timestamp(0), ..a.clone() }, worker("a"));
    assert!(a.registered_at > Timestamp(0) && a.last_seen >= a.registered_at);
    let plain = WorkerRow { task_queues: Vec::new(), activities: Vec::new(), sdk: None, ..worker("b") };
    assert!(store.put_worker(&plain, None, MANY).unwrap());
    assert_eq!(read(store, "b").unwrap().sdk, None);
    assert!(store.put_worker(&worker("a"), None, MANY).unwrap(), "the same again is the same");
    let ids: [Arc<str>; 3] = ["a".into(), "b".into(), "nobody".into()];
    store.workers_seen(&ids).unwrap();
    assert!(read(store, "a").unwrap().last_seen > a.last_seen);
    assert_eq!(store.workers_by_id(&ids).unwrap().len(), 2);
    assert!(!store.end_worker(&Namespace::new("other").unwrap(), "a").unwrap());
    assert!(store.end_worker(&Namespace::default(), "a").unwrap());
    assert_eq!(ended(store, "a"), Some(WorkerEnd::Stopped));
    assert!(!store.end_worker(&Namespace::default(), "a").unwrap());
    assert!(!store.end_worker(&Namespace::default(), "nobody").unwrap());
    let seen = read(store, "a").unwrap().last_seen;
    store.workers_seen(&ids).unwrap();
    assert_eq!(read(store, "a").unwrap().last_seen, seen, "who ended is not seen any more");
}

pub fn workers_are_replaced(store: &dyn SharedStore) {
    let other = Namespace::new("other").unwrap();
    store.put_worker(&worker("old"), None, MANY).unwrap();
    store.put_worker(&WorkerRow { namespace: other, ..worker("foreign") }, None, MANY).unwrap();
    let holds = [7, u64::MAX];
    store.put_worker(&worker("new"), Some(Replaces { id: "old", holds: Some(&holds) }), MANY).unwrap();
    let replaced = WorkerEnd::Replaced { by: "new".into(), holds: Some(holds.to_vec()) };
    assert_eq!(ended(store, "old"), Some(replaced.clone()));
    store.put_worker(&worker("newer"), Some(Replaces { id: "new", holds: None }), MANY).unwrap();
    assert_eq!(ended(store, "new"), Some(WorkerEnd::Replaced { by: "newer".into(), holds: None }));
    // What has ended stays as it ended, and nobody replaces a worker of another namespace or one that never was.
    store.put_worker(&worker("late"), Some(Replaces { id: "old", holds: None }), MANY).unwrap();
    assert_eq!(ended(store, "old"), Some(replaced));
    store.put_worker(&worker("thief"), Some(Replaces { id: "foreign", holds: None }), MANY).unwrap();
    assert_eq!(ended(store, "foreign"), None);
    assert!(store.put_worker(&worker("first"), Some(Replaces { id: "nobody", holds: Some(&[]) }), MANY).unwrap());
}

pub fn silent_workers_are_lost(store: &dyn SharedStore) {
    for id in ["a", "b"] {
        store.put_worker(&worker(id), None, MANY).unwrap();
    }
    assert_eq!(store.reap_workers(LONG, LONG).unwrap(), 0);
    store.end_worker(&Namespace::default(), "b").unwrap();
    assert_eq!(store.reap_workers(Duration::ZERO, LONG).unwrap(), 1);
    assert_eq!((ended(store, "a"), ended(store, "b")), (Some(WorkerEnd::Lost), Some(WorkerEnd::Stopped)));
    assert_eq!(store.reap_workers(LONG, Duration::ZERO).unwrap(), 0);
    assert!(store.workers(&Namespace::default()).unwrap().is_empty(), "they are forgotten");
}

pub fn there_are_only_so_many_workers(store: &dyn SharedStore) {
    assert!(store.put_worker(&worker("a"), None, 2).unwrap());
    assert!(store.put_worker(&worker("b"), None, 2).unwrap());
    assert!(!store.put_worker(&worker("c"), Some(Replaces { id: "a", holds: None }), 2).unwrap());
    assert_eq!((read(store, "c"), ended(store, "a")), (None, None), "nothing came of it");
    let elsewhere = WorkerRow { namespace: Namespace::new("other").unwrap(), ..worker("c") };
    assert!(store.put_worker(&elsewhere, None, 2).unwrap());
    store.end_worker(&Namespace::default(), "a").unwrap();
    assert!(store.put_worker(&worker("d"), None, 2).unwrap());
}

pub fn workers_are_listed_with_what_they_have(store: &dyn SharedStore) {
    for id in ["b", "a"] {
        store.put_worker(&worker(id), None, MANY).unwrap();
    }
    let mut run = Script::started(store, "w");
    let mut item = run.item(Some(1), [scheduled(1, "1"), scheduled(2, "1")]);
    let claim = |secret| Some(Claim { secret, worker: Some("a".into()), at: Timestamp(1) });
    let claimed = |no| TaskRow { queue: Some("mail".into()), claim: claim(no), ..run.task(no, no + 1) };
    item.put_tasks = vec![claimed(1), claimed(2)];
    run.append(store, &item).unwrap();
    let listed = store.workers(&Namespace::default()).unwrap();
    let listed: Vec<_> = listed.iter().map(|(row, running)| (&*row.id, *running)).collect();
    assert_eq!(listed, [("a", 2), ("b", 0)]);
    assert!(store.workers(&Namespace::new("other").unwrap()).unwrap().is_empty());
}
