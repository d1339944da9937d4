//! Limits of task queues: attempts go out no faster and no more at once than operators allow, polls that wait are
//! served when there is room, and nothing is forgotten with the host. On the test clock, over the memory store.

use std::{sync::Arc, time::Duration};

use relive_core::{
    Json, Namespace,
    options::ActivityOptions,
    ports::{QueueLimits, RateLimit, Status},
    retry::RetryPolicy,
};
use relive_engine::{ClaimedTask, EngineConfig, HeldBack, PollRequest, QueueView, RegisterRequest, Report};
use relive_store::MemoryStore;
use relive_testkit::{clock::TestClock, embedded::Embedded, model::Op};

const SECOND: u64 = 1_000_000_000;

struct Site {
    store: Arc<MemoryStore>,
    clock: Arc<TestClock>,
    host: Embedded,
    worker: String,
}

fn limits(rate: Option<(f64, u32)>, concurrency: Option<u32>) -> QueueLimits {
    QueueLimits { rate: rate.map(|(per_second, burst)| RateLimit { per_second, burst }), concurrency }
}

impl Site {
    /// A host with executions `w0`, `w1` .., each with one task for workers; their attempts may take a hundred seconds.
    async fn with_tasks(count: usize) -> Self {
        let (store, clock) = (Arc::new(MemoryStore::new()), Arc::new(TestClock::default()));
        let host = Embedded::start(store.clone(), clock.clone(), 1, EngineConfig::default()).await;
        let mut site = Self { store, clock, host, worker: String::new() };
        site.register();
        let retry = RetryPolicy { maximum_attempts: 2, initial_interval: 1, jitter: 0.0, ..RetryPolicy::default() };
        for n in 0..count {
            let start_to_close = Some(80 * SECOND);
            let options = ActivityOptions { retry: Some(retry.clone()), start_to_close, ..ActivityOptions::default() };
            let program = [Op::Offer { name: "remote-mail".into(), input: "1".into(), options }, Op::Await(0)];
            site.host.run(&format!("w{n}"), &program).await.expect("started");
        }
        site.backlog(count as u64).await;
        site
    }

    fn register(&mut self) {
        let request = RegisterRequest { identity: "me".into(), ..RegisterRequest::default() };
        self.worker = self.host.engine.register_worker(&Namespace::default(), request).expect("registered").id;
    }

    async fn limit(&self, limits: QueueLimits) -> QueueView {
        self.host.engine.limit_task_queue(&Namespace::default(), "default", limits).await.expect("limited")
    }

    fn queue(&self) -> QueueView {
        self.host.engine.task_queue(&Namespace::default(), "default").expect("a queue")
    }

    async fn backlog(&self, count: u64) {
        self.host.until("that many are ready", || async { self.queue().backlog == count }).await;
    }

    fn advance(&self, nanos: u64) {
        self.clock.advance(nanos.cast_signed());
        self.host.engine.poke_timers();
    }

    async fn poll(&self, wait: Duration, max_tasks: usize) -> Vec<ClaimedTask> {
        let request = PollRequest {
            namespace: Namespace::default(),
            task_queue: "default".into(),
            worker: self.worker.clone(),
            activities: None,
            max_tasks,
            wait,
        };
        self.host.engine.poll(request).await.expect("polled")
    }

    async fn now(&self) -> Vec<ClaimedTask> {
        self.poll(Duration::ZERO, 100).await
    }

    /// A poll that waits is served once `what` was done.
    async fn served_by(&self, what: impl Future<Output = ()>) -> ClaimedTask {
        let waits = async {
            self.host.until("it waits", || async { self.queue().pollers == 1 }).await;
            what.await;
        };
        let (mut tasks, ()) = tokio::join!(self.poll(Duration::from_secs(20), 1), waits);
        assert_eq!(tasks.len(), 1, "{tasks:?}");
        tasks.remove(0)
    }

    async fn complete(&self, task: &ClaimedTask) {
        let done = Report::Completed(Json::null());
        self.host.engine.report(&Namespace::default(), &task.token.to_string(), done).await.expect("accepted");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_have_no_more_at_once_than_allowed_and_every_permit_comes_back() {
    let mut site = Site::with_tasks(9).await;
    let view = site.limit(limits(None, Some(2))).await;
    assert_eq!((view.backlog, view.concurrency, view.rate, view.held_back), (9, Some(2), None, None));
    let mut held = site.now().await;
    assert_eq!((held.len(), site.queue().claimed, site.queue().held_back), (2, 2, Some(HeldBack::Concurrency)));
    assert!(site.now().await.is_empty());
    // Completed, failed for good, out of time, and a run that is closed.
    let first = held.remove(0);
    held.push(site.served_by(site.complete(&first)).await);
    let second = held.remove(0);
    let failure = relive_core::Failure::new(relive_core::FailureKind::Application, "no", "as told").permanent();
    let fails = async {
        let token = second.token.to_string();
        site.host.engine.report(&Namespace::default(), &token, Report::Failed(failure)).await.expect("accepted");
    };
    held.push(site.served_by(fails).await);
    let id = held.remove(0).execution.workflow_id;
    let ends = async {
        site.host.engine.terminate(Embedded::target(id.as_str()), "enough".into()).await.expect("terminated");
    };
    held.push(site.served_by(ends).await);
    assert_eq!(site.now().await.len(), 0);
    site.served_by(async { site.advance(81 * SECOND) }).await;
    // A worker that is lost.
    site.host.until("two are out", || async { site.queue().claimed == 2 || !site.now().await.is_empty() }).await;
    site.advance(50 * SECOND);
    site.host.engine.end_worker(&Namespace::default(), &site.worker).expect("ended");
    site.register();
    site.host.until("both are back", || async { site.queue().claimed == 0 }).await;
    site.backlog_is_done().await;
}

impl Site {
    /// What is left goes out, two at a time, and is completed.
    async fn backlog_is_done(&self) {
        let done = || async {
            self.advance(SECOND);
            let tasks = self.now().await;
            assert!(tasks.len() <= 2);
            for task in &tasks {
                self.complete(task).await;
            }
            self.queue().backlog == 0 && self.queue().claimed == 0
        };
        self.host.until("all are done", done).await;
        self.host.verify().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_go_out_no_faster_than_allowed() {
    let site = Site::with_tasks(6).await;
    site.limit(limits(Some((0.5, 2)), None)).await;
    assert_eq!((site.now().await.len(), site.queue().held_back), (2, Some(HeldBack::Rate)));
    site.advance(2 * SECOND - 1);
    assert!(site.now().await.is_empty());
    // The poll that waits is served when the token is there.
    site.served_by(async { site.advance(1) }).await;
    site.advance(60 * SECOND);
    assert_eq!(site.now().await.len(), 2, "no more than the burst");
    site.served_by(async { drop(site.limit(limits(None, None)).await) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_and_what_is_out_are_known_to_the_next_host() {
    let mut site = Site::with_tasks(5).await;
    site.limit(limits(None, Some(2))).await;
    let held = site.now().await;
    for epoch in [2, 3] {
        let (store, clock) = (site.store.clone(), site.clock.clone());
        site.host = Embedded::start(store, clock, epoch, EngineConfig::default()).await;
        site.register();
        // From the first moment on.
        assert!(site.now().await.is_empty());
        site.backlog(3).await;
        site.host.until("claims are known", || async { site.queue().held_back == Some(HeldBack::Concurrency) }).await;
        assert_eq!((site.queue().claimed, site.queue().concurrency), (2, Some(2)));
        assert!(site.now().await.is_empty());
    }
    let next = site.served_by(site.complete(&held[0])).await;
    site.complete(&held[1]).await;
    site.complete(&next).await;
    site.backlog_is_done().await;
    assert_eq!(site.host.ended("w0").await.status, Status::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_worker_learnt_of_elsewhere_is_held_to_the_limits() {
    let site = Site::with_tasks(3).await;
    // All of them fail once, so that their ids are known.
    let broken = || Report::Failed(relive_core::Failure::new(relive_core::FailureKind::Application, "broken", "once"));
    let mut runs = Vec::new();
    for task in site.now().await {
        let token = task.token.to_string();
        runs.extend(token.split('-').next().map(str::to_owned));
        site.host.engine.report(&Namespace::default(), &token, broken()).await.expect("accepted");
    }
    site.advance(SECOND);
    site.backlog(3).await;
    site.limit(limits(None, Some(1))).await;
    let first = site.now().await.remove(0);
    let run = |task: &ClaimedTask| task.token.to_string().split('-').next().expect("a run").to_owned();
    let claim = |task: String| {
        let (engine, worker) = (site.host.engine.clone(), site.worker.clone());
        async move { engine.claim_task(&Namespace::default(), &worker, &task).await }
    };
    let other = runs.into_iter().find(|other| *other != run(&first)).expect("another");
    let other = format!("{other}-1-2");
    assert_eq!(claim(other.clone()).await.expect_err("one is out").code, "queue-limited");
    site.backlog(2).await;
    site.complete(&first).await;
    let second = claim(other).await.expect("there is room");
    assert_eq!((site.queue().backlog, site.queue().claimed), (1, 1));
    site.complete(&second).await;
    let bad = site.host.engine.limit_task_queue(&Namespace::default(), "default", limits(Some((-1.0, 1)), None)).await;
    assert_eq!(bad.expect_err("no rate").code, "invalid-argument");
    site.backlog_is_done().await;
}
