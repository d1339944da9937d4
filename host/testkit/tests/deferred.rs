//! Attempts that the host began and that somebody else answers, by token: before the call has ended or long after it,
//! across the death of the host, within the attempt's deadlines. On the test clock, over the memory store.

use std::sync::Arc;

use relive_core::{
    Error, Failure, FailureKind, Json, Namespace,
    event::{Attributes, HistoryEvent, TimeoutType},
    options::{ActivityOptions, CancellationType},
    ports::Status,
    retry::RetryPolicy,
};
use relive_engine::{Beat, EngineConfig, PendingActivity, PendingState, Report, TaskChange};
use relive_store::MemoryStore;
use relive_testkit::{clock::TestClock, embedded::Embedded, model::Op};

const SECOND: u64 = 1_000_000_000;

struct Site {
    store: Arc<MemoryStore>,
    clock: Arc<TestClock>,
    host: Embedded,
}

fn json(text: &str) -> Json {
    Json::parse(text).expect("JSON")
}

fn done(text: &str) -> Report {
    Report::Completed(json(text))
}

/// One activity of this name, awaited.
fn program(name: &str, options: ActivityOptions) -> [Op; 2] {
    [Op::Offer { name: name.into(), input: "1".into(), options }, Op::Await(0)]
}

/// A heartbeat that does not come is the workflow's to hear, not an operator's.
fn retries(attempts: u32) -> ActivityOptions {
    let retry = RetryPolicy {
        maximum_attempts: attempts,
        initial_interval: 1,
        jitter: 0.0,
        non_retryable_codes: vec!["heartbeat".to_owned()],
        ..Default::default()
    };
    ActivityOptions { retry: Some(retry), ..ActivityOptions::default() }
}

impl Site {
    async fn new() -> Self {
        let (store, clock) = (Arc::new(MemoryStore::new()), Arc::new(TestClock::default()));
        let host = Embedded::start(store.clone(), clock.clone(), 1, EngineConfig::default()).await;
        Self { store, clock, host }
    }

    /// The host dies without a word, and another takes over.
    async fn restart(&mut self) {
        self.host = Embedded::start(self.store.clone(), self.clock.clone(), 2, EngineConfig::default()).await;
    }

    fn advance(&self, nanos: u64) {
        self.clock.advance(nanos.cast_signed());
        self.host.engine.poke_timers();
    }

    /// The token of the `n`th attempt that this host made.
    async fn token(&self, n: usize) -> String {
        self.host.until("the attempt is made", || async { self.host.sink.tokens().len() >= n }).await;
        self.host.sink.tokens()[n - 1].clone()
    }

    async fn pending(&self) -> Vec<PendingActivity> {
        let page = self.host.engine.pending_activities(Namespace::default(), None, None, 10).await;
        page.expect("a page").activities
    }

    /// The attempt was taken on, and that is durable.
    async fn accepted(&self) {
        let running = || async { self.pending().await.iter().any(|a| a.state == PendingState::Running) };
        self.host.until("the attempt is taken on", running).await;
    }

    async fn report(&self, token: &str, report: Report) -> Result<(), Error> {
        self.host.engine.report(&Namespace::default(), token, report).await
    }

    async fn refused(&self, token: &str) -> &'static str {
        self.report(token, done("0")).await.expect_err("refused").code
    }

    async fn beat(&self, token: &str, details: Option<&str>) -> Beat {
        self.host.engine.beat(&Namespace::default(), token, details.map(json), false).await.expect("heard")
    }

    async fn history(&self, id: &str) -> Vec<HistoryEvent> {
        self.host.engine.history(Embedded::target(id), 1, 1000).await.expect("a history").events
    }

    async fn result(&self, id: &str) -> Option<(u32, String)> {
        self.history(id).await.into_iter().find_map(|e| match e.body.attributes {
            Attributes::TaskCompleted(c) => Some((c.attempt, c.result.as_str().to_owned())),
            _ => None,
        })
    }

    async fn timed_out(&self, id: &str) -> Option<(TimeoutType, u32)> {
        self.history(id).await.iter().find_map(|e| match &e.body.attributes {
            Attributes::TaskTimedOut(t) => Some((t.timeout, t.attempt)),
            _ => None,
        })
    }

    async fn ended(&self, id: &str) -> Status {
        let status = self.host.ended(id).await.status;
        self.host.verify().await;
        let replay = self.host.engine.replay(Embedded::target(id), None, None).await.expect("a report");
        assert!(replay.agrees, "{replay:?}");
        status
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_was_taken_on_is_answered_later() {
    let site = Site::new().await;
    site.host.run("w", &program("accept", retries(1))).await.expect("started");
    let token = site.token(1).await;
    site.accepted().await;
    site.advance(299 * SECOND);
    assert_eq!((site.pending().await[0].attempt, site.pending().await[0].worker.as_deref()), (1, None));
    let who = site.history("w").await.into_iter().find_map(|e| match e.body.attributes {
        Attributes::TaskStarted(s) => Some((s.attempt, s.worker.to_string())),
        _ => None,
    });
    assert_eq!(who, Some((1, "somebody".to_owned())));
    site.report(&token, done("42")).await.expect("effective");
    assert_eq!(site.ended("w").await, Status::Completed);
    assert_eq!(site.result("w").await, Some((1, "42".to_owned())));
    site.report(&token, done("42")).await.expect("the same once more");
    assert_eq!(site.refused(&token).await, "superseded");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_may_come_before_the_call_has_ended() {
    let site = Site::new().await;
    site.host.run("w", &program("hang", retries(1))).await.expect("started");
    let token = site.token(1).await;
    assert!(!site.beat(&token, Some("7")).await.gone);
    site.report(&token, done("42")).await.expect("effective");
    assert_eq!(site.ended("w").await, Status::Completed);
    assert_eq!(site.result("w").await, Some((1, "42".to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_on_outlives_the_host() {
    let mut site = Site::new().await;
    site.host.run("w", &program("accept", retries(3))).await.expect("started");
    site.host.run("lost", &program("hang", retries(3))).await.expect("started");
    site.accepted().await;
    site.host.until("both calls are made", || async { site.host.sink.tokens().len() == 2 }).await;
    let tokens = site.host.sink.tokens();
    site.restart().await;
    // What was only on its way is repeated, and the former attempt is worth nothing.
    site.token(1).await;
    let attempts = site.pending().await.into_iter().map(|a| (a.workflow_id, a.attempt)).collect::<Vec<_>>();
    assert_eq!(attempts, [("w".to_owned(), 1), ("lost".to_owned(), 2)]);
    let mut codes = Vec::new();
    for token in &tokens {
        codes.push(site.report(token, done("42")).await.err().map(|e| e.code));
    }
    codes.sort_unstable();
    assert_eq!(codes, [None, Some("superseded")]);
    assert_eq!(site.ended("w").await, Status::Completed);
    assert_eq!(site.result("w").await, Some((1, "42".to_owned())));
    site.report(&site.token(1).await, done("43")).await.expect("effective");
    site.ended("lost").await;
    assert_eq!(site.result("lost").await, Some((2, "43".to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn its_deadlines_go_on_to_count() {
    let mut site = Site::new().await;
    let close = ActivityOptions { start_to_close: Some(3 * SECOND), ..retries(2) };
    site.host.run("close", &program("accept", close)).await.expect("started");
    let first = site.token(1).await;
    site.accepted().await;
    site.advance(3 * SECOND);
    site.host.until("the first is over", || async { site.pending().await.iter().any(|a| a.attempt == 2) }).await;
    site.advance(1);
    let second = site.token(2).await;
    site.accepted().await;
    assert_ne!(first, second);
    assert_eq!(site.refused(&first).await, "superseded");
    assert!(site.beat(&first, None).await.gone);
    site.advance(3 * SECOND);
    site.ended("close").await;
    assert_eq!(site.timed_out("close").await, Some((TimeoutType::StartToClose, 2)));

    let beating = ActivityOptions { heartbeat_timeout: Some(2 * SECOND), ..retries(1) };
    site.host.run("beat", &program("accept", beating)).await.expect("started");
    let token = site.token(3).await;
    site.accepted().await;
    for _ in 0..5 {
        site.advance(2 * SECOND - 1);
        assert!(!site.beat(&token, None).await.gone);
    }
    // A host that starts hears of everybody just now.
    site.restart().await;
    site.accepted().await;
    site.advance(2 * SECOND - 1);
    assert!(!site.beat(&token, None).await.gone);
    site.advance(2 * SECOND);
    site.ended("beat").await;
    assert_eq!(site.timed_out("beat").await, Some((TimeoutType::Heartbeat, 1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_by_token_is_followed_by_another_attempt() {
    let site = Site::new().await;
    site.host.run("w", &program("accept", retries(2))).await.expect("started");
    let first = site.token(1).await;
    site.accepted().await;
    site.beat(&first, Some("7")).await;
    let failure = Failure::new(FailureKind::Application, "broken", "as told");
    site.report(&first, Report::Failed(failure.clone())).await.expect("accepted");
    site.advance(SECOND);
    let second = site.token(2).await;
    site.accepted().await;
    assert_eq!(site.refused(&first).await, "superseded");
    // The right to answer for the one is none for the other.
    let (_, secret) = first.rsplit_once('-').expect("a token");
    let (attempt, _) = second.rsplit_once('-').expect("a token");
    assert_eq!(site.refused(&format!("{attempt}-{secret}")).await, "unknown-task");
    site.report(&second, Report::Failed(failure)).await.expect("accepted");
    site.ended("w").await;
    assert_eq!(site.result("w").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_took_it_on_learns_that_it_is_canceled_or_begun_anew() {
    let site = Site::new().await;
    let wait = ActivityOptions { cancellation: CancellationType::Wait, ..retries(1) };
    let [offer, _] = program("accept", wait);
    let end = [Op::Message("b".into()), Op::Await(2)];
    let ops = [vec![offer, Op::Message("a".into()), Op::Await(1), Op::Cancel(0)], end.to_vec()].concat();
    site.host.run("w", &ops).await.expect("started");
    let token = site.token(1).await;
    site.accepted().await;
    site.host.send("w", "a", "m", "1").await.expect("sent");
    site.host.until("it is asked to stop", || async { site.beat(&token, None).await.cancel_requested }).await;
    assert!(!site.beat(&token, None).await.gone, "its answer is awaited");
    site.report(&token, Report::Canceled).await.expect("accepted");
    site.host.send("w", "b", "n", "1").await.expect("sent");
    site.ended("w").await;

    site.host.run("anew", &program("accept", retries(1))).await.expect("started");
    let before = site.token(2).await;
    site.accepted().await;
    let reset = TaskChange::Reset { keep_details: false };
    site.host.engine.change_activity(Embedded::target("anew"), 1, reset, "again".into()).await.expect("reset");
    let after = site.token(3).await;
    site.accepted().await;
    assert!(site.report(&before, done("1")).await.is_err());
    site.report(&after, done("2")).await.expect("effective");
    assert_eq!(site.ended("anew").await, Status::Completed);
    assert_eq!(site.result("anew").await, Some((1, "2".to_owned())));
}
