//! Property tests of conflicts and rebases: random programs in the engine, over a store that at random loses replies,
//! lets other writers in between and has transient trouble, while messages come from clients. Everything ends, once,
//! and every prefix of every history replays to what was recorded (I5).

mod common;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use proptest::prelude::*;
use relive_core::{
    Namespace,
    ports::{HistoryStore, Status},
};
use relive_engine::{Engine, EngineConfig, PollRequest, RegisterRequest, Report};
use relive_store::MemoryStore;
use relive_testkit::{
    clock::SystemClock,
    embedded::Embedded,
    faulty::{Fault, FaultyStore, signal},
    model::Op,
};

/// Programs that end by themselves, once each promise for a message has one.
fn program() -> impl Strategy<Value = Vec<Op>> {
    common::program().prop_map(|ops| {
        let shorter = |op| match op {
            Op::Timer(ms) => Op::Timer(ms % 4),
            // A worker's.
            Op::Activity { name, input, cancellation } if name == "ship" => {
                Op::Activity { name: "remote-ship".into(), input, cancellation }
            }
            other => other,
        };
        ops.into_iter().map(shorter).collect()
    })
}

fn faults() -> impl Strategy<Value = Vec<Option<Fault>>> {
    let fault = prop_oneof![4 => Just(None), 3 => Just(Some(Fault::Interloper)), 2 => Just(Some(Fault::Twice))];
    // Trouble that passes makes an execution wait for half a second.
    (prop::collection::vec(fault, 1..24), prop::option::weighted(0.3, 0usize..24)).prop_map(|(mut plan, transient)| {
        let length = plan.len();
        if let Some(at) = transient {
            plan[at % length] = Some(Fault::Transient);
        }
        plan
    })
}

/// Items that may meet a fault: a writer who always loses would never come to an end.
const FAULTY: usize = 48;

/// Asks until it is acknowledged: trouble that passes is the client's to repeat.
async fn acknowledged<F: Future<Output = Result<(), relive_core::Error>>>(ask: impl Fn() -> F) {
    while let Err(error) = ask().await {
        match error.code {
            "closed" | "already-started" => return,
            "store-unavailable" | "try-again" => {}
            _ => panic!("{error}"),
        }
    }
}

fn register(engine: &Engine) -> String {
    let request = RegisterRequest { identity: "worker".into(), ..RegisterRequest::default() };
    engine.register_worker(&Namespace::default(), request).expect("registered").id
}

fn poll(worker: &str) -> PollRequest {
    PollRequest {
        namespace: Namespace::default(),
        task_queue: "default".into(),
        worker: worker.to_owned(),
        activities: None,
        max_tasks: 3,
        wait: Duration::from_secs(20),
    }
}

/// A worker that answers everything, each answer until it is acknowledged or not wanted any more.
async fn work(engine: Engine) {
    let namespace = Namespace::default();
    let worker = register(&engine);
    loop {
        for task in engine.poll(poll(&worker)).await.expect("polled") {
            let token = task.token.to_string();
            let details = Some(task.input.clone());
            let _ = engine.beat(&namespace, &token, details, false).await;
            let answer = || engine.report(&namespace, &token, Report::Completed(task.input.clone()));
            while let Err(error) = answer().await {
                match error.code {
                    "superseded" | "closed" => break,
                    "store-unavailable" | "try-again" => {}
                    _ => panic!("{error}"),
                }
            }
        }
    }
}

/// Runs `program` over a store with `plan`, and gives what the store did and how many events the history has.
async fn run(program: &[Op], plan: Vec<Option<Fault>>) -> (Vec<Fault>, u64) {
    let memory = Arc::new(MemoryStore::new());
    let nth = move |n: u64| {
        let n = n as usize;
        let fault = if n < FAULTY { plan[n % plan.len()] } else { None };
        if n >= plan.len() { fault.filter(|f| *f != Fault::Transient) } else { fault }
    };
    let faulty = Arc::new(FaultyStore::new(memory.clone(), nth, signal));
    let store: Arc<dyn HistoryStore> = faulty.clone();
    let host = Embedded::with(store.clone(), memory, Arc::new(SystemClock), 1, EngineConfig::default()).await;
    let worker = tokio::spawn(work(host.engine.clone()));
    acknowledged(|| host.run("w", program)).await;
    let mut wanted: BTreeMap<&str, usize> = BTreeMap::new();
    for op in program {
        if let Op::Message(channel) = op {
            *wanted.entry(channel).or_default() += 1;
        }
    }
    for (channel, messages) in wanted {
        for n in 0..messages {
            let id = format!("{channel}-{n}");
            acknowledged(|| host.send("w", channel, &id, "1")).await;
        }
    }
    let running = || async { host.engine.result(Embedded::target("w"), None).await.expect("a result").status };
    host.until("it ends", || async { running().await != Status::Running }).await;
    let detail = host.engine.show(Embedded::target("w")).await.expect("a detail");
    assert_eq!(detail.execution.status, Status::Completed, "{detail:?}");
    host.verify().await;
    assert!(host.sink.attempts().values().all(|n| *n == 1), "an activity was dispatched twice");
    let target = Embedded::target("w");
    let row = store.find(&target.namespace, &target.workflow_id, None).expect("readable").expect("there");
    for to in 1..=row.last_event_id {
        let report = host.engine.replay(Embedded::target("w"), None, Some(to)).await.expect("a report");
        assert!(report.agrees, "cut off after {to} of {}: {report:?}", row.last_event_id);
    }
    worker.abort();
    host.engine.shutdown().await;
    (faulty.hit(), row.last_event_id)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_gets_in_between_everything_ends_once(program in program(), plan in faults()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        runtime.block_on(run(&program, plan));
    }
}

/// The property is not empty: this much happens to one program.
#[tokio::test(flavor = "multi_thread")]
async fn what_gets_in_between_is_something() {
    let echo = |n: usize| Op::Activity { name: "echo".into(), input: n.to_string(), cancellation: Default::default() };
    let mut program: Vec<Op> = (0..8).flat_map(|n| [echo(n), Op::Await(n)]).collect();
    program.extend([Op::Message("a".into()), Op::Await(8)]);
    let plan = [None, Some(Fault::Interloper), Some(Fault::Twice), None, Some(Fault::Transient)];
    let (hit, _) = run(&program, plan.to_vec()).await;
    for fault in plan.into_iter().flatten() {
        assert!(hit.contains(&fault), "{fault:?} is missing: {hit:?}");
    }
}

/// A claim that meets another writer keeps naming the event that scheduled its task.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_is_renumbered_names_the_same_schedule() {
    let memory = Arc::new(MemoryStore::new());
    let faulty = FaultyStore::new(memory.clone(), |n| (1..3).contains(&n).then_some(Fault::Interloper), signal);
    let store: Arc<dyn HistoryStore> = Arc::new(faulty);
    let host = Embedded::with(store.clone(), memory, Arc::new(SystemClock), 1, EngineConfig::default()).await;
    let program = [
        Op::Activity { name: "remote-ship".into(), input: "1".into(), cancellation: Default::default() },
        Op::Await(0),
    ];
    host.run("w", &program).await.expect("started");
    let target = Embedded::target("w");
    let row = || store.find(&target.namespace, &target.workflow_id, None).expect("readable").expect("there");
    let scheduled = || store.open_work(row().key).expect("readable").0;
    let before = scheduled()[0].event_id;
    let task = host.engine.poll(poll(&register(&host.engine))).await.expect("polled").remove(0);
    assert!(scheduled()[0].claim.is_some() && row().last_event_id > 3, "{:?} {:?}", row(), scheduled());
    assert_eq!(scheduled()[0].event_id, before);
    let report = Report::Completed(task.input);
    host.engine.report(&Namespace::default(), &task.token.to_string(), report).await.expect("accepted");
    host.ended("w").await;
    host.verify().await;
}

/// A worker's answer meets a store in trouble: the owner keeps what it decided, and the worker's next try finds it.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_not_lost_with_the_stores_trouble() {
    let memory = Arc::new(MemoryStore::new());
    let nth = |n: u64| (3..5).contains(&n).then_some(Fault::Transient);
    let faulty = Arc::new(FaultyStore::new(memory.clone(), nth, signal));
    let host = Embedded::with(faulty.clone(), memory, Arc::new(SystemClock), 1, EngineConfig::default()).await;
    let program = [
        Op::Activity { name: "remote-ship".into(), input: "1".into(), cancellation: Default::default() },
        Op::Await(0),
    ];
    host.run("w", &program).await.expect("started");
    let task = host.engine.poll(poll(&register(&host.engine))).await.expect("polled").remove(0);
    let (namespace, token) = (Namespace::default(), task.token.to_string());
    let answer = || host.engine.report(&namespace, &token, Report::Completed(task.input.clone()));
    let refused = answer().await.expect_err("the store is in trouble");
    assert_eq!(refused.code, "store-unavailable");
    while answer().await.is_err() {}
    assert_eq!(host.ended("w").await.status, Status::Completed);
    assert!(faulty.hit().contains(&Fault::Transient));
    host.verify().await;
}
