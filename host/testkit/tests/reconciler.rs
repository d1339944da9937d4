//! The reconciler holds the queues in memory against the rows of the store, and says what it put right. Here somebody
//! writes to the store behind the host's back. On the test clock.

use std::{sync::Arc, time::Duration};

use relive_core::{
    Namespace,
    options::ActivityOptions,
    ports::{AppendItem, ExecutionRow, HistoryStore, RowChange, TaskRow},
};
use relive_engine::{CacheLimits, EngineConfig, PollRequest, RegisterRequest, Report};
use relive_store::MemoryStore;
use relive_testkit::{clock::TestClock, embedded::Embedded, model::Op};

const SECOND: u64 = 1_000_000_000;

struct Site {
    store: Arc<MemoryStore>,
    clock: Arc<TestClock>,
    host: Embedded,
}

impl Site {
    /// A host whose executions go cold at once, and whose sweep does not come in between.
    async fn new() -> Self {
        let (store, clock) = (Arc::new(MemoryStore::new()), Arc::new(TestClock::default()));
        let cache = CacheLimits { memory_bytes: 1, maps: 1 };
        let config = EngineConfig { cache, sweep_every: Duration::from_secs(3_600), ..EngineConfig::default() };
        let host = Embedded::start(store.clone(), clock.clone(), 1, config).await;
        Self { store, clock, host }
    }

    fn backlog(&self) -> u64 {
        self.host.engine.task_queue(&Namespace::default(), "default").expect("a queue").backlog
    }

    /// Executions whose tasks wait in the queue; all but the last are not in memory.
    async fn waiting(&self, ids: &[&str]) {
        for id in ids {
            let offer =
                Op::Offer { name: "remote-mail".into(), input: "1".into(), options: ActivityOptions::default() };
            self.host.run(id, &[Op::Random, offer, Op::Await(0)]).await.expect("started");
        }
        let cold = || async { self.host.engine.status().cells <= 1 && self.backlog() == ids.len() as u64 };
        self.host.until("the others are not in memory", cold).await;
    }

    fn row(&self, id: &str) -> ExecutionRow {
        let target = Embedded::target(id);
        self.store.find(&target.namespace, &target.workflow_id, None).expect("readable").expect("a run")
    }

    fn task(&self, id: &str) -> TaskRow {
        self.store.open_work(self.row(id).key).expect("readable").0.remove(0)
    }

    /// Writes to the store past the owner.
    fn append(&self, id: &str, change: impl FnOnce(&mut AppendItem)) {
        let row = self.row(id);
        let same = RowChange {
            status: row.status,
            blocked: row.blocked,
            last_inbound_id: row.last_inbound_id,
            applied_through: row.applied_through,
            command_count: row.command_count,
            reset_crashes: false,
            digest: None,
        };
        let mut item = AppendItem::new(row.key, row.last_event_id, Some(row.epoch), same);
        change(&mut item);
        self.store.append(&[item]).remove(0).expect("appended");
    }

    /// Five minutes pass, and the reconciler looks: what it put back and removed so far.
    async fn look(&self) -> (u64, u64) {
        let before = self.host.engine.status().reconciler.runs;
        self.clock.advance((300 * SECOND).cast_signed());
        let looked = || async { self.host.engine.status().reconciler.runs > before };
        self.host.until("the reconciler looks", looked).await;
        let status = self.host.engine.status().reconciler;
        (status.put_back, status.removed)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_are_put_right_and_it_is_told_how_many() {
    let site = Site::new().await;
    site.waiting(&["a", "b", "c", "last"]).await;
    assert_eq!(site.look().await, (0, 0), "all is well");

    // Another attempt is due than the one that the queue holds.
    let other = TaskRow { attempt: 2, ..site.task("a") };
    site.append("a", |item| item.put_tasks.push(other));
    assert_eq!((site.look().await, site.backlog()), ((1, 0), 4));

    // The task is gone.
    let no = site.task("b").command_no;
    site.append("b", |item| item.remove_tasks.push(no));
    assert_eq!((site.look().await, site.backlog()), ((1, 1), 3));
    assert_eq!(site.look().await, (1, 1), "and that is all");

    // What waits is handed out as the store has it.
    let request = RegisterRequest { identity: "me".into(), ..RegisterRequest::default() };
    let worker = site.host.engine.register_worker(&Namespace::default(), request).expect("registered").id;
    let poll = PollRequest {
        namespace: Namespace::default(),
        task_queue: "default".into(),
        worker,
        activities: None,
        max_tasks: 10,
        wait: Duration::ZERO,
    };
    let tasks = site.host.engine.poll(poll).await.expect("polled");
    let mut attempts: Vec<_> = tasks.iter().map(|t| (t.execution.workflow_id.to_string(), t.attempt)).collect();
    attempts.sort();
    assert_eq!(attempts, [("a".to_owned(), 2), ("c".to_owned(), 1), ("last".to_owned(), 1)]);
    for task in &tasks {
        let result = Report::Completed(relive_core::Json::null());
        site.host.engine.report(&Namespace::default(), &task.token.to_string(), result).await.expect("accepted");
    }
    site.host.ended("a").await;
}
