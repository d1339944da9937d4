//! Answers that meet a deadline, another answer, or the end: each is effective, or refused as `superseded`; none is
//! acknowledged and dropped. On the test clock, over the memory store.

use std::sync::{Arc, Condvar, Mutex};

use relive_core::{
    Error, Failure, FailureKind, Json, Namespace,
    event::{Attributes, HistoryEvent},
    options::ActivityOptions,
    ports::{HistoryStore, Status},
    retry::RetryPolicy,
};
use relive_engine::{EngineConfig, PollRequest, RegisterRequest, Report};
use relive_store::MemoryStore;
use relive_testkit::{clock::TestClock, embedded::Embedded, faulty::FaultyStore, model::Op};

const SECOND: u64 = 1_000_000_000;
/// Executions that race at once.
const MANY: usize = 60;

struct Site {
    clock: Arc<TestClock>,
    host: Embedded,
    gate: Arc<Gate>,
}

/// Holds appends back while it is closed.
#[derive(Default)]
struct Gate {
    /// Whether it is closed, and how many have come to it so far while it was.
    state: Mutex<(bool, u64)>,
    changed: Condvar,
}

impl Gate {
    fn pass(&self) {
        let mut state = self.state.lock().expect("no panic under the lock");
        if state.0 {
            state.1 += 1;
        }
        while state.0 {
            state = self.changed.wait(state).expect("no panic under the lock");
        }
    }

    fn close(&self, closed: bool) {
        self.state.lock().expect("no panic under the lock").0 = closed;
        self.changed.notify_all();
    }

    fn held(&self) -> u64 {
        self.state.lock().expect("no panic under the lock").1
    }
}

fn json(text: &str) -> Json {
    Json::parse(text).expect("JSON")
}

fn done(text: &str) -> Report {
    Report::Completed(json(text))
}

fn broken() -> Report {
    Report::Failed(Failure::new(FailureKind::Application, "broken", "as told"))
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
        let (memory, clock) = (Arc::new(MemoryStore::new()), Arc::new(TestClock::default()));
        let gate = Arc::new(Gate::default());
        let door = gate.clone();
        let plan = move |_| {
            door.pass();
            None
        };
        let store: Arc<dyn HistoryStore> = Arc::new(FaultyStore::new(memory.clone(), plan, |_| None));
        let host = Embedded::with(store, memory, clock.clone(), 1, EngineConfig::default()).await;
        Self { clock, host, gate }
    }

    /// Time passes, and nobody is told.
    fn advance(&self, nanos: u64) {
        self.clock.advance(nanos.cast_signed());
    }

    /// Starts executions of one activity each; the tokens of their first attempts, which a worker has.
    async fn taken(&self, prefix: &str, options: ActivityOptions) -> Vec<(String, String)> {
        let request = RegisterRequest { identity: "me".into(), ..RegisterRequest::default() };
        let worker = self.host.engine.register_worker(&Namespace::default(), request).expect("registered").id;
        for n in 0..MANY {
            let offer = Op::Offer { name: "remote-mail".into(), input: "1".into(), options: options.clone() };
            self.host.run(&format!("{prefix}{n}"), &[offer, Op::Await(0)]).await.expect("started");
        }
        let mut taken = Vec::new();
        while taken.len() < MANY {
            let poll = PollRequest {
                namespace: Namespace::default(),
                task_queue: "default".into(),
                worker: worker.clone(),
                activities: None,
                max_tasks: 100,
                wait: std::time::Duration::from_secs(20),
            };
            let tasks = self.host.engine.poll(poll).await.expect("polled");
            taken.extend(tasks.iter().map(|t| (t.execution.workflow_id.to_string(), t.token.to_string())));
        }
        taken
    }

    /// Answers for all of them at once, while `meanwhile` happens.
    async fn race(
        &self,
        taken: &[(String, String)],
        report: &Report,
        meanwhile: impl Future<Output = ()>,
    ) -> Vec<Result<(), Error>> {
        let answers = taken.iter().map(|(_, token)| {
            let (engine, report, token) = (self.host.engine.clone(), report.clone(), token.clone());
            tokio::spawn(async move { engine.report(&Namespace::default(), &token, report).await })
        });
        let answers: Vec<_> = answers.collect();
        meanwhile.await;
        let mut results = Vec::new();
        for answer in answers {
            results.push(answer.await.expect("no panic"));
        }
        results
    }

    async fn report(&self, token: &str, report: Report) -> Result<(), Error> {
        self.host.engine.report(&Namespace::default(), token, report).await
    }

    async fn history(&self, id: &str) -> Vec<HistoryEvent> {
        self.host.engine.history(Embedded::target(id), 1, 1000).await.expect("a history").events
    }

    async fn completed(&self, id: &str) -> Option<(u32, String)> {
        self.history(id).await.into_iter().find_map(|e| match e.body.attributes {
            Attributes::TaskCompleted(c) => Some((c.attempt, c.result.as_str().to_owned())),
            _ => None,
        })
    }
}

/// Acknowledged or `superseded`: nothing else may come of it.
fn was_effective(id: &str, result: &Result<(), Error>) -> bool {
    match result {
        Ok(()) => true,
        Err(error) => {
            assert_eq!(error.code, "superseded", "{id}: {error}");
            false
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_meets_its_deadline_counts_or_is_superseded() {
    let site = Site::new().await;
    let close = ActivityOptions { start_to_close: Some(SECOND), ..retries(1) };
    let beat = ActivityOptions { heartbeat_timeout: Some(SECOND), ..retries(1) };
    let all = ActivityOptions { schedule_to_close: Some(SECOND), ..retries(0) };
    let mut effective = 0;
    for (prefix, options) in [("close", close), ("beat", beat), ("all", all)] {
        let taken = site.taken(prefix, options).await;
        site.advance(SECOND);
        let look = async { site.host.engine.poke_timers() };
        for ((id, _), result) in taken.iter().zip(site.race(&taken, &done("42"), look).await) {
            let counted = was_effective(id, &result);
            effective += usize::from(counted);
            site.host.ended(id).await;
            let expected = counted.then(|| (1, "42".to_owned()));
            assert_eq!(site.completed(id).await, expected, "{id}: {result:?}");
        }
    }
    println!("{effective} of {} were effective", 3 * MANY);
    site.host.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_meets_its_deadline_is_the_one_that_is_recorded_or_is_superseded() {
    let site = Site::new().await;
    let options = ActivityOptions { start_to_close: Some(SECOND), ..retries(2) };
    let taken = site.taken("w", options).await;
    site.advance(SECOND);
    let look = async { site.host.engine.poke_timers() };
    let results = site.race(&taken, &broken(), look).await;
    for ((id, token), result) in taken.iter().zip(results) {
        let counted = was_effective(id, &result);
        // The other attempt is not reached by the token of the first.
        assert_eq!(site.report(token, done("1")).await.expect_err("over").code, "superseded");
        site.host.engine.terminate(Embedded::target(id), "enough".into()).await.expect("terminated");
        let failure = site.history(id).await.into_iter().find_map(|e| match e.body.attributes {
            Attributes::TaskRetryScheduled(r) => Some(r.failure.code),
            _ => None,
        });
        assert_eq!(failure.as_deref() == Some("broken"), counted, "{id}: {failure:?} {result:?}");
    }
    site.host.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_meets_the_end_counts_or_is_refused() {
    let site = Site::new().await;
    let taken = site.taken("w", retries(1)).await;
    let end = async {
        for (id, _) in &taken {
            let ended = site.host.engine.terminate(Embedded::target(id), "enough".into()).await;
            assert!(ended.is_ok() || site.host.ended(id).await.status == Status::Completed);
        }
    };
    let results = site.race(&taken, &done("42"), end).await;
    for ((id, _), result) in taken.iter().zip(results) {
        if let Err(error) = &result {
            assert!(["superseded", "closed"].contains(&error.code), "{id}: {error}");
        }
        let recorded = site.completed(id).await.is_some();
        assert_eq!(recorded, result.is_ok(), "{id}: {result:?}");
    }
    site.host.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_an_answer_is_on_its_way_the_same_waits_and_another_is_superseded() {
    let site = Site::new().await;
    let taken = site.taken("w", ActivityOptions { start_to_close: Some(SECOND), ..retries(2) }).await;
    let (id, token) = taken[0].clone();
    site.gate.close(true);
    let one = done("1");
    let first = site.race(&taken[..1], &one, std::future::ready(()));
    let others = async {
        site.host.until("the first is at the store", || async { site.gate.held() == 1 }).await;
        for other in [done("2"), broken(), Report::Canceled] {
            assert_eq!(site.report(&token, other).await.expect_err("another").code, "superseded");
        }
        // Its deadline passes meanwhile, which changes nothing.
        site.advance(SECOND);
        site.host.engine.poke_timers();
        let again = site.race(&taken[..1], &one, async { site.gate.close(false) }).await;
        assert!(again[0].is_ok(), "the same: {again:?}");
    };
    let (first, ()) = tokio::join!(first, others);
    assert!(first[0].is_ok(), "{first:?}");
    assert_eq!(site.host.ended(&id).await.status, Status::Completed);
    assert_eq!(site.completed(&id).await, Some((1, "1".to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_by_token_that_meets_the_end_of_the_call_counts_or_is_superseded() {
    let site = Site::new().await;
    for n in 0..MANY {
        // This deadline is the runtime's: the host itself runs the attempt.
        let options = ActivityOptions { start_to_close: Some(2_000_000), ..retries(1) };
        let offer = Op::Offer { name: "hang".into(), input: "1".into(), options };
        let id = format!("w{n}");
        site.host.run(&id, &[offer, Op::Await(0)]).await.expect("started");
        site.host.until("the call is made", || async { site.host.sink.tokens().len() > n }).await;
        let token = site.host.sink.tokens()[n].clone();
        let result = site.report(&token, done("42")).await;
        let counted = was_effective(&id, &result);
        site.host.ended(&id).await;
        assert_eq!(site.completed(&id).await, counted.then(|| (1, "42".to_owned())), "{result:?}");
    }
    site.host.verify().await;
}
