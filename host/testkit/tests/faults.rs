//! The engine over a store that fails on purpose: conflicts, lost replies, transient trouble. Turns are thrown away
//! and relived, and nothing is lost or doubled.

use std::sync::Arc;

use relive_core::{
    event::ExecutionTerminated,
    ports::{AppendItem, ExecutionRow, HistoryStore, Status},
};
use relive_engine::EngineConfig;
use relive_store::MemoryStore;
use relive_testkit::{
    clock::SystemClock,
    embedded::Embedded,
    faulty::{Fault, FaultyStore, outside, signal},
    model::Op,
};

fn activity(input: &str) -> Op {
    Op::Activity { name: "echo".into(), input: input.into(), cancellation: Default::default() }
}

fn steps(n: usize) -> Vec<Op> {
    (0..n).flat_map(|i| [activity(&i.to_string()), Op::Await(i)]).collect()
}

async fn host(
    plan: impl Fn(u64) -> Option<Fault> + Send + Sync + 'static,
    interloper: impl Fn(&ExecutionRow) -> Option<AppendItem> + Send + Sync + 'static,
) -> (Arc<FaultyStore>, Embedded) {
    let memory = Arc::new(MemoryStore::new());
    let faulty = Arc::new(FaultyStore::new(memory.clone(), plan, interloper));
    let store: Arc<dyn HistoryStore> = faulty.clone();
    let host = Embedded::with(store, memory, Arc::new(SystemClock), 1, EngineConfig::default()).await;
    (faulty, host)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_reply_finds_its_own_events() {
    let (store, host) = host(|n| n.is_multiple_of(2).then_some(Fault::Twice), |_| None).await;
    host.run("w", &steps(20)).await.expect("started");
    assert_eq!(host.ended("w").await.status, Status::Completed);
    assert!(store.hit().len() >= 9, "{:?}", store.hit());
    assert!(host.sink.attempts().values().all(|n| *n == 1), "no activity was dispatched twice");
    host.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_get_in_between_throw_a_speculative_turn_away() {
    let (store, host) = host(|n| n.is_multiple_of(3).then_some(Fault::Interloper), signal).await;
    let mut program = steps(20);
    program.extend([Op::Message("a".into()), Op::Await(20)]);
    host.run("w", &program).await.expect("started");
    assert_eq!(host.ended("w").await.status, Status::Completed);
    assert!(store.hit().len() >= 6, "{:?}", store.hit());
    assert!(host.engine.status().relives > 0, "the turns were relived");
    assert!(host.sink.attempts().values().all(|n| *n == 1));
    let replay = host.engine.replay(Embedded::target("w"), None, None).await.expect("a report");
    assert!(replay.agrees, "{replay:?}");
    host.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_of_committed_events_is_renumbered_and_stands() {
    // A slow turn makes the execution commit its events before their turns; the commands that follow meet a message.
    let (store, host) = host(|n| (n >= 4 && n.is_multiple_of(2)).then_some(Fault::Interloper), signal).await;
    let mut program = vec![activity("0"), Op::Await(0), Op::Burn(80)];
    program.extend((1..6).flat_map(|i| [activity(&i.to_string()), Op::Await(i)]));
    host.run("w", &program).await.expect("started");
    assert_eq!(host.ended("w").await.status, Status::Completed);
    assert!(store.hit().contains(&Fault::Interloper));
    assert!(host.sink.attempts().values().all(|n| *n == 1));
    let replay = host.engine.replay(Embedded::target("w"), None, None).await.expect("a report");
    assert!(replay.agrees, "{replay:?}");
    host.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_gets_in_between_is_the_end() {
    let end =
        |row: &ExecutionRow| Some(outside(row, ExecutionTerminated { reason: "elsewhere".into() }, Status::Terminated));
    let (store, host) = host(|n| (n == 5).then_some(Fault::Interloper), end).await;
    host.run("w", &steps(20)).await.expect("started");
    let ended = || async {
        host.engine.result(Embedded::target("w"), None).await.expect("a result").status == Status::Terminated
    };
    host.until("the end is seen", ended).await;
    assert_eq!(store.hit(), [Fault::Interloper]);
    host.until("the owner has let go", || async { host.engine.status().cells == 0 }).await;
    host.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transient_trouble_delays_and_loses_nothing() {
    let (store, host) = host(|n| (n == 3 || n == 4).then_some(Fault::Transient), |_| None).await;
    host.run("w", &steps(5)).await.expect("started");
    assert_eq!(host.ended("w").await.status, Status::Completed);
    assert_eq!(store.hit(), [Fault::Transient, Fault::Transient]);
    host.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_cannot_be_committed_is_refused_and_may_be_tried_again() {
    let (_, host) = host(|n| (n == 1).then_some(Fault::Transient), |_| None).await;
    let error = host.run("w", &steps(1)).await.expect_err("not committed");
    assert_eq!(error.code, "store-unavailable");
    host.run("w", &steps(1)).await.expect("started");
    assert_eq!(host.ended("w").await.status, Status::Completed);
    assert_eq!(host.verify().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_be_written_makes_the_host_unready_until_it_can() {
    let (_, host) = host(|n| (n == 1).then_some(Fault::Transient), |_| None).await;
    host.until("it has recovered", || async { host.engine.readiness().await.is_ok() }).await;
    host.run("w", &steps(1)).await.expect_err("not committed");
    assert_eq!(host.engine.readiness().await.expect_err("not ready").code, "store-unavailable");
    // Nobody writes; the host asks the store itself.
    host.until("it is ready again", || async { host.engine.readiness().await.is_ok() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_drains_takes_no_new_work_and_ends_what_runs() {
    let (_, host) = host(|_| None, |_| None).await;
    let program = [Op::Message("a".into()), Op::Await(0)];
    host.run("w", &program).await.expect("started");
    host.engine.wind_down(std::time::Duration::ZERO).await;
    assert_eq!(host.engine.readiness().await.expect_err("not ready").code, "shutting-down");
    assert_eq!(host.run("x", &program).await.expect_err("refused").code, "shutting-down");
    assert_eq!(host.send("w", "a", "m", "1").await.expect_err("refused").code, "shutting-down");
    host.engine.shutdown().await;
}

/// The store is lost in the middle of an append, and cannot be reached for a while after it.
#[tokio::test(flavor = "multi_thread")]
async fn an_item_in_doubt_stays_so_until_the_store_has_told() {
    let plan = |n: u64| match n {
        2 | 6 => Some(Fault::Lost),
        3 | 4 | 7 => Some(Fault::Transient),
        _ => None,
    };
    let (store, host) = host(plan, |_| None).await;
    host.run("w", &steps(4)).await.expect("started");
    assert_eq!(host.ended("w").await.status, Status::Completed);
    assert_eq!(store.hit(), [Fault::Lost, Fault::Transient, Fault::Transient, Fault::Lost, Fault::Transient]);
    assert!(host.sink.attempts().values().all(|n| *n == 1), "{:?}", host.sink.attempts());
    let replay = host.engine.replay(Embedded::target("w"), None, None).await.expect("a report");
    assert!(replay.agrees, "{replay:?}");
    host.verify().await;
}

/// Neither an activity's schedule nor a guest's history can be read for a while, longer than a turn is tried: nothing is
/// blocked for it, and nothing forgotten.
#[tokio::test(flavor = "multi_thread")]
async fn a_history_that_cannot_be_read_for_a_while_is_waited_for() {
    let memory = Arc::new(MemoryStore::new());
    let first = Embedded::with(memory.clone(), memory.clone(), Arc::new(SystemClock), 1, EngineConfig::default()).await;
    let hangs = Op::Activity { name: "hang".into(), input: "1".into(), cancellation: Default::default() };
    first.run("activity", &[hangs, Op::AwaitAny(vec![0])]).await.expect("started");
    first.run("message", &[Op::Message("a".into()), Op::Await(0)]).await.expect("started");
    first.engine.shutdown().await;
    let store = Arc::new(FaultyStore::new(memory.clone(), |_| None, |_| None));
    store.make_blind(true);
    let second = Embedded::with(store.clone(), memory, Arc::new(SystemClock), 2, EngineConfig::default()).await;
    second.send("message", "a", "m", "1").await.expect("taken all the same");
    second.until("many reads have failed", || async { store.unread() > 6 }).await;
    store.make_blind(false);
    assert_eq!(second.ended("message").await.status, Status::Completed);
    let launched = || async { second.engine.status().activities_running == 1 };
    second.until("the activity to run again", launched).await;
}

/// A run cannot go on as a new one while the store is away, whether its last event is committed by then or not: it waits.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_next_one_cannot_be_made_waits_for_it() {
    for committed_first in [false, true] {
        let (store, host) = host(|_| None, |_| None).await;
        // A slow turn has events committed before their turns from then on.
        let mut program = if committed_first { vec![activity("0"), Op::Await(0), Op::Burn(80)] } else { Vec::new() };
        let promise = usize::from(committed_first);
        program.extend([Op::Message("a".into()), Op::Await(promise), Op::ContinueAsNew { program: steps(1) }]);
        host.run("w", &program).await.expect("started");
        let waits = || async {
            let shown = host.engine.show(Embedded::target("w")).await.expect("shown");
            shown.waits_for == ["message"] && shown.execution.events >= 3 * promise as u64
        };
        host.until("it waits for its message", waits).await;
        store.make_blind(true);
        let heal = async {
            host.until("it was tried", || async { store.unread() > 3 }).await;
            store.make_blind(false);
        };
        let (sent, ()) = tokio::join!(host.send("w", "a", "m", "1"), heal);
        sent.expect("the message is taken in the end");
        let done = || async { host.ended("w").await.status == Status::Completed };
        host.until("the next run to complete", done).await;
        assert_eq!(host.verify().await, 2, "two runs");
    }
}

/// All that an order does, with the answer to every n-th append lost: each is found, and nothing is done a second time or
/// forgotten. The messages come while the store is at it.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_committed_and_not_answered_is_found_and_nothing_of_it_forgotten() {
    for every in [2, 3] {
        let (store, host) = host(move |n| n.is_multiple_of(every).then_some(Fault::Lost), |_| None).await;
        let mut program = steps(2);
        program.extend([
            Op::Message("a".into()),
            Op::Await(2),
            Op::Timer(5),
            Op::Await(3),
            activity("2"),
            Op::Await(4),
        ]);
        program.extend([Op::Message("a".into()), Op::Await(5)]);
        for id in ["w", "x", "y"] {
            // Who is told that it may have been done does it again, here and below.
            if host.run(id, &program).await.is_err() {
                assert_eq!(host.run(id, &program).await.expect_err("it was done").code, "already-started");
            }
        }
        for id in ["w", "x", "y"] {
            for message in ["m", "n"] {
                let sent = || async { host.send(id, "a", message, "1").await.is_ok() };
                host.until("the message is taken", sent).await;
            }
        }
        for id in ["w", "x", "y"] {
            assert_eq!(host.ended(id).await.status, Status::Completed);
            let replay = host.engine.replay(Embedded::target(id), None, None).await.expect("a report");
            assert!(replay.agrees, "{replay:?}");
        }
        assert!(store.hit().len() >= 3, "{:?}", store.hit());
        assert!(host.sink.attempts().values().all(|n| *n == 1), "{every}: {:?}", host.sink.attempts());
        host.verify().await;
    }
}
