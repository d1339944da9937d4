//! What recovery, timers, queries and lists stand on.

use std::sync::Arc;

use relive_core::{
    Json, RunKey, Shard, ShardSet, Timestamp,
    cursor::{LogLevel, LogLine},
    event::{
        BlockReason, CommandIssued, EventBody, ExecutionBlocked, ExecutionUnblocked, TaskExhausted, TaskFailed,
        TimeoutType,
    },
    failure::{Failure, FailureKind},
    options::ActivityOptions,
    ports::{Census, Claim, Exhausted, ListFilter, Status, TaskRow, TimerRow},
};

use super::{Store, support::*};

pub fn wake_index(store: &dyn Store) {
    let mut scripts: Vec<Script> = (0..4).map(|n| Script::started(store, &format!("w{n}"))).collect();
    let wake = |after| store.needs_wake(&ShardSet::ALL, RunKey(after), 10).unwrap();
    assert_eq!(wake(0), []);
    for n in [0, 2, 3] {
        let item = scripts[n].item(None, [signal("x")]);
        scripts[n].append(store, &item).unwrap();
    }
    assert_eq!(wake(0), [scripts[0].run, scripts[2].run, scripts[3].run]);
    assert_eq!(wake(scripts[0].run.0), [scripts[2].run, scripts[3].run]);
    assert_eq!(store.needs_wake(&ShardSet::ALL, RunKey(0), 1).unwrap(), [scripts[0].run]);
    // Applied without any event of its own.
    let applied = scripts[2].item(Some(1), []);
    scripts[2].append(store, &applied).unwrap();
    // Blocked and closed ones are not woken.
    let block = EventBody::new(None, ExecutionBlocked { reason: BlockReason::Trap, report: String::new() });
    let mut blocked = scripts[3].item(None, [block]);
    (blocked.row.status, blocked.row.blocked) = (Status::Blocked, Some(BlockReason::Trap));
    scripts[3].append(store, &blocked).unwrap();
    assert_eq!(wake(0), [scripts[0].run]);
    let end = scripts[0].item(None, [terminated()]);
    scripts[0].append(store, &end).unwrap();
    assert_eq!(wake(0), []);
}

pub fn timers_in_order(store: &dyn Store) {
    let mut scripts: Vec<Script> = (0..3).map(|n| Script::started(store, &format!("w{n}"))).collect();
    let mut wanted: Vec<TimerRow> = Vec::new();
    for (n, script) in scripts.iter_mut().enumerate() {
        let deadlines = [(1, 500), (2, 100 + n as u64), (3, 500)];
        let mut item = script.item(Some(1), deadlines.map(|(no, at)| timer_created(no, at)));
        item.put_timers = deadlines.map(|(no, at)| script.timer(no, at)).to_vec();
        wanted.extend(&item.put_timers);
        script.append(store, &item).unwrap();
    }
    wanted.sort();
    let due = |after, until, limit| store.due_timers(&ShardSet::ALL, after, Timestamp(until), limit).unwrap();
    assert_eq!(due(None, u64::MAX, 100), wanted);
    assert_eq!(due(None, 101, 100), wanted[..2]);
    assert_eq!(due(None, 99, 100), []);
    let mut paged = Vec::new();
    while let Some(next) = due(paged.last().copied(), 500, 2).first() {
        paged.push(*next);
    }
    assert_eq!(paged, wanted);
}

pub fn timer_fires_with_its_event(store: &dyn Store) {
    let mut script = Script::started(store, "a");
    let mut item = script.item(Some(1), [timer_created(1, 5)]);
    item.put_timers = vec![script.timer(1, 5)];
    script.append(store, &item).unwrap();
    check_run(store, script.run);
    let mut fired = script.item(Some(1), [timer_fired(1)]);
    fired.remove_timers = vec![1];
    script.append(store, &fired).unwrap();
    assert_eq!(store.due_timers(&ShardSet::ALL, None, Timestamp(u64::MAX), 10), Ok(Vec::new()));
    check_run(store, script.run);
}

pub fn tasks_come_and_go(store: &dyn Store) {
    let (mut a, mut b) = (Script::started(store, "a"), Script::started(store, "b"));
    for script in [&mut a, &mut b] {
        let mut item = script.item(Some(1), (1..=40).map(|no| scheduled(no, "1")));
        item.put_tasks = (1..=40).map(|no| script.task(no, no + 1)).collect();
        script.append(store, &item).unwrap();
    }
    let all = store.open_tasks(&ShardSet::ALL, None, usize::MAX).unwrap();
    assert_eq!(all.len(), 80);
    assert!(all.is_sorted_by_key(|t| (t.run, t.command_no)));
    let page = store.open_tasks(&ShardSet::ALL, Some((a.run, 39)), 2).unwrap();
    assert_eq!(page.iter().map(|t| (t.run, t.command_no)).collect::<Vec<_>>(), [(a.run, 40), (b.run, 1)]);
    // Another attempt, then the end of it.
    let mut retry = a.item(Some(1), []);
    retry.put_tasks = vec![TaskRow { attempt: 2, due_at: Timestamp(99), ..a.task(7, 8) }];
    a.append(store, &retry).unwrap();
    let held = store.open_work(a.run).unwrap().0.into_iter().find(|t| t.command_no == 7).unwrap();
    assert_eq!((held.attempt, held.due_at, held.event_id), (2, Timestamp(99), 8));
    let mut item = a.item(Some(1), (1..=40).map(done));
    item.remove_tasks = (1..=40).collect();
    a.append(store, &item).unwrap();
    check_run(store, a.run);
    check_run(store, b.run);
}

pub fn removals_win(store: &dyn Store) {
    let mut script = Script::started(store, "a");
    let given_up = EventBody::new(Some(2), relive_core::event::TimerCanceled { target: 1 });
    let mut item = script.item(Some(1), [timer_created(1, 5), given_up]);
    item.put_timers = vec![script.timer(1, 5)];
    item.remove_timers = vec![1];
    script.append(store, &item).unwrap();
    check_run(store, script.run);
}

pub fn the_end_clears_work(store: &dyn Store) {
    let mut script = Script::started(store, "a");
    let mut item = script.item(Some(1), [scheduled(1, "1"), timer_created(2, 5)]);
    item.put_tasks = vec![script.task(1, 2)];
    item.put_timers = vec![script.timer(2, 5)];
    script.append(store, &item).unwrap();
    let mut end = script.item(Some(1), [scheduled(3, "1"), completed()]);
    end.put_tasks = vec![script.task(3, 4)];
    script.append(store, &end).unwrap();
    assert_eq!(store.open_work(script.run), Ok((Vec::new(), Vec::new())));
    assert_eq!(store.due_timers(&ShardSet::ALL, None, Timestamp(u64::MAX), 10), Ok(Vec::new()));
    check_run(store, script.run);
}

pub fn claims_are_kept(store: &dyn Store) {
    let mut a = Script::started(store, "a");
    let mut item = a.item(Some(1), [scheduled(1, "1"), scheduled(2, "1")]);
    let queued = TaskRow { queue: Some("mail".into()), ..a.task(1, 2) };
    item.put_tasks = vec![queued.clone(), a.task(2, 3)];
    a.append(store, &item).unwrap();
    // A crash is of no concern to what workers take: they may be at it still.
    store.count_crash(&ShardSet::ALL, &[], Timestamp(u64::MAX / 4)).unwrap();
    let run = a.run;
    let held = |store: &dyn Store| store.open_work(run).unwrap().0;
    assert_eq!(held(store).iter().map(|t| t.attempt).collect::<Vec<_>>(), [1, 2]);
    let claim = Claim { secret: u64::MAX, worker: Some("w-1".into()), at: Timestamp(77) };
    let claimed = TaskRow {
        claim: Some(claim.clone()),
        details: Some(Json::parse(r#"{"done": 7.50}"#).unwrap()),
        cancel_requested: true,
        options: Some(Arc::new(ActivityOptions { start_to_close: Some(9), ..ActivityOptions::default() })),
        ..queued
    };
    let orphaned =
        TaskRow { attempt: 2, paused: true, claim: Some(Claim { worker: None, ..claim }), ..claimed.clone() };
    let accepted = TaskRow { queue: None, ..orphaned.clone() };
    for row in [claimed, orphaned, accepted] {
        let mut item = a.item(Some(1), []);
        item.put_tasks = vec![row.clone()];
        a.append(store, &item).unwrap();
        assert_eq!(held(store)[0], row);
        assert_eq!(store.open_tasks(&ShardSet::ALL, None, 1).unwrap(), [row]);
    }
    // Nor of what the host began and somebody else answers for.
    store.count_crash(&ShardSet::ALL, &[], Timestamp(u64::MAX / 4)).unwrap();
    assert_eq!(held(store)[0].attempt, 2);
    check_run(store, a.run);
}

pub fn exhausted_tasks_are_held(store: &dyn Store) {
    let (mut a, mut b) = (Script::started(store, "a"), Script::started(store, "b"));
    let here = a.execution.namespace.clone();
    let listed = |after, limit| -> Vec<(RunKey, u64)> {
        let rows = store.exhausted_tasks(&here, after, limit).unwrap();
        rows.iter().map(|t| (t.run, t.command_no)).collect()
    };
    let how = TaskExhausted { attempts: 3, timeout: Some(TimeoutType::Heartbeat), last_failure: lost() };
    for script in [&mut a, &mut b] {
        let mut item = script.item(Some(1), (1..=4).map(|no| scheduled(no, "1")));
        item.put_tasks = (1..=4).map(|no| script.task(no, no + 1)).collect();
        script.append(store, &item).unwrap();
        assert_eq!(listed(Some((script.run, 0)), 9), []);
        let held = |no: u64| EventBody::new(Some(no), how.clone());
        let mut item = script.item(Some(1), [held(2), held(3)]);
        let at = script.time;
        let exhausted = Some(Arc::new(Exhausted { at, how: how.clone() }));
        let row = |no| TaskRow { attempt: 3, exhausted: exhausted.clone(), ..script.task(no, no + 1) };
        let (second, third) = (row(2), row(3));
        item.put_tasks = vec![second, third.clone()];
        script.append(store, &item).unwrap();
        assert_eq!(store.exhausted_tasks(&here, Some((script.run, 2)), 9).unwrap(), [third]);
        check_run(store, script.run);
    }
    assert_eq!(listed(None, 9), [(a.run, 2), (a.run, 3), (b.run, 2), (b.run, 3)]);
    assert_eq!(listed(Some((a.run, 2)), 2), [(a.run, 3), (b.run, 2)]);
    assert_eq!(store.census().unwrap().failed_tasks, 4);
    let elsewhere = relive_core::Namespace::new("other").unwrap();
    assert_eq!(store.exhausted_tasks(&elsewhere, None, 9), Ok(Vec::new()));
    // No attempt of theirs was cut off by a crash.
    store.count_crash(&ShardSet::ALL, &[], Timestamp(u64::MAX / 4)).unwrap();
    let attempts: Vec<u32> = store.open_work(a.run).unwrap().0.iter().map(|t| t.attempt).collect();
    assert_eq!(attempts, [2, 3, 3, 2]);
    // One begins again, one is given up; the other run ends.
    let again =
        CommandIssued { name: CommandIssued::REDRIVE.into(), target: Some(2), arguments: None, note: String::new() };
    let failed = TaskFailed { attempt: 3, failure: lost() };
    let mut item = a.item(Some(1), [EventBody::new(None, again), EventBody::new(Some(3), failed)]);
    (item.put_tasks, item.remove_tasks) = (vec![a.task(2, 3)], vec![3]);
    a.append(store, &item).unwrap();
    check_run(store, a.run);
    b.go_on(store, [completed()]);
    assert_eq!(listed(None, 9), []);
}

fn lost() -> Failure {
    Failure::new(FailureKind::Infrastructure, "worker-lost", "it was not heard of any more")
}

pub fn crashes_are_counted(store: &dyn Store) {
    let (mut a, b) = (Script::started(store, "a"), Script::started(store, "b"));
    let mut item = a.item(Some(1), [scheduled(1, "1"), scheduled(2, "1")]);
    item.put_tasks = vec![a.task(1, 2), TaskRow { due_at: Timestamp(u64::MAX / 4), ..a.task(2, 3) }];
    a.append(store, &item).unwrap();
    store.count_crash(&ShardSet::ALL, &[a.run, RunKey(12_345)], a.time).unwrap();
    store.count_crash(&ShardSet::ALL, &[a.run], Timestamp(0)).unwrap();
    let attempts: Vec<u32> = store.open_work(a.run).unwrap().0.iter().map(|t| t.attempt).collect();
    assert_eq!(attempts, [2, 1]);
    let crashes = |run| store.execution(run).unwrap().unwrap().crashes;
    assert_eq!((crashes(a.run), crashes(b.run)), (2, 0));
    let mut reset = a.item(Some(1), []);
    reset.row.reset_crashes = true;
    a.append(store, &reset).unwrap();
    assert_eq!(crashes(a.run), 0);
}

pub fn find_by_name(store: &dyn Store) {
    let mut first = Script::started(store, "a");
    let find = |run| store.find(&first.execution.namespace.clone(), &workflow_id("a"), run).unwrap().map(|row| row.key);
    assert_eq!(find(None), Some(first.run));
    let first_id = first.execution.run_id;
    let first_run = first.run;
    let end = first.item(Some(1), [completed()]);
    append_one(store, &end).unwrap();
    first.took(&end);
    assert_eq!(store.find(&first.execution.namespace, &workflow_id("a"), None).unwrap().unwrap().key, first_run);
    let second = Script::started(store, "a");
    let find = |run| store.find(&first.execution.namespace, &workflow_id("a"), run).unwrap().map(|row| row.key);
    assert_eq!(find(None), Some(second.run));
    assert_eq!(find(Some(first_id)), Some(first_run));
    assert_eq!(find(Some(relive_core::RunId(uuid::Uuid::nil()))), None);
    assert_eq!(store.find(&first.execution.namespace, &workflow_id("b"), None), Ok(None));
    let elsewhere = relive_core::Namespace::new("other").unwrap();
    assert_eq!(store.find(&elsewhere, &workflow_id("a"), Some(first_id)), Ok(None));
}

pub fn list_and_page(store: &dyn Store) {
    let mut scripts: Vec<Script> = (0..7).map(|n| Script::started(store, &format!("w{n}"))).collect();
    for (n, end) in [(1, completed()), (4, terminated()), (5, completed())] {
        scripts[n].go_on(store, [end]);
    }
    let keys = |filter: &ListFilter, before: Option<usize>, limit| {
        let rows = store.list(filter, before.map(|n| scripts[n].run), limit).unwrap();
        rows.iter().map(|row| scripts.iter().position(|s| s.run == row.key).unwrap()).collect::<Vec<_>>()
    };
    let all = ListFilter::default();
    assert_eq!(keys(&all, None, 100), [6, 5, 4, 3, 2, 1, 0]);
    assert_eq!(keys(&all, Some(5), 2), [4, 3]);
    for (status, wanted) in [
        (Status::Completed, vec![5, 1]),
        (Status::Terminated, vec![4]),
        (Status::Running, vec![6, 3, 2, 0]),
        (Status::Blocked, vec![]),
        (Status::Failed, vec![]),
    ] {
        assert_eq!(keys(&ListFilter { status: Some(status), ..all.clone() }, None, 100), wanted, "{status:?}");
    }
    assert_eq!(keys(&ListFilter { workflow_id: Some(workflow_id("w3")), ..all.clone() }, None, 100), [3]);
    assert_eq!(keys(&ListFilter { workflow: Some("order".to_owned()), ..all.clone() }, Some(2), 1), [1]);
    assert_eq!(keys(&ListFilter { workflow: Some("none".to_owned()), ..all.clone() }, None, 100), [0_usize; 0]);
    let of = |name: &str| ListFilter { namespace: Some(relive_core::Namespace::new(name).unwrap()), ..all.clone() };
    assert_eq!(keys(&of("other"), None, 100), [0_usize; 0]);
    assert_eq!(keys(&of("default"), None, 100), [6, 5, 4, 3, 2, 1, 0]);
}

pub fn published_values(store: &dyn Store) {
    let mut script = Script::started(store, "a");
    let mut item = script.item(Some(1), [signal("x")]);
    item.published = [("b".to_owned(), json("1")), ("a".to_owned(), json("{\"x\": 1.0}"))].into();
    script.append(store, &item).unwrap();
    let mut item = script.item(Some(1), [signal("y")]);
    item.published = [("b".to_owned(), json("[2]"))].into();
    script.append(store, &item).unwrap();
    let all = store.published(script.run, None).unwrap();
    let seen: Vec<_> = all.iter().map(|p| (p.key.as_str(), p.value.as_str(), p.event_id)).collect();
    assert_eq!(seen, [("a", "{\"x\": 1.0}", 2), ("b", "[2]", 3)]);
    assert_eq!(store.published(script.run, Some("b")).unwrap(), all[1..]);
    assert_eq!(store.published(script.run, Some("c")), Ok(Vec::new()));
}

pub fn log_lines(store: &dyn Store) {
    let (mut script, other) = (Script::started(store, "a"), Script::started(store, "b"));
    let line = |n: u64| LogLine {
        at: Timestamp(n),
        level: LogLevel::Warn,
        message: format!("line {n}"),
        fields: vec![("n".to_owned(), Json::of(&n).unwrap()), ("text".to_owned(), json("\"\\u00e9 \\\" x\""))],
    };
    for first in [1, 41] {
        let mut item = script.item(Some(1), [signal(&format!("{first}"))]);
        item.logs = (first..first + 40).map(line).collect();
        script.append(store, &item).unwrap();
    }
    let logs = store.logs(script.run, 0, usize::MAX).unwrap();
    assert_eq!(logs, (1..=80).map(|n| (n, line(n))).collect::<Vec<_>>());
    assert_eq!(store.logs(script.run, 78, 1).unwrap(), [(79, line(79))]);
    assert_eq!(store.logs(script.run, 80, 1), Ok(Vec::new()));
    assert_eq!(store.logs(other.run, 0, 1), Ok(Vec::new()));
}

pub fn blocked_and_unblocked(store: &dyn Store) {
    let mut script = Script::started(store, "a");
    let block =
        EventBody::new(None, ExecutionBlocked { reason: BlockReason::OutOfFuel, report: "too much".to_owned() });
    let mut item = script.item(Some(1), [block]);
    (item.row.status, item.row.blocked) = (Status::Blocked, Some(BlockReason::OutOfFuel));
    script.append(store, &item).unwrap();
    let row = store.execution(script.run).unwrap().unwrap();
    assert_eq!((row.status, row.blocked), (Status::Blocked, Some(BlockReason::OutOfFuel)));
    // It goes on recording, and its id stays taken.
    let item = script.item(None, [signal("x")]);
    script.append(store, &item).unwrap();
    assert!(append_one(store, &Script::new(store, "a").start(Some(1))).is_err());
    let mut item = script.item(None, [EventBody::new(None, ExecutionUnblocked { reason: "fixed".to_owned() })]);
    (item.row.status, item.row.blocked) = (Status::Running, None);
    script.append(store, &item).unwrap();
    assert_eq!(store.needs_wake(&ShardSet::ALL, RunKey(0), 10).unwrap(), [script.run]);
    check_run(store, script.run);
}

pub fn open_ones_are_counted(store: &dyn Store) {
    let mut scripts: Vec<Script> = (0..5).map(|n| Script::started(store, &format!("w{n}"))).collect();
    for (n, reason) in [(0, BlockReason::Trap), (1, BlockReason::Deadlock), (2, BlockReason::Trap)] {
        let block = EventBody::new(None, ExecutionBlocked { reason, report: String::new() });
        let mut item = scripts[n].item(None, [block]);
        (item.row.status, item.row.blocked) = (Status::Blocked, Some(reason));
        scripts[n].append(store, &item).unwrap();
    }
    let item = scripts[3].item(None, [signal("x")]);
    scripts[3].append(store, &item).unwrap();
    let mut census = store.census().unwrap();
    census.blocked.sort_unstable_by_key(|(_, n)| *n);
    let blocked = vec![(BlockReason::Deadlock, 1), (BlockReason::Trap, 2)];
    assert_eq!(census, Census { running: 2, blocked, behind: 1, failed_tasks: 0 });
    for script in &mut scripts[..4] {
        let end = script.item(None, [terminated()]);
        script.append(store, &end).unwrap();
    }
    assert_eq!(store.census(), Ok(Census { running: 1, ..Census::default() }));
    assert_eq!(store.probe(), Ok(()));
}

pub fn runs_are_counted_by_version(store: &dyn Store) {
    let ns = relive_core::Namespace::default();
    let ever = Timestamp(0);
    assert_eq!(store.count_versions(&ns, "order", ever, 10), Ok(Vec::new()));
    let mut scripts: Vec<Script> = (0..6).map(|n| Script::started(store, &format!("w{n}"))).collect();
    for n in [0, 1, 4] {
        let end = scripts[n].item(None, [terminated()]);
        scripts[n].append(store, &end).unwrap();
    }
    let row = store.execution(scripts[0].run).unwrap().unwrap();
    let counted = |limit| {
        let counts = store.count_versions(&ns, &row.workflow, ever, limit).unwrap();
        assert!(counts.iter().all(|c| c.digest == row.digest && c.oldest >= row.started_at), "{counts:?}");
        let of = |status| counts.iter().filter(|c| c.status == status).map(|c| c.runs).sum::<u64>();
        (of(Status::Running), of(Status::Terminated))
    };
    assert_eq!(counted(100), (3, 3));
    // Of the ended ones only those among the latest; of the open ones all.
    assert_eq!(counted(2), (3, 1));
    assert_eq!(store.count_versions(&ns, "none", ever, 10), Ok(Vec::new()));
    let never = Timestamp(row.started_at.0 + 1);
    assert_eq!(store.count_versions(&ns, &row.workflow, never, 10), Ok(Vec::new()));
}

pub fn keys_are_never_repeated(store: &dyn Store) {
    let mut keys: Vec<RunKey> = std::thread::scope(|scope| {
        let take = || (0..500).map(|_| store.allocate_run_key(Shard(0)).unwrap()).collect::<Vec<_>>();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 2_000);
    assert!(keys[0] > RunKey(0));
}
