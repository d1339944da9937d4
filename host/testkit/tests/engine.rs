//! The engine over the memory store, with scripted guests: what users see of steps, timers, messages, cancellation,
//! failures and blocked executions.

use std::{sync::Arc, time::Duration};

use relive_core::{
    Namespace, ShardSet,
    event::BlockReason,
    options::CancellationType,
    ports::{HistoryStore, ListFilter, Status},
};
use relive_engine::{CacheLimits, EngineConfig, ImageConfig};
use relive_store::MemoryStore;
use relive_testkit::{
    clock::{SystemClock, TestClock},
    embedded::Embedded,
    model::Op,
};

fn activity(name: &str, input: &str) -> Op {
    Op::Activity { name: name.into(), input: input.into(), cancellation: CancellationType::Try }
}

/// Sequential steps with this activity.
fn steps(n: usize) -> Vec<Op> {
    (0..n).flat_map(|i| [activity("echo", &i.to_string()), Op::Await(i)]).collect()
}

async fn host() -> (Arc<MemoryStore>, Embedded) {
    let store = Arc::new(MemoryStore::new());
    let host = Embedded::start(store.clone(), Arc::new(SystemClock), 1, EngineConfig::default()).await;
    (store, host)
}

async fn blocked(host: &Embedded, id: &str) -> relive_engine::views::ExecutionDetail {
    let is_blocked = || async {
        host.engine.show(Embedded::target(id)).await.expect("it is there").execution.status == Status::Blocked
    };
    host.until("the execution is blocked", is_blocked).await;
    host.engine.show(Embedded::target(id)).await.expect("it is there")
}

#[tokio::test(flavor = "multi_thread")]
async fn sequential_steps_run_to_the_end_and_relive() {
    let (_, host) = host().await;
    host.run("w", &steps(20)).await.expect("started");
    let view = host.ended("w").await;
    assert_eq!(view.status, Status::Completed);
    let detail = host.engine.show(Embedded::target("w")).await.expect("shown");
    assert_eq!(detail.steps.len(), 20);
    assert!(detail.steps.iter().all(|s| s.state == "completed" && s.attempts == 1));
    let replay = host.engine.replay(Embedded::target("w"), None, None).await.expect("a report");
    assert!(replay.agrees, "{replay:?}");
    assert_eq!((replay.events, replay.applied), (42, 21));
    let state = host.engine.state(Embedded::target("w"), Some(4)).await.expect("a state");
    assert_eq!(state.open_promises.len(), 1, "{state:?}");
    assert_eq!(host.verify().await, 1);
    assert!(host.sink.attempts().values().all(|n| *n == 1));
    host.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_activities_are_all_dispatched_at_once() {
    let (_, host) = host().await;
    let mut program: Vec<Op> = (0..50).map(|i| activity("echo", &i.to_string())).collect();
    program.extend((0..50).map(Op::Await));
    host.run("w", &program).await.expect("started");
    assert_eq!(host.ended("w").await.status, Status::Completed);
    assert_eq!(host.sink.attempts().len(), 50);
    host.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_attempts_are_retried_and_final_failures_reach_the_guest() {
    let (_, host) = host().await;
    let retried = |attempts, timeout_ms, name: &str| Op::Try {
        name: name.into(),
        input: "1".into(),
        attempts,
        interval_ms: 1,
        timeout_ms,
    };
    host.run("flaky", &[retried(5, 1_000, "flaky"), Op::Await(0)]).await.expect("started");
    host.run("exhausted", &[retried(2, 1_000, "flaky"), Op::Await(0)]).await.expect("started");
    host.run("permanent", &[retried(5, 1_000, "fail"), Op::Await(0)]).await.expect("started");
    host.run("late", &[retried(2, 20, "hang"), Op::Await(0)]).await.expect("started");
    let said = |id: &'static str| async { host.ended(id).await.result.expect("a result").to_string() };
    assert!(said("flaky").await.contains("Ok"));
    assert!(said("exhausted").await.contains("flaky: not yet"));
    assert!(said("permanent").await.contains("broken: as told"));
    assert!(said("late").await.contains("start-to-close"));
    let attempts = host.engine.show(Embedded::target("flaky")).await.expect("shown").steps[0].attempts;
    assert_eq!(attempts, 3);
    let history = host.engine.history(Embedded::target("flaky"), 1, 100).await.expect("a history");
    let retries = history.events.iter().filter(|e| e.body.is_retry).count();
    assert_eq!(retries, 2, "each retry rode on a later commit");
    host.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn timers_fire_in_order_and_never_early() {
    let store = Arc::new(MemoryStore::new());
    let clock = Arc::new(TestClock::default());
    let host = Embedded::start(store.clone(), clock.clone(), 1, EngineConfig::default()).await;
    let program =
        [Op::Timer(2_000), Op::Timer(1_000), Op::Timer(5_000), Op::Cancel(2), Op::Await(0), Op::Await(1), Op::Now];
    host.run("w", &program).await.expect("started");
    clock.advance(999_000_000);
    host.engine.poke_timers();
    let fired = || async {
        host.engine
            .show(Embedded::target("w"))
            .await
            .expect("shown")
            .steps
            .iter()
            .filter(|s| s.state == "completed")
            .count()
    };
    assert_eq!(fired().await, 0);
    clock.advance(1_000_000);
    host.engine.poke_timers();
    host.until("the nearer timer has fired", || async { fired().await == 1 }).await;
    clock.advance(3_600_000_000_000);
    host.engine.poke_timers();
    assert_eq!(host.ended("w").await.status, Status::Completed);
    let steps = host.engine.show(Embedded::target("w")).await.expect("shown").steps;
    assert_eq!(steps.iter().map(|s| s.state).collect::<Vec<_>>(), ["completed", "completed", "canceled"]);
    host.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_taken_once_and_in_order() {
    let (_, host) = host().await;
    let program = [Op::Message("a".into()), Op::Await(0), Op::Message("a".into()), Op::Await(1)];
    host.run("w", &program).await.expect("started");
    host.send("w", "a", "m1", "1").await.expect("sent");
    host.send("w", "a", "m1", "1").await.expect("the same message again is a success");
    host.send("w", "b", "m2", "2").await.expect("nobody listens there, and it is kept");
    host.send("w", "a", "m3", "3").await.expect("sent");
    let trace = host.ended("w").await.result.expect("a result").to_string();
    assert!(trace.find("m1").expect("m1") < trace.find("m3").expect("m3"));
    assert!(!trace.contains("m2"));
    host.send("w", "a", "m3", "3").await.expect("a retry whose answer was lost finds its own event");
    let error = host.send("w", "a", "m4", "4").await.expect_err("it has ended");
    assert_eq!(error.code, "closed");
    host.verify().await;
}

/// Who sends a message again because its answer was lost hears the same, also if the run has ended by it meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_ends_its_run_is_taken_for_all_who_sent_it() {
    const RUNS: usize = 100;
    let (_, host) = host().await;
    for n in 0..RUNS {
        let id = format!("w{n}");
        host.run(&id, &[Op::Message("a".into()), Op::Await(0)]).await.expect("started");
        let senders = (0..4).map(|_| host.send(&id, "a", "m", "1"));
        for sent in futures_util::future::join_all(senders).await {
            sent.expect("the same message again is a success");
        }
        // Another message is too late, and is told so.
        assert_eq!(host.ended(&id).await.status, Status::Completed);
        assert_eq!(host.send(&id, "a", "other", "1").await.expect_err("it has ended").code, "closed");
    }
    host.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_reaches_the_guest_once_and_terminate_asks_nobody() {
    let (_, host) = host().await;
    let waits = [Op::Message("a".into()), Op::Timer(3_600_000), Op::AwaitAny(vec![0, 1]), Op::EndIfCanceled];
    host.run("polite", &waits).await.expect("started");
    host.engine.cancel(Embedded::target("polite"), "test".into()).await.expect("asked");
    host.engine.cancel(Embedded::target("polite"), "test".into()).await.expect("the same request");
    host.send("polite", "a", "m", "1").await.expect("sent");
    assert_eq!(host.ended("polite").await.status, Status::Canceled);
    host.run("stubborn", &[activity("hang", "1"), Op::Await(0)]).await.expect("started");
    host.engine.terminate(Embedded::target("stubborn"), "enough".into()).await.expect("terminated");
    let view = host.ended("stubborn").await;
    assert_eq!(view.status, Status::Terminated);
    assert_eq!(view.failure.expect("a failure").message, "enough");
    host.until("its activity was stopped", || async { host.engine.status().activities_running == 0 }).await;
    host.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancellation_types_decide_what_becomes_of_an_activity() {
    let (_, host) = host().await;
    for (id, cancellation) in
        [("try", CancellationType::Try), ("abandon", CancellationType::Abandon), ("wait", CancellationType::Wait)]
    {
        let hang = Op::Activity { name: "hang".into(), input: "1".into(), cancellation };
        host.run(id, &[hang, Op::Timer(1), Op::Await(1), Op::Cancel(0), Op::Timer(5), Op::Await(2)])
            .await
            .expect("started");
        assert_eq!(host.ended(id).await.status, Status::Completed, "{id}");
    }
    host.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn continue_as_new_carries_unread_messages() {
    let (_, host) = host().await;
    let next = vec![Op::Message("a".into()), Op::Await(0), Op::Message("a".into()), Op::Await(1)];
    let program = [Op::Message("go".into()), Op::Await(0), Op::ContinueAsNew { program: next }];
    host.run("w", &program).await.expect("started");
    host.send("w", "a", "m1", "1").await.expect("sent");
    host.send("w", "a", "m2", "2").await.expect("sent");
    host.send("w", "go", "m3", "3").await.expect("sent");
    let ended = || async {
        host.engine.result(Embedded::target("w"), None).await.expect("a result").status == Status::Completed
    };
    host.until("the second run has ended", ended).await;
    let trace = host.ended("w").await.result.expect("a result").to_string();
    assert!(trace.find("m1").expect("m1") < trace.find("m2").expect("m2"), "{trace}");
    let filter = ListFilter::default();
    let runs = host.engine.list(filter, None, 10).await.expect("a list").executions;
    assert_eq!(runs.iter().map(|r| r.status).collect::<Vec<_>>(), [Status::Completed, Status::ContinuedAsNew]);
    host.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_id_is_open_once() {
    let (_, host) = host().await;
    host.run("w", &[Op::Message("a".into()), Op::Await(0)]).await.expect("started");
    let error = host.run("w", &[]).await.expect_err("taken");
    assert_eq!(error.code, "already-started");
    host.send("w", "a", "m", "1").await.expect("sent");
    host.ended("w").await;
    host.run("w", &[]).await.expect("free again");
    host.ended("w").await;
    assert_eq!(host.verify().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_blocks_keeps_recording_and_can_be_unblocked() {
    let (_, host) = host().await;
    host.run("w", &[Op::Message("a".into()), Op::Await(0), Op::Trap]).await.expect("started");
    host.send("w", "a", "m1", "1").await.expect("the message is kept, whatever the guest makes of it");
    let detail = blocked(&host, "w").await;
    assert_eq!(detail.execution.blocked, Some(BlockReason::Trap));
    assert!(detail.block_report.expect("a report").contains("as told"));
    host.send("w", "a", "m2", "2").await.expect("a blocked execution goes on recording");
    host.engine.unblock(Embedded::target("w"), "try again".into()).await.expect("unblocked");
    let blocks = || async {
        let history = host.engine.history(Embedded::target("w"), 1, 100).await.expect("a history");
        history.events.iter().filter(|e| e.event_type().name() == "ExecutionBlocked").count() == 2
    };
    host.until("it trapped again", blocks).await;
    host.engine.terminate(Embedded::target("w"), "enough".into()).await.expect("terminated");
    host.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_nothing_is_a_deadlock() {
    let (_, host) = host().await;
    host.run("w", &[activity("echo", "1"), Op::Await(0), Op::Stall]).await.expect("started");
    let detail = blocked(&host, "w").await;
    assert_eq!(detail.execution.blocked, Some(BlockReason::Deadlock));
    assert_eq!(detail.waits_for, ["operator"]);
    host.engine.terminate(Embedded::target("w"), "enough".into()).await.expect("terminated");
    host.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_takes_the_host_down_is_quarantined() {
    let store = Arc::new(MemoryStore::new());
    let first = Embedded::start(store.clone(), Arc::new(SystemClock), 1, EngineConfig::default()).await;
    first.run("w", &[Op::Message("a".into()), Op::Await(0)]).await.expect("started");
    first.engine.shutdown().await;
    let target = Embedded::target("w");
    let row = store.find(&target.namespace, &target.workflow_id, None).expect("readable").expect("there");
    for _ in 0..3 {
        store.count_crash(&ShardSet::ALL, &[row.key], row.started_at).expect("counted");
    }
    let second = Embedded::start(store.clone(), Arc::new(SystemClock), 2, EngineConfig::default()).await;
    second.send("w", "a", "m", "1").await.expect("it goes on recording");
    let detail = blocked(&second, "w").await;
    assert_eq!((detail.execution.blocked, detail.crashes), (Some(BlockReason::Quarantined), 3));
    second.engine.unblock(target, "looked at it".into()).await.expect("unblocked");
    assert_eq!(second.ended("w").await.status, Status::Completed);
    second.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crashes_count_in_a_row_and_nothing_overtakes_the_turn_that_is_suspected() {
    let store = Arc::new(MemoryStore::new());
    let first = Embedded::start(store.clone(), Arc::new(SystemClock), 1, EngineConfig::default()).await;
    let program = [Op::Message("a".into()), Op::Await(0), Op::Message("a".into()), Op::Await(1)];
    first.run("w", &program).await.expect("started");
    first.engine.shutdown().await;
    let target = Embedded::target("w");
    let row = || store.find(&target.namespace, &target.workflow_id, None).expect("readable").expect("there");
    for _ in 0..2 {
        store.count_crash(&ShardSet::ALL, &[row().key], row().started_at).expect("counted");
    }
    let second = Embedded::start(store.clone(), Arc::new(SystemClock), 2, EngineConfig::default()).await;
    second.send("w", "a", "m1", "1").await.expect("sent");
    // The message is committed first, the turn that took it is another commit, and takes the suspicion away.
    second.until("the turn is committed", || async { row().crashes == 0 }).await;
    assert_eq!(row().applied_through, row().last_inbound_id);
    second.send("w", "a", "m2", "2").await.expect("sent");
    assert_eq!(second.ended("w").await.status, Status::Completed);
    second.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burning_guest_does_not_delay_others() {
    let (_, host) = host().await;
    for n in 0..6 {
        host.run(&format!("burner-{n}"), &[Op::Timer(0), Op::Await(0), Op::Burn(3_000)]).await.expect("started");
    }
    let started = std::time::Instant::now();
    for n in 0..20 {
        let id = format!("quick-{n}");
        host.run(&id, &steps(3)).await.expect("started");
        host.ended(&id).await;
    }
    assert!(
        started.elapsed() < Duration::from_millis(2_500),
        "20 quick runs took {:?} beside burners",
        started.elapsed()
    );
}

/// Ten executions in a cache that holds one, woken once each; how often guests relived and were laid.
async fn wake_cold_guests(images: ImageConfig) -> (u64, u64) {
    let store = Arc::new(MemoryStore::new());
    let cache = CacheLimits { memory_bytes: 1, maps: 1_000 };
    let config = EngineConfig { cache, images, ..EngineConfig::default() };
    let host = Embedded::start(store.clone(), Arc::new(SystemClock), 1, config).await;
    let program = [
        activity("echo", "1"),
        Op::Await(0),
        Op::Message("a".into()),
        Op::Await(1),
        Op::Random,
        activity("echo", "2"),
        Op::Await(2),
    ];
    for n in 0..10 {
        host.run(&format!("w{n}"), &program).await.expect("started");
    }
    for n in 0..10 {
        let id = format!("w{n}");
        host.send(&id, "a", "m", "1").await.expect("sent");
        assert_eq!(host.ended(&id).await.status, Status::Completed);
    }
    host.verify().await;
    let status = host.engine.status();
    assert_eq!(status.images.ignored, 0);
    (status.relives, status.images.laid)
}

#[tokio::test(flavor = "multi_thread")]
async fn cold_guests_relive_without_images() {
    let (relived, laid) = wake_cold_guests(ImageConfig { every: 0, ..ImageConfig::default() }).await;
    assert!(relived > 0 && laid == 0, "{relived} relived, {laid} laid");
}

#[tokio::test(flavor = "multi_thread")]
async fn cold_guests_are_laid_from_memory_and_from_the_store() {
    let (relived, laid) = wake_cold_guests(ImageConfig::default()).await;
    assert!(relived == 0 && laid > 0, "{relived} relived, {laid} laid");
    let (_, laid) = wake_cold_guests(ImageConfig { memory_bytes: 0, ..ImageConfig::default() }).await;
    assert!(laid > 0, "from the store");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_host_goes_on_where_the_last_one_stopped() {
    let store = Arc::new(MemoryStore::new());
    let first = Embedded::start(store.clone(), Arc::new(SystemClock), 1, EngineConfig::default()).await;
    let waits = |n: u64| {
        vec![activity("echo", "1"), Op::Await(0), Op::Timer(n), Op::Message("a".into()), Op::Await(1), Op::Await(2)]
    };
    for n in 0..20 {
        first.run(&format!("w{n}"), &waits(300 + n)).await.expect("started");
    }
    first
        .run(
            "hangs",
            &[
                Op::Try { name: "hang".into(), input: "1".into(), attempts: 1, interval_ms: 1, timeout_ms: 60_000 },
                Op::Await(0),
            ],
        )
        .await
        .expect("started");
    first.engine.shutdown().await;
    assert_eq!(first.run("late", &[]).await.expect_err("it is down").code, "shutting-down");
    let second = Embedded::start(store.clone(), Arc::new(SystemClock), 2, EngineConfig::default()).await;
    for n in 0..20 {
        let id = format!("w{n}");
        second.send(&id, "a", "m", "1").await.expect("sent");
        assert_eq!(second.ended(&id).await.status, Status::Completed);
    }
    // The attempt that the first host left counts: its only one is lost, and an operator decides.
    let target = Embedded::target("hangs");
    let held = || async { second.engine.give_up(target.clone(), 1, "as told".into()).await.is_ok() };
    second.until("the activity to be given up", held).await;
    let lost = second.ended("hangs").await.result.expect("a result").to_string();
    assert!(lost.contains("attempt-lost"), "{lost}");
    second.verify().await;
    let row =
        store.find(&Namespace::default(), &Embedded::target("w0").workflow_id, None).expect("readable").expect("there");
    assert_eq!(row.epoch, 2);
}
