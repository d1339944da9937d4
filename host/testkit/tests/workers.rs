//! Workers: tasks are claimed before they run, answered by token, tried again when their time is over or their worker
//! is lost, and nothing of it is lost with the host. On the test clock, over the memory store.

use std::{sync::Arc, time::Duration};

use relive_core::{
    Error, Failure, FailureKind, Json, Namespace,
    event::{Attributes, HistoryEvent, TimeoutType},
    options::{ActivityOptions, CancellationType},
    ports::Status,
    retry::RetryPolicy,
};
use relive_engine::{
    CacheLimits, ClaimedTask, EngineConfig, FailedTask, PendingState, PollRequest, RegisterRequest, Report, TaskChange,
    WorkerState,
};
use relive_store::MemoryStore;
use relive_testkit::{clock::TestClock, embedded::Embedded, model::Op};

const SECOND: u64 = 1_000_000_000;

struct Site {
    store: Arc<MemoryStore>,
    clock: Arc<TestClock>,
    host: Embedded,
    worker: String,
}

fn register(host: &Embedded, identity: &str) -> String {
    let request = RegisterRequest { identity: identity.into(), ..RegisterRequest::default() };
    host.engine.register_worker(&Namespace::default(), request).expect("registered").id
}

fn json(text: &str) -> Json {
    Json::parse(text).expect("JSON")
}

fn broken() -> Report {
    Report::Failed(Failure::new(FailureKind::Application, "broken", "as told"))
}

/// An activity of workers, with these options.
fn offer(options: ActivityOptions) -> Op {
    Op::Offer { name: "remote-mail".into(), input: r#"{"to":"Ada"}"#.into(), options }
}

fn retries(attempts: u32) -> ActivityOptions {
    let retry = RetryPolicy { maximum_attempts: attempts, initial_interval: SECOND, jitter: 0.0, ..Default::default() };
    ActivityOptions { retry: Some(retry), ..ActivityOptions::default() }
}

impl Site {
    async fn new() -> Self {
        Self::with(EngineConfig::default()).await
    }

    async fn with(config: EngineConfig) -> Self {
        let (store, clock) = (Arc::new(MemoryStore::new()), Arc::new(TestClock::default()));
        let host = Embedded::start(store.clone(), clock.clone(), 1, config).await;
        let worker = register(&host, "first");
        Self { store, clock, host, worker }
    }

    /// The host dies without a word, and another takes over.
    async fn restart(&mut self, epoch: u64) {
        self.host = Embedded::start(self.store.clone(), self.clock.clone(), epoch, EngineConfig::default()).await;
    }

    fn advance(&self, nanos: u64) {
        self.clock.advance(nanos.cast_signed());
        self.host.engine.poke_timers();
    }

    async fn poll_for(&self, worker: &str, wait: Duration, max_tasks: usize) -> Result<Vec<ClaimedTask>, Error> {
        let request = PollRequest {
            namespace: Namespace::default(),
            task_queue: "default".into(),
            worker: worker.into(),
            activities: None,
            max_tasks,
            wait,
        };
        self.host.engine.poll(request).await
    }

    /// The one task that is ready, or becomes ready.
    async fn take(&self) -> ClaimedTask {
        let mut tasks = self.poll_for(&self.worker, Duration::from_secs(20), 10).await.expect("polled");
        assert_eq!(tasks.len(), 1, "{tasks:?}");
        tasks.remove(0)
    }

    async fn nothing_is_ready(&self) {
        assert!(self.poll_for(&self.worker, Duration::ZERO, 10).await.expect("polled").is_empty());
    }

    async fn report(&self, task: &ClaimedTask, report: Report) -> Result<(), Error> {
        self.host.engine.report(&Namespace::default(), &task.token.to_string(), report).await
    }

    async fn beat(&self, task: &ClaimedTask, details: Option<&str>) -> relive_engine::Beat {
        let details = details.map(json);
        self.host.engine.beat(&Namespace::default(), &task.token.to_string(), details, false).await.expect("heard")
    }

    async fn history(&self, id: &str) -> Vec<HistoryEvent> {
        self.host.engine.history(Embedded::target(id), 1, 1000).await.expect("a history").events
    }

    async fn until_event(&self, id: &str, what: &str, is: impl Fn(&Attributes) -> bool) {
        let found = || async { self.history(id).await.iter().any(|e| is(&e.body.attributes)) };
        self.host.until(what, found).await;
    }

    /// The execution's end, a valid history, and a guest that relives to the same.
    async fn ended(&self, id: &str) -> Status {
        let status = self.host.ended(id).await.status;
        self.host.verify().await;
        let replay = self.host.engine.replay(Embedded::target(id), None, None).await.expect("a report");
        assert!(replay.agrees, "{replay:?}");
        status
    }

    async fn timed_out(&self, id: &str) -> Option<(TimeoutType, u32)> {
        self.history(id).await.iter().find_map(|e| match &e.body.attributes {
            Attributes::TaskTimedOut(t) => Some((t.timeout, t.attempt)),
            _ => None,
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_takes_a_task_and_answers() {
    let site = Site::new().await;
    site.host.run("w", &[offer(ActivityOptions::default()), Op::Await(0)]).await.expect("started");
    let task = site.take().await;
    assert_eq!((&*task.activity, &*task.task_queue, task.attempt), ("remote-mail", "default", 1));
    assert_eq!(task.input.as_str(), r#"{"to":"Ada"}"#);
    // Claimed before it runs: the history says so already.
    let started = site
        .history("w")
        .await
        .iter()
        .any(|e| matches!(&e.body.attributes, Attributes::TaskStarted(s) if &*s.worker == "first"));
    assert!(started);
    let queue = site.host.engine.task_queue(&Namespace::default(), "default").expect("a queue");
    assert_eq!((queue.backlog, queue.claimed, queue.added, queue.dispatched), (0, 1, 1, 1));
    assert_eq!(site.host.engine.workers(&Namespace::default())[0].state, WorkerState::Busy);
    site.nothing_is_ready().await;
    site.report(&task, Report::Completed(json("42"))).await.expect("accepted");
    assert_eq!(site.ended("w").await, Status::Completed);
    // The retry of an answer whose acknowledgement was lost is accepted; another answer is not.
    site.report(&task, Report::Completed(json("42"))).await.expect("the same");
    let other = site.report(&task, Report::Completed(json("43"))).await.expect_err("another");
    assert_eq!(other.code, "superseded");
    assert_eq!(site.report(&task, broken()).await.expect_err("another").code, "superseded");
    let queue = site.host.engine.task_queue(&Namespace::default(), "default").expect("a queue");
    assert_eq!((queue.backlog, queue.claimed), (0, 0));
    assert_eq!(site.host.engine.workers(&Namespace::default())[0].state, WorkerState::Ready);
}

#[tokio::test(flavor = "multi_thread")]
async fn polls_that_wait_share_what_becomes_ready() {
    let site = Site::new().await;
    let polls = (0..8).map(|_| site.poll_for(&site.worker, Duration::from_secs(20), 1));
    let polls = futures_util::future::join_all(polls);
    let starts = async {
        for n in 0..8 {
            let program = [offer(ActivityOptions::default()), Op::Await(0)];
            site.host.run(&format!("w{n}"), &program).await.expect("started");
        }
    };
    let (polled, ()) = tokio::join!(polls, starts);
    let tasks: Vec<ClaimedTask> = polled.into_iter().flat_map(|p| p.expect("polled")).collect();
    let mut ids: Vec<String> = tasks.iter().map(|t| t.execution.workflow_id.to_string()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!((tasks.len(), ids.len()), (8, 8), "each got one, and no two the same");
    for task in &tasks {
        site.report(task, Report::Completed(json("1"))).await.expect("accepted");
    }
    for n in 0..8 {
        assert_eq!(site.ended(&format!("w{n}")).await, Status::Completed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_attempt_is_followed_by_another_that_knows_how_far_it_came() {
    let site = Site::new().await;
    site.host.run("w", &[offer(retries(2)), Op::Await(0)]).await.expect("started");
    let first = site.take().await;
    assert!(first.details.is_none());
    let beat = site.beat(&first, Some(r#"{"done":7}"#)).await;
    assert!(!beat.cancel_requested && !beat.gone);
    site.report(&first, broken()).await.expect("accepted");
    // Not before the policy's interval.
    site.nothing_is_ready().await;
    site.advance(SECOND);
    let second = site.take().await;
    assert_eq!((second.attempt, second.details.as_ref().map(Json::as_str)), (2, Some(r#"{"done":7}"#)));
    assert_eq!(second.execution.idempotency_key(second.command_no), first.execution.idempotency_key(first.command_no));
    // The first is not awaited any more.
    let late = site.report(&first, Report::Completed(json("1"))).await.expect_err("superseded");
    assert_eq!(late.code, "superseded");
    assert!(site.beat(&first, None).await.gone);
    site.report(&second, broken()).await.expect("accepted");
    site.until_event("w", "the last attempt failed", |a| matches!(a, Attributes::TaskFailed(f) if f.attempt == 2))
        .await;
    site.ended("w").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_open_nothing_else() {
    let site = Site::new().await;
    site.host.run("w", &[offer(ActivityOptions::default()), Op::Await(0)]).await.expect("started");
    let task = site.take().await;
    let token = task.token.to_string();
    let mut forged = token.clone();
    let last = if forged.ends_with('0') { "1" } else { "0" };
    forged.replace_range(forged.len() - 1.., last);
    let other = Namespace::new("other").expect("a name");
    let report = |namespace: Namespace, token: String| {
        let engine = site.host.engine.clone();
        async move { engine.report(&namespace, &token, Report::Completed(json("1"))).await.expect_err("refused").code }
    };
    let here = Namespace::default;
    let later = token.replacen("-1-1-", "-1-2-", 1);
    let elsewhere = token.replacen(token.split('-').next().expect("a run"), "ffff", 1);
    for (namespace, token) in
        [(here(), forged), (other, token.clone()), (here(), "junk".into()), (here(), later), (here(), elsewhere)]
    {
        assert_eq!(report(namespace, token.clone()).await, "unknown-task", "{token}");
    }
    let unknown = site.poll_for("nobody", Duration::ZERO, 1).await.expect_err("refused");
    assert_eq!(unknown.code, "unknown-worker");
    site.report(&task, Report::Completed(json("1"))).await.expect("it is still the worker's");
    site.ended("w").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_the_four_deadlines_passes_when_it_should() {
    let site = Site::new().await;
    let program = |options: ActivityOptions| [offer(options), Op::Await(0)];
    let to_start = ActivityOptions { schedule_to_start: Some(5 * SECOND), ..retries(3) };
    site.host.run("start", &program(to_start)).await.expect("started");
    site.advance(5 * SECOND - 1);
    assert_eq!(site.timed_out("start").await, None);
    site.advance(1);
    site.ended("start").await;
    assert_eq!(site.timed_out("start").await, Some((TimeoutType::ScheduleToStart, 1)), "and is not tried again");
    site.nothing_is_ready().await;

    let to_close = ActivityOptions { start_to_close: Some(3 * SECOND), ..retries(2) };
    site.host.run("close", &program(to_close)).await.expect("started");
    let first = site.take().await;
    site.advance(3 * SECOND);
    site.until_retry(SECOND).await;
    let second = site.take().await;
    assert_eq!(second.attempt, 2);
    assert_eq!(site.report(&first, Report::Completed(json("1"))).await.expect_err("late").code, "superseded");
    site.advance(3 * SECOND);
    site.ended("close").await;
    assert_eq!(site.timed_out("close").await, Some((TimeoutType::StartToClose, 2)));

    let beating = ActivityOptions { heartbeat_timeout: Some(2 * SECOND), ..retries(1) };
    site.host.run("beat", &program(beating)).await.expect("started");
    let task = site.take().await;
    for _ in 0..5 {
        site.advance(2 * SECOND - 1);
        assert!(!site.beat(&task, None).await.gone);
    }
    site.advance(2 * SECOND);
    // Nobody answered the last attempt: an operator decides, and the workflow learns of the deadline only then.
    site.until_event("beat", "it is exhausted", |a| matches!(a, Attributes::TaskExhausted(_))).await;
    assert_eq!(site.timed_out("beat").await, None);
    site.give_up("beat").await.expect("recorded");
    site.ended("beat").await;
    assert_eq!(site.timed_out("beat").await, Some((TimeoutType::Heartbeat, 1)));

    let all = ActivityOptions { schedule_to_close: Some(10 * SECOND), ..retries(0) };
    site.host.run("all", &program(all)).await.expect("started");
    let task = site.take().await;
    site.report(&task, broken()).await.expect("accepted");
    site.advance(SECOND);
    site.take().await;
    site.advance(9 * SECOND);
    site.ended("all").await;
    assert_eq!(site.timed_out("all").await.map(|(t, _)| t), Some(TimeoutType::ScheduleToClose));
}

impl Site {
    /// The time of the next attempt comes, which the retry of a timed out one only now sets.
    async fn until_retry(&self, interval: u64) {
        let ready = || async {
            self.advance(interval / 10);
            self.host.engine.task_queue(&Namespace::default(), "default").expect("a queue").backlog > 0
        };
        self.host.until("the next attempt is ready", ready).await;
    }
}

impl Site {
    /// Each attempt takes its worker down: nobody hears of it for three beats.
    async fn exhaust(&self, id: &str, attempts: u32) -> ClaimedTask {
        let mut last = None;
        for attempt in 1..=attempts {
            let worker = register(&self.host, &format!("victim-{attempt}"));
            let ready = || async {
                self.advance(SECOND / 10);
                self.host.engine.task_queue(&Namespace::default(), "default").expect("a queue").backlog > 0
            };
            self.host.until("it is ready", ready).await;
            let task = self.poll_for(&worker, Duration::ZERO, 1).await.expect("polled").remove(0);
            assert_eq!(task.attempt, attempt);
            self.advance(91 * SECOND);
            let lost = || async {
                let workers = self.host.engine.workers(&Namespace::default());
                workers.iter().any(|w| w.id == worker && w.state == WorkerState::Terminated && w.ended == Some("lost"))
            };
            self.host.until("the worker is lost", lost).await;
            last = Some(task);
        }
        let held = |a: &Attributes| matches!(a, Attributes::TaskExhausted(e) if e.attempts == attempts);
        self.until_event(id, "it is exhausted", held).await;
        last.expect("an attempt")
    }

    async fn failed(&self, queue: Option<&str>) -> Vec<FailedTask> {
        let queue = queue.map(str::to_owned);
        self.host.engine.failed_tasks(Namespace::default(), queue, None, 10).await.expect("a page").failed_tasks
    }

    async fn redrive(&self, id: &str) -> Result<(), Error> {
        self.host.engine.redrive(Embedded::target(id), 1, "the fault is mended".into()).await
    }

    async fn give_up(&self, id: &str) -> Result<(), Error> {
        self.host.engine.give_up(Embedded::target(id), 1, "not worth it".into()).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poison_task_is_held_and_begins_again_when_an_operator_says_so() {
    let mut site = Site::new().await;
    site.host.run("w", &[offer(retries(3)), Op::Await(0)]).await.expect("started");
    assert_eq!(site.redrive("w").await.expect_err("its attempts go on").code, "not-exhausted");
    let last = site.exhaust("w", 3).await;
    let told = site.host.engine.status().workers;
    assert!(told.lost >= 3 && told.attempts_given_back == 3, "{told:?}");
    let failed = site.failed(None).await;
    assert_eq!((failed.len(), failed[0].attempts, &*failed[0].last_failure.code), (1, 3, "worker-lost"));
    assert_eq!((&*failed[0].workflow_id, failed[0].input.as_str()), ("w", r#"{"to":"Ada"}"#));
    assert_eq!((site.failed(Some("default")).await.len(), site.failed(Some("other")).await.len()), (1, 0));
    let shown = site.host.engine.show(Embedded::target("w")).await.expect("shown");
    assert_eq!((shown.steps[0].state, shown.steps[0].attempts), ("exhausted", 3));
    assert!(
        shown.waits_for[0].contains("failed-tasks redrive") && shown.waits_for[0].contains("worker-lost"),
        "{shown:?}"
    );
    let page = site.host.engine.pending_activities(Namespace::default(), None, None, 10).await.expect("a page");
    assert_eq!(page.activities[0].state, PendingState::Exhausted);
    // Nothing begins by itself: not with time, and not with another host.
    for epoch in [2, 3] {
        site.advance(10_000 * SECOND);
        site.worker = register(&site.host, "well");
        site.nothing_is_ready().await;
        site.host.verify().await;
        site.restart(epoch).await;
    }
    let known = || async { site.failed(None).await.len() == 1 };
    site.host.until("the other host knows", known).await;
    let late = site.report(&last, Report::Completed(json("1"))).await.expect_err("too late");
    assert_eq!(late.code, "superseded");
    site.redrive("w").await.expect("recorded");
    assert_eq!(site.redrive("w").await.expect_err("once is enough").code, "not-exhausted");
    assert!(site.failed(None).await.is_empty());
    site.worker = register(&site.host, "well");
    let again = site.take().await;
    assert_eq!(again.attempt, 1);
    assert_eq!(again.execution.idempotency_key(again.command_no), last.execution.idempotency_key(last.command_no));
    site.report(&again, Report::Completed(json("2"))).await.expect("accepted");
    assert_eq!(site.ended("w").await, Status::Completed);
    assert_eq!(site.redrive("w").await.expect_err("it is over").code, "closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_up_fails_as_its_last_attempt_did() {
    let site = Site::new().await;
    site.host.run("w", &[offer(retries(2)), Op::Await(0), Op::Message("end".into()), Op::Await(1)]).await.expect("run");
    site.exhaust("w", 2).await;
    site.give_up("w").await.expect("recorded");
    let history = site.history("w").await;
    let of = |name: &str| history.iter().position(|e| e.event_type().name() == name).expect("an event");
    assert!(of("TaskExhausted") < of("CommandIssued") && of("CommandIssued") + 1 == of("TaskFailed"));
    let failed = history.into_iter().find_map(|e| match e.body.attributes {
        Attributes::TaskFailed(f) => Some((f.attempt, f.failure.code)),
        _ => None,
    });
    assert_eq!(failed, Some((2, "worker-lost".to_owned())));
    assert_eq!(site.give_up("w").await.expect_err("it is resolved").code, "unknown-step");
    site.host.send("w", "end", "m", "1").await.expect("sent");
    site.ended("w").await;
    assert!(site.failed(None).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_keeps_its_deadline_and_can_be_canceled() {
    let site = Site::new().await;
    let bounded = ActivityOptions { schedule_to_close: Some(1_000 * SECOND), ..retries(1) };
    site.host.run("bounded", &[offer(bounded), Op::Await(0)]).await.expect("started");
    site.exhaust("bounded", 1).await;
    site.advance(1_000 * SECOND);
    site.ended("bounded").await;
    let last = site.history("bounded").await.into_iter().find_map(|e| match e.body.attributes {
        Attributes::TaskTimedOut(t) => Some((t.timeout, t.last_failure.expect("a failure").code)),
        _ => None,
    });
    assert_eq!(last, Some((TimeoutType::ScheduleToClose, "worker-lost".to_owned())));
    let options = ActivityOptions { cancellation: CancellationType::Wait, ..retries(1) };
    let program = [offer(options), Op::Message("go".into()), Op::Await(1), Op::Cancel(0), Op::Message("end".into())];
    site.host.run("canceled", &[&program[..], &[Op::Await(2)]].concat()).await.expect("started");
    site.exhaust("canceled", 1).await;
    site.host.send("canceled", "go", "m", "1").await.expect("sent");
    site.until_event("canceled", "it is canceled", |a| matches!(a, Attributes::TaskCanceled(_))).await;
    site.host.send("canceled", "end", "n", "1").await.expect("sent");
    site.ended("canceled").await;
    // An operator may also begin it anew, or end it all.
    site.host.run("reset", &[offer(retries(1)), Op::Await(0)]).await.expect("started");
    site.exhaust("reset", 1).await;
    let anew = TaskChange::Reset { keep_details: false };
    site.host.engine.change_activity(Embedded::target("reset"), 1, anew, String::new()).await.expect("reset");
    site.exhaust("reset", 1).await;
    site.host.verify().await;
    site.host.engine.terminate(Embedded::target("reset"), "enough".into()).await.expect("terminated");
    assert!(site.failed(None).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_activity_that_ends_its_host_each_time_is_held_too() {
    let mut site = Site::new().await;
    let program = [Op::Offer { name: "hang".into(), input: "1".into(), options: retries(2) }, Op::Await(0)];
    site.host.run("w", &program).await.expect("started");
    for epoch in [2, 3] {
        site.restart(epoch).await;
    }
    site.until_event("w", "it is exhausted", |a| matches!(a, Attributes::TaskExhausted(_))).await;
    let failed = site.failed(None).await;
    assert_eq!((failed[0].attempts, &*failed[0].last_failure.code, &failed[0].task_queue), (2, "attempt-lost", &None));
    // A crash is none of its attempts now.
    site.restart(4).await;
    assert_eq!(site.failed(None).await[0].attempts, 2);
    site.redrive("w").await.expect("recorded");
    let begun = || async { site.host.sink.attempts().values().sum::<u32>() == 1 };
    site.host.until("its first attempt runs", begun).await;
    site.host.engine.terminate(Embedded::target("w"), "enough".into()).await.expect("terminated");
    site.host.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_stops_gives_back_what_it_has() {
    let site = Site::new().await;
    site.host.run("w", &[offer(retries(2)), Op::Await(0)]).await.expect("started");
    let task = site.take().await;
    site.host.engine.end_worker(&Namespace::default(), &site.worker).expect("ended");
    site.until_retry(SECOND).await;
    let second = register(&site.host, "second");
    let tasks = site.poll_for(&second, Duration::ZERO, 1).await.expect("polled");
    assert_eq!(tasks[0].attempt, 2);
    assert_eq!(site.report(&task, Report::Completed(json("1"))).await.expect_err("late").code, "superseded");
    site.report(&tasks[0], Report::Completed(json("2"))).await.expect("accepted");
    assert_eq!(site.ended("w").await, Status::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancellation_reaches_the_worker_with_its_heartbeat() {
    let site = Site::new().await;
    let canceled = |cancellation| {
        let options = ActivityOptions { cancellation, ..retries(0) };
        let more = [Op::Message("end".into()), Op::Await(2)];
        let program = [offer(options), Op::Message("go".into()), Op::Await(1), Op::Cancel(0)];
        program.into_iter().chain(more).collect::<Vec<_>>()
    };
    site.host.run("wait", &canceled(CancellationType::Wait)).await.expect("started");
    let task = site.take().await;
    assert!(!site.beat(&task, None).await.cancel_requested);
    site.host.send("wait", "go", "m", "1").await.expect("sent");
    let asked = || async { site.beat(&task, None).await.cancel_requested };
    site.host.until("the worker is asked to stop", asked).await;
    assert!(!site.beat(&task, None).await.gone, "its answer is awaited");
    site.report(&task, Report::Canceled).await.expect("accepted");
    site.host.send("wait", "end", "n", "1").await.expect("sent");
    site.ended("wait").await;
    let history = site.history("wait").await;
    assert!(history.iter().any(|e| matches!(e.body.attributes, Attributes::TaskCanceled(_))));

    // What is given up without waiting is gone.
    site.host.run("try", &canceled(CancellationType::Try)).await.expect("started");
    let task = site.take().await;
    site.host.send("try", "go", "m", "1").await.expect("sent");
    site.host.until("nobody waits", || async { site.beat(&task, None).await.gone }).await;
    assert_eq!(site.report(&task, Report::Completed(json("1"))).await.expect_err("too late").code, "superseded");
    site.host.send("try", "end", "n", "1").await.expect("sent");
    site.ended("try").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_and_queues_outlive_the_host() {
    let mut site = Site::new().await;
    let beating = ActivityOptions { heartbeat_timeout: Some(5 * SECOND), ..retries(2) };
    let program = [offer(beating), offer(retries(1)), Op::Await(0), Op::Await(1)];
    site.host.run("w", &program).await.expect("started");
    let claimed = site.poll_for(&site.worker, Duration::from_secs(20), 1).await.expect("polled").remove(0);
    site.beat(&claimed, Some("7")).await;
    for epoch in 2..5 {
        // Nobody can beat while there is no host: that time does not count.
        site.clock.advance((60 * SECOND).cast_signed());
        site.restart(epoch).await;
    }
    // The host counted no attempt: the one is the worker's still, the other was never begun.
    let back =
        || async { site.host.engine.task_queue(&Namespace::default(), "default").expect("a queue").backlog == 1 };
    site.host.until("the task is back in its queue", back).await;
    assert_eq!(site.poll_for(&site.worker, Duration::ZERO, 1).await.expect_err("forgotten").code, "unknown-worker");
    let request =
        RegisterRequest { identity: "again".into(), replaces: Some(site.worker.clone()), ..RegisterRequest::default() };
    site.worker = site.host.engine.register_worker(&Namespace::default(), request).expect("registered").id;
    let other = site.take().await;
    assert_eq!((other.command_no, other.attempt), (2, 1));
    site.report(&claimed, Report::Completed(json("1"))).await.expect("its token is good");
    site.report(&other, Report::Completed(json("2"))).await.expect("accepted");
    assert_eq!(site.ended("w").await, Status::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_died_with_the_host_is_lost_too() {
    let mut site = Site::new().await;
    site.host.run("w", &[offer(retries(2)), Op::Await(0)]).await.expect("started");
    let claimed = site.take().await;
    site.beat(&claimed, Some("7")).await;
    site.restart(2).await;
    let known = || async { site.host.engine.workers(&Namespace::default()).iter().any(|w| w.id == site.worker) };
    site.host.until("the claim was found", known).await;
    site.advance(91 * SECOND);
    site.until_retry(SECOND).await;
    site.worker = register(&site.host, "second");
    let again = site.take().await;
    assert_eq!((again.attempt, again.details.as_ref().map(Json::as_str)), (2, Some("7")));
    site.report(&again, Report::Completed(json("1"))).await.expect("accepted");
    site.ended("w").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_may_come_from_elsewhere_whatever_becomes_of_the_worker() {
    let site = Site::new().await;
    site.host.run("w", &[offer(retries(1)), Op::Await(0)]).await.expect("started");
    let task = site.take().await;
    let token = task.token.to_string();
    site.host.engine.beat(&Namespace::default(), &token, None, true).await.expect("deferred");
    site.host.engine.end_worker(&Namespace::default(), &site.worker).expect("ended");
    site.advance(200 * SECOND);
    site.report(&task, Report::Completed(json("1"))).await.expect("accepted");
    assert_eq!(site.ended("w").await, Status::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn executions_whose_tasks_wait_are_not_kept_in_memory() {
    let cache = CacheLimits { memory_bytes: 1, maps: 1 };
    let site = Site::with(EngineConfig { cache, sweep_every: Duration::from_millis(20), ..Default::default() }).await;
    for n in 0..50 {
        // What is random stands in the guest's memory, which is empty otherwise.
        let program = [Op::Random, offer(retries(1)), Op::Await(0)];
        site.host.run(&format!("w{n}"), &program).await.expect("started");
    }
    // The last one is always kept.
    let backlog = || site.host.engine.task_queue(&Namespace::default(), "default").expect("a queue").backlog;
    let idle = || async { site.host.engine.status().cells <= 1 && backlog() == 50 };
    site.host.until("the others are not in memory", idle).await;
    let tasks = site.poll_for(&site.worker, Duration::ZERO, 100).await.expect("polled");
    assert_eq!(tasks.len(), 50);
    let status = site.host.engine.status();
    assert_eq!((status.relives, status.images.laid), (0, 0), "nobody was woken for that");
    for task in &tasks {
        site.report(task, Report::Completed(json("1"))).await.expect("accepted");
    }
    for n in 0..50 {
        assert_eq!(site.ended(&format!("w{n}")).await, Status::Completed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_of_what_somebody_has_is_busy() {
    let site = Site::new().await;
    site.host.run("w", &[offer(retries(2)), Op::Await(0)]).await.expect("started");
    let task = site.take().await;
    let id = task.token.to_string().rsplit_once('-').expect("a token").0.to_owned();
    let claim = |id: String| {
        let engine = site.host.engine.clone();
        let worker = site.worker.clone();
        async move { engine.claim_task(&Namespace::default(), &worker, &id).await }
    };
    assert_eq!(claim(id.clone()).await.expect_err("taken").code, "busy");
    site.report(&task, broken()).await.expect("accepted");
    assert_eq!(claim(id.clone()).await.expect_err("over").code, "superseded");
    assert_eq!(claim("ffff-1-1".into()).await.expect_err("no such run").code, "unknown-task");
    let next = format!("{}-2", id.rsplit_once('-').expect("an id").0);
    let second = claim(next).await.expect("it is the next attempt, learnt of elsewhere");
    site.report(&second, Report::Completed(json("1"))).await.expect("accepted");
    assert_eq!(site.ended("w").await, Status::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_pause_reset_and_change_what_is_not_resolved() {
    let site = Site::new().await;
    let engine = &site.host.engine;
    let change = |no, change| engine.change_activity(Embedded::target("w"), no, change, "because".into());
    site.host.run("w", &[offer(retries(2)), Op::Await(0)]).await.expect("started");
    let ready = || async { engine.task_queue(&Namespace::default(), "default").expect("a queue").backlog == 1 };
    site.host.until("it is ready", ready).await;
    change(1, TaskChange::Pause).await.expect("paused");
    site.nothing_is_ready().await;
    let page = engine.pending_activities(Namespace::default(), None, None, 10).await.expect("a page");
    assert_eq!((page.activities.len(), page.activities[0].state), (1, PendingState::Paused));
    change(1, TaskChange::Resume).await.expect("resumed");
    let first = site.take().await;
    site.beat(&first, Some("7")).await;
    site.report(&first, broken()).await.expect("accepted");
    // Anew: at once, from the first attempt, and the former one is worth nothing.
    change(1, TaskChange::Reset { keep_details: true }).await.expect("reset");
    let anew = site.take().await;
    assert_eq!((anew.attempt, anew.details.as_ref().map(Json::as_str)), (1, Some("7")));
    assert!(site.report(&first, broken()).await.is_err());
    // More time, given while a worker has it.
    engine.beat(&Namespace::default(), &anew.token.to_string(), None, true).await.expect("deferred");
    site.advance(200 * SECOND);
    let mut options = engine.activity_options(Embedded::target("w"), 1).await.expect("options");
    options.start_to_close = Some(1_000 * SECOND);
    change(1, TaskChange::Update(options)).await.expect("changed");
    site.advance(400 * SECOND);
    assert!(!site.beat(&anew, None).await.gone, "start-to-close was put off");
    let unknown = change(9, TaskChange::Pause).await.expect_err("no such step");
    assert_eq!(unknown.code, "unknown-step");
    engine.terminate(Embedded::target("w"), "enough".into()).await.expect("terminated");
    assert_eq!(change(1, TaskChange::Pause).await.expect_err("it has ended").code, "closed");
    let issued = site.history("w").await;
    let names: Vec<String> = issued
        .iter()
        .filter_map(|e| match &e.body.attributes {
            Attributes::CommandIssued(c) => Some(c.name.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(names, ["activity.pause", "activity.resume", "activity.reset", "activity.update"]);
    site.host.verify().await;
}
