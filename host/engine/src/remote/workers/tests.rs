//! The registry, alone and as one of several that follow the store.

use super::*;

const BEAT: u64 = BEAT_EVERY_NANOS;

fn told(replaces: Option<&str>) -> Registration {
    Registration { identity: "me".into(), replaces: replaces.map(str::to_owned), ..Registration::default() }
}

fn register(workers: &Workers, namespace: &Namespace, told: Registration, now: Timestamp) -> (Arc<str>, Vec<Lost>) {
    let id: Arc<str> = crate::ids::random().into();
    let never_got = workers.register(&id, namespace, told, now).expect("there is room");
    (id, never_got)
}

fn attempt(run: u64) -> Lost {
    Lost { run: RunKey(run), command_no: 1, secret: 9 }
}

#[test]
fn three_missed_beats_lose_a_worker_and_give_its_attempts_back() {
    let (workers, namespace) = (Workers::default(), Namespace::default());
    let id = register(&workers, &namespace, told(None), Timestamp(0)).0;
    assert_eq!(workers.views(&namespace)[0].state, WorkerState::Creating);
    workers.seen(&namespace, &id, true, Timestamp(BEAT)).expect("known");
    assert_eq!(workers.views(&namespace)[0].state, WorkerState::Ready);
    workers.claimed(&namespace, &id, attempt(1), Timestamp(BEAT));
    workers.claimed(&namespace, &id, attempt(2), Timestamp(BEAT));
    workers.released(&id, attempt(1));
    assert_eq!(workers.views(&namespace)[0].state, WorkerState::Busy);
    assert!(workers.reap(Timestamp(4 * BEAT)).is_empty());
    assert_eq!(workers.reap(Timestamp(4 * BEAT + 1)), [(id.to_string(), vec![attempt(2)])]);
    assert!(workers.seen(&namespace, &id, true, Timestamp(5 * BEAT)).is_none(), "it has to register");
    assert_eq!(workers.views(&namespace)[0].ended, Some("lost"));
    assert!(workers.reap(Timestamp(5 * BEAT)).is_empty());
    workers.reap(Timestamp(SHOW_ENDED_NANOS + 9 * BEAT));
    assert!(workers.views(&namespace).is_empty());
}

#[test]
fn claims_of_before_a_restart_go_along_with_the_worker_or_back() {
    let (workers, namespace) = (Workers::default(), Namespace::default());
    let (kept, silent): (Arc<str>, Arc<str>) = ("kept".into(), "silent".into());
    workers.claimed(&namespace, &kept, attempt(1), Timestamp(0));
    workers.claimed(&namespace, &silent, attempt(2), Timestamp(0));
    let id = register(&workers, &namespace, told(Some("kept")), Timestamp(BEAT)).0;
    assert_eq!(workers.reap(Timestamp(3 * BEAT + 1)), [("silent".to_owned(), vec![attempt(2)])]);
    // A claim that names its former id is its own; one of a worker that is lost is nobody's.
    assert!(workers.claimed(&namespace, &kept, attempt(3), Timestamp(4 * BEAT)));
    assert!(!workers.claimed(&namespace, &silent, attempt(4), Timestamp(4 * BEAT)));
    workers.released(&kept, attempt(3));
    // It answers for what it claimed under its former id.
    workers.released(&kept, attempt(1));
    assert_eq!(workers.end(&namespace, &id, Timestamp(4 * BEAT)), Some(Vec::new()));
    assert_eq!(workers.end(&namespace, &id, Timestamp(4 * BEAT)), None);
}

#[test]
fn a_worker_is_of_one_namespace() {
    let workers = Workers::default();
    let other = Namespace::new("other").expect("a name");
    let id = register(&workers, &Namespace::default(), told(None), Timestamp(0)).0;
    assert!(workers.seen(&other, &id, true, Timestamp(0)).is_none());
    assert!(workers.end(&other, &id, Timestamp(0)).is_none());
    assert!(workers.views(&other).is_empty());
}

#[test]
fn what_a_worker_never_got_goes_back_when_it_registers_again() {
    let (workers, namespace) = (Workers::default(), Namespace::default());
    let id = register(&workers, &namespace, told(None), Timestamp(0)).0;
    let ghost = Lost { secret: 8, ..attempt(2) };
    workers.claimed(&namespace, &id, attempt(1), Timestamp(0));
    workers.claimed(&namespace, &id, ghost, Timestamp(0));
    let again = Registration { holds: Some([9].into()), ..told(Some(&id)) };
    let (again, never_got) = register(&workers, &namespace, again, Timestamp(1));
    assert_eq!(never_got, [ghost]);
    assert_eq!(workers.end(&namespace, &again, Timestamp(2)), Some(vec![attempt(1)]));
}

fn row(id: &str, ended: Option<WorkerEnd>) -> WorkerRow {
    WorkerRow {
        id: id.into(),
        namespace: Namespace::default(),
        identity: "elsewhere".into(),
        task_queues: vec!["mail".into()],
        activities: Vec::new(),
        sdk: None,
        registered_at: Timestamp(0),
        last_seen: Timestamp(0),
        ended,
    }
}

/// A host that owns attempts of `w`, which other hosts know.
fn owning(attempts: u64) -> (Workers, Vec<Arc<str>>) {
    let workers = Workers::default();
    (1..=attempts)
        .for_each(|run| assert!(workers.claimed(&Namespace::default(), &"w".into(), attempt(run), Timestamp(0))));
    (workers, vec!["w".into()])
}

#[test]
fn a_worker_of_other_hosts_is_known_by_the_store() {
    let (workers, ids) = owning(1);
    let namespace = Namespace::default();
    assert!(workers.seen(&namespace, "w", true, Timestamp(1)).is_none(), "only a claim names it");
    assert_eq!(workers.settle(&ids, &[row("w", None)], Timestamp(2)), []);
    assert_eq!(&*workers.seen(&namespace, "w", true, Timestamp(3)).expect("known").identity, "elsewhere");
    assert_eq!(workers.known(), (ids.clone(), ids.clone()));
    assert_eq!(workers.known(), (ids.clone(), Vec::new()), "the store is told once");
    workers.tell_again(&ids);
    assert_eq!(workers.known().1, ids);
    // However long it is silent here: the store has heard of it.
    assert_eq!(workers.settle(&ids, &[row("w", None)], Timestamp(100 * BEAT)), []);
    assert_eq!(workers.settle(&ids, &[row("w", Some(WorkerEnd::Lost))], Timestamp(101 * BEAT)), [attempt(1)]);
    assert!(workers.seen(&namespace, "w", true, Timestamp(102 * BEAT)).is_none());
    assert_eq!(workers.settle(&ids, &[row("w", Some(WorkerEnd::Lost))], Timestamp(103 * BEAT)), []);
}

#[test]
fn whom_the_store_does_not_know_is_lost_after_three_beats() {
    let (workers, ids) = owning(2);
    assert_eq!(workers.settle(&ids, &[], Timestamp(3 * BEAT)), []);
    assert_eq!(workers.settle(&ids, &[], Timestamp(3 * BEAT + 1)), [attempt(1), attempt(2)]);
}

#[test]
fn attempts_go_along_with_a_worker_that_registered_elsewhere() {
    let (workers, ids) = owning(2);
    workers.claimed(&Namespace::default(), &ids[0], Lost { secret: 8, ..attempt(3) }, Timestamp(0));
    let replaced = WorkerEnd::Replaced { by: "v".into(), holds: Some(vec![9]) };
    assert_eq!(
        workers.settle(&ids, &[row("w", Some(replaced))], Timestamp(1)),
        [Lost { secret: 8, ..attempt(3) }],
        "it never got that"
    );
    let ids = ["v".into()];
    assert_eq!(workers.known().0, ids);
    workers.released("w", attempt(1));
    assert_eq!(workers.settle(&ids, &[row("v", Some(WorkerEnd::Stopped))], Timestamp(2)), [attempt(2)]);
}

#[test]
fn idle_workers_of_other_hosts_are_forgotten() {
    let workers = Workers::default();
    workers.adopt(&row("w", None), Timestamp(0));
    assert_eq!(workers.known().0.len(), 1);
    workers.settle(&[], &[], Timestamp(FORGET_IDLE_NANOS));
    assert_eq!(workers.known().0.len(), 0);
}
