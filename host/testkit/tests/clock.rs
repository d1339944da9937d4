//! A clock that jumps by an hour, both ways: no timer fires before its deadline, none is lost, and no history's time
//! runs back.

use std::sync::Arc;

use relive_core::{
    Timestamp,
    event::{Attributes, HistoryEvent},
    ports::{Clock, Status},
};
use relive_engine::EngineConfig;
use relive_store::MemoryStore;
use relive_testkit::{clock::TestClock, embedded::Embedded, model::Op};

const MINUTE: u64 = 60_000;
const HOUR_NANOS: i64 = 3_600_000_000_000;

fn activity(input: &str) -> Op {
    Op::Activity { name: "echo".into(), input: input.into(), cancellation: Default::default() }
}

struct Jumping {
    clock: Arc<TestClock>,
    host: Embedded,
}

impl Jumping {
    async fn new() -> Self {
        let clock = Arc::new(TestClock::default());
        let store = Arc::new(MemoryStore::new());
        let host = Embedded::start(store, clock.clone(), 1, EngineConfig::default()).await;
        Self { clock, host }
    }

    fn jump(&self, nanos: i64) {
        self.clock.advance(nanos);
        self.host.engine.poke_timers();
    }

    async fn history(&self, id: &str) -> Vec<HistoryEvent> {
        self.host.engine.history(Embedded::target(id), 1, 1000).await.expect("a history").events
    }

    async fn fired(&self, id: &str) -> usize {
        self.history(id).await.iter().filter(|e| matches!(e.body.attributes, Attributes::TimerFired(_))).count()
    }

    async fn waits_until_created(&self, id: &str, timers: usize) {
        let created = || async {
            let history = self.history(id).await;
            history.iter().filter(|e| matches!(e.body.attributes, Attributes::TimerCreated(_))).count() == timers
        };
        self.host.until("the timer is there", created).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_hour_forward_fires_what_is_due_once_and_in_order() {
    let it = Jumping::new().await;
    let program = [
        Op::Timer(50 * MINUTE),
        Op::Timer(10 * MINUTE),
        Op::Timer(90 * MINUTE),
        Op::Await(0),
        Op::Await(1),
        Op::Await(2),
    ];
    it.host.run("w", &program).await.expect("started");
    it.waits_until_created("w", 3).await;
    it.jump(HOUR_NANOS);
    it.host.until("two are due", || async { it.fired("w").await == 2 }).await;
    let order: Vec<u64> = it
        .history("w")
        .await
        .iter()
        .filter(|e| matches!(e.body.attributes, Attributes::TimerFired(_)))
        .filter_map(|e| e.body.command_no)
        .collect();
    assert_eq!(order, [2, 1], "in the order of their deadlines");
    it.jump(HOUR_NANOS);
    assert_eq!(it.host.ended("w").await.status, Status::Completed);
    it.host.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_hour_back_delays_timers_and_time_does_not_run_back() {
    let it = Jumping::new().await;
    let program =
        [activity("1"), Op::Await(0), Op::Timer(30 * MINUTE), Op::Await(1), activity("2"), Op::Await(2), Op::Now];
    it.host.run("w", &program).await.expect("started");
    it.waits_until_created("w", 1).await;
    it.jump(-HOUR_NANOS);
    // Work goes on meanwhile, at the time that its history had reached.
    it.host.run("other", &[activity("1"), Op::Await(0)]).await.expect("started");
    assert_eq!(it.host.ended("other").await.status, Status::Completed);
    it.jump(31 * 60 * 1_000_000_000);
    assert_eq!(it.fired("w").await, 0, "half an hour after an hour back, the deadline is still ahead");
    it.jump(HOUR_NANOS);
    assert_eq!(it.host.ended("w").await.status, Status::Completed);
    let times: Vec<Timestamp> = it.history("w").await.iter().map(|e| e.timestamp).collect();
    assert!(times.windows(2).all(|pair| pair[0] <= pair[1]), "{times:?}");
    assert!(times.iter().all(|t| *t <= it.clock.now()));
    it.host.verify().await;
}
