//! Http activities, called: what a receiver gets, what its answers mean, who is never reached, and the breaker.

use std::sync::Arc;
use std::time::Duration;

use relive_activity::{
    ActivityRegistry, BreakerPolicy, BreakerSettings, BreakerState, DispatchLimits, HttpConfig, HttpHost, SigningKey,
    WasmLimits, code,
};
use relive_core::ports::{ActivityRunner, AnswerToken, AttemptEnd};
use relive_core::{Failure, FailureKind, Json, Namespace};
use serde_json::{Value, json};

use crate::receiver::{Answer, Receiver};
use crate::support::{Deployment, completed, eventually, task};

/// Quick enough to see it open and close.
const BREAKER: BreakerPolicy = BreakerPolicy {
    window: Duration::from_secs(60),
    min_calls: 4,
    fault_percent: 50,
    open: Duration::from_millis(20),
    max_open: Duration::from_millis(200),
    probes: 2,
};

struct Site {
    registry: ActivityRegistry,
    keys: Value,
}

impl Site {
    /// A registry whose activity `hook` is at the URL.
    fn with(config: &HttpConfig) -> Self {
        let host = HttpHost::new(SigningKey::generate().expect("a key")).expect("a client");
        let keys = serde_json::from_str(host.jwks().as_str()).expect("JSON");
        let builder = ActivityRegistry::builder(DispatchLimits::default()).http(host).breakers(BREAKER);
        let registry = builder.build();
        registry.put_http(&Namespace::default(), "hook", config).unwrap_or_else(|e| panic!("failed to {e}"));
        Self { registry, keys }
    }

    fn at(receiver: &Receiver) -> Self {
        Self::with(&granted(&format!("{}/hook?a=b", receiver.origin())))
    }

    async fn run(&self) -> Result<Json, Failure> {
        self.registry.run(task("hook", "{\"n\": 1.0}")).await.map(completed)
    }

    async fn fails(&self) -> Failure {
        self.run().await.expect_err("a failure")
    }

    fn state(&self) -> BreakerState {
        self.registry.breaker(&Namespace::default(), "hook").expect("deployed").view().state
    }
}

fn granted(url: &str) -> HttpConfig {
    HttpConfig { allow_private: true, ..HttpConfig::new(url) }
}

fn ok() -> Answer {
    Answer::json(200, "{\"ok\": 1.0}")
}

#[tokio::test]
async fn a_receiver_gets_a_signed_task_and_its_answer_is_the_result() {
    let receiver = Receiver::start(|_| ok());
    let mut config = granted(&format!("{}/hook?a=b", receiver.origin()));
    config.headers.insert("X-Shop".into(), "tea".into());
    let site = Site::with(&config);
    assert_eq!(site.run().await.expect("a result").as_str(), "{\"ok\": 1.0}");
    let mut again = task("hook", "{\"n\": 1.0}");
    again.attempt = 2;
    site.registry.run(again).await.expect("a result");
    let [first, second] = &receiver.received()[..] else { panic!("two requests") };
    assert_eq!((first.method.as_str(), first.path.as_str()), ("POST", "/hook?a=b"));
    let key = "default:order-1:00000000-0000-0000-0000-000000000000:3";
    assert_eq!((first.header("idempotency-key"), second.header("idempotency-key")), (key, key));
    assert_eq!((first.header("x-correlation-id"), first.header("x-shop")), ("c-1", "tea"));
    assert_eq!((first.json()["attempt"].as_u64(), second.json()["attempt"].as_u64()), (Some(1), Some(2)));
    let head = json!({"namespace": "default", "workflow_id": "order-1", "activity": "hook", "command_no": 3});
    for (name, value) in head.as_object().expect("an object") {
        assert_eq!(&first.json()[name], value, "{name}");
    }
    assert!(String::from_utf8_lossy(&first.body).ends_with(",\"input\":{\"n\": 1.0}}"), "as it is stored");
    first.verify(&receiver.origin(), &site.keys).unwrap_or_else(|e| panic!("{e}"));
    let mut forged = first.clone();
    forged.headers.insert("idempotency-key".into(), "another".into());
    assert!(forged.verify(&receiver.origin(), &site.keys).is_err());
    forged = first.clone();
    forged.body[10] ^= 1;
    assert!(forged.verify(&receiver.origin(), &site.keys).is_err());
}

#[tokio::test]
async fn connections_are_kept() {
    let receiver = Receiver::start(|_| ok());
    let site = Site::at(&receiver);
    for _ in 0..50 {
        site.run().await.expect("a result");
    }
    assert_eq!((receiver.received().len(), receiver.connections()), (50, 1));
}

#[tokio::test]
async fn no_redirect_is_followed() {
    let elsewhere = Receiver::start(|_| ok());
    let location = format!("{}/", elsewhere.origin());
    let receiver = Receiver::start(move |_| Answer::Whole(307, vec![("location", location.clone())], Vec::new()));
    let failure = Site::at(&receiver).fails().await;
    assert_eq!((failure.code.as_str(), failure.retryable), (code::REDIRECT_REFUSED, false));
    assert_eq!((receiver.connections(), elsewhere.connections()), (1, 0));
}

#[tokio::test]
async fn a_name_that_leads_here_is_not_called_without_a_grant() {
    let receiver = Receiver::start(|_| ok());
    let url = format!("http://localhost:{}/", receiver.address.port());
    let failure = Site::with(&HttpConfig::new(&url)).fails().await;
    assert_eq!((failure.code.as_str(), failure.retryable), (code::PRIVATE_ADDRESS, false));
    assert!(failure.message.contains("localhost") && failure.message.contains("allow_private"), "{failure}");
    assert_eq!(receiver.connections(), 0);
    Site::with(&granted(&url)).run().await.expect("a result");
    // One of them may; that opens no door to the other.
    let site = Site::with(&granted(&url));
    site.run().await.expect("a result");
    site.registry.put_http(&Namespace::default(), "hook", &HttpConfig::new(&url)).expect("names are not looked up");
    assert_eq!(site.fails().await.code, code::PRIVATE_ADDRESS);
}

#[tokio::test]
async fn an_answer_without_end_is_cut() {
    for announced in [true, false] {
        let receiver = Receiver::start(move |_| Answer::Long { bytes: 100 << 20, announced });
        let failure = Site::at(&receiver).fails().await;
        assert_eq!((failure.code.as_str(), failure.retryable), (code::RESULT_TOO_LARGE, false));
        // What sockets hold, and no more.
        assert!(receiver.sent() < 50 << 20, "{} bytes were taken", receiver.sent());
    }
    let receiver = Receiver::start(|_| Answer::json(200, "[1,2,3]"));
    let url = receiver.origin();
    let site = Site::with(&HttpConfig { max_response_bytes: Some(6), ..granted(&url) });
    assert_eq!(site.fails().await.code, code::RESULT_TOO_LARGE);
    let site = Site::with(&HttpConfig { max_response_bytes: Some(7), ..granted(&url) });
    assert_eq!(site.run().await.expect("a result").as_str(), "[1,2,3]");
}

#[tokio::test]
async fn answers_mean_what_their_status_says() {
    let receiver = Receiver::start(|_| ok());
    let site = Site::at(&receiver);
    receiver.answer(|_| Answer::json(200, "<html>"));
    assert_eq!(site.fails().await.code, code::INVALID_RESULT);
    receiver.answer(|_| Answer::json(204, ""));
    assert_eq!(site.run().await.expect("a result").as_str(), "null");
    receiver.answer(|_| Answer::json(202, "{}"));
    assert_eq!(site.fails().await.code, code::ACCEPTED_UNSUPPORTED);
    receiver.answer(|_| Answer::json(402, r#"{"code":"card-declined","message":"no","details":{"n":1}}"#));
    let failure = site.fails().await;
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Application, "card-declined"));
    assert!(!failure.retryable && failure.details.is_some(), "{failure:?}");
    receiver.answer(|_| Answer::json(429, "slowly"));
    let failure = site.fails().await;
    assert_eq!((failure.code.as_str(), failure.retryable), ("http-429", true));
    // None of this is a failure of the target.
    assert_eq!(site.state(), BreakerState::Closed);
    receiver.answer(|_| Answer::HangUp);
    let failure = site.fails().await;
    assert_eq!((failure.code.as_str(), failure.retryable), (code::CONNECTION_LOST, true), "{failure}");
}

#[tokio::test]
async fn an_attempt_may_be_accepted_by_whoever_has_its_token() {
    let receiver = Receiver::start(|_| Answer::json(202, "as you like"));
    let site = Site::at(&receiver);
    let mut later = task("hook", "1");
    later.token = Some(AnswerToken::new("1-2-3-4".into()));
    let end = site.registry.run(later).await.expect("no failure");
    assert_eq!(end, AttemptEnd::Accepted { by: receiver.address.to_string().into() });
    let [request] = &receiver.received()[..] else { panic!("one request") };
    assert_eq!(request.header("relive-task-token"), "1-2-3-4");
    request.verify(&receiver.origin(), &site.keys).unwrap_or_else(|e| panic!("{e}"));
    let mut forged = request.clone();
    forged.headers.insert("relive-task-token".into(), "1-2-3-5".into());
    assert!(forged.verify(&receiver.origin(), &site.keys).is_err());
    assert_eq!(site.state(), BreakerState::Closed);
}

#[tokio::test]
async fn nobody_there_is_worth_another_attempt() {
    // Bound and not listening: nobody else gets it, and connections are refused.
    let free = Receiver::start(|_| ok()).address;
    let failure = Site::with(&granted(&format!("http://{free}/"))).fails().await;
    assert!(failure.retryable && failure.kind == FailureKind::Infrastructure, "{failure}");
    let failure = Site::with(&granted("http://no-such-host.invalid/")).fails().await;
    // Where no name server answers, nobody knows in time.
    let unknown = [code::LOOKUP_FAILED, code::CONNECT_FAILED].contains(&failure.code.as_str());
    assert!(failure.retryable && unknown, "{failure}");
    // A server that speaks no TLS.
    let receiver = Receiver::start(|_| ok());
    let failure = Site::with(&granted(&format!("https://{}/", receiver.address))).fails().await;
    assert!(
        failure.retryable && [code::TLS_FAILED, code::CONNECT_FAILED].contains(&failure.code.as_str()),
        "{failure}"
    );
}

#[tokio::test]
async fn a_failing_target_is_left_alone_until_a_probe_passes() {
    let receiver = Receiver::start(|_| Answer::json(503, "down"));
    let site = Site::at(&receiver);
    for _ in 0..BREAKER.min_calls {
        assert_eq!(site.fails().await.code, "http-503");
    }
    assert_eq!(site.state(), BreakerState::Open);
    let failure = site.fails().await;
    assert_eq!((failure.code.as_str(), failure.retryable), (code::CIRCUIT_OPEN, true));
    let details: Value = serde_json::from_str(failure.details.expect("details").as_str()).expect("JSON");
    assert!(details["retry_after_ms"].as_u64().is_some_and(|ms| ms <= 20), "{details}");
    assert!(details["next_probe"].as_u64().is_some() && details["target"] == receiver.address.to_string(), "{details}");
    assert_eq!(receiver.received().len(), BREAKER.min_calls as usize);
    // A probe that fails opens it again.
    let mut failure = site.fails().await;
    while failure.code == code::CIRCUIT_OPEN {
        tokio::task::yield_now().await;
        failure = site.fails().await;
    }
    assert_eq!((failure.code.as_str(), site.state()), ("http-503", BreakerState::Open));
    receiver.answer(|_| ok());
    while site.state() != BreakerState::Closed {
        let _ = site.run().await;
    }
    site.run().await.expect("a result");
}

#[tokio::test]
async fn half_open_lets_few_through() {
    let receiver = Receiver::start(|_| Answer::json(500, ""));
    let site = Arc::new(Site::at(&receiver));
    for _ in 0..BREAKER.min_calls {
        site.fails().await;
    }
    receiver.answer(|_| Answer::Silence);
    let before = receiver.received().len();
    let mut probes = Vec::new();
    // Each stays on its way, so that no more are let through than there are probes.
    while receiver.received().len() < before + BREAKER.probes as usize {
        let site = Arc::clone(&site);
        probes.push(tokio::spawn(async move { site.run().await }));
        tokio::task::yield_now().await;
    }
    for _ in 0..20 {
        assert_eq!(site.fails().await.code, code::CIRCUIT_OPEN);
    }
    assert_eq!((receiver.received().len(), site.state()), (before + 2, BreakerState::HalfOpen));
    probes.iter().for_each(tokio::task::JoinHandle::abort);
    // Those that were canceled prove nothing, and make room for others.
    receiver.answer(|_| ok());
    let mut result = site.run().await;
    while result.is_err() {
        tokio::task::yield_now().await;
        result = site.run().await;
    }
}

#[tokio::test]
async fn an_attempt_that_is_dropped_at_its_deadline_was_too_slow() {
    let receiver = Receiver::start(|_| Answer::Silence);
    let site = Site::at(&receiver);
    let breaker = site.registry.breaker(&Namespace::default(), "hook").expect("deployed");
    let timeout = Duration::from_millis(30);
    for n in 1..BREAKER.min_calls {
        let mut slow = task("hook", "1");
        slow.timeout = Some(timeout);
        assert!(tokio::time::timeout(timeout, site.registry.run(slow)).await.is_err());
        assert_eq!((breaker.view().calls, breaker.view().faults), (n, n));
    }
    // One that is canceled before proves nothing.
    let mut canceled = task("hook", "1");
    canceled.timeout = Some(Duration::from_secs(60));
    assert!(tokio::time::timeout(timeout, site.registry.run(canceled)).await.is_err());
    assert_eq!(breaker.view().calls, BREAKER.min_calls - 1);
    // The receiver sees that nobody waits any more.
    eventually("connections are closed", || receiver.given_up() == BREAKER.min_calls as usize).await;
    assert_eq!(site.state(), BreakerState::Closed);
}

#[tokio::test]
async fn what_waits_for_its_turn_is_not_held_against_the_target() {
    let receiver = Receiver::start(|_| Answer::Silence);
    let host = HttpHost::new(SigningKey::generate().expect("a key")).expect("a client");
    let limits = DispatchLimits { http: 1, ..DispatchLimits::default() };
    let registry = ActivityRegistry::builder(limits).http(host).breakers(BREAKER).build();
    registry.put_http(&Namespace::default(), "hook", &granted(&receiver.origin())).expect("deployed");
    let first = tokio::spawn(registry.run(task("hook", "1")));
    eventually("the first is on its way", || receiver.received().len() == 1).await;
    let mut second = task("hook", "2");
    second.timeout = Some(Duration::from_millis(20));
    assert!(tokio::time::timeout(Duration::from_millis(20), registry.run(second)).await.is_err());
    let view = registry.breaker(&Namespace::default(), "hook").expect("deployed").view();
    assert_eq!((view.calls, receiver.received().len()), (0, 1));
    first.abort();
}

#[tokio::test]
async fn a_deployment_says_how_many_attempts_run_at_once_and_when_its_breaker_opens() {
    let receiver = Receiver::start(|_| Answer::Silence);
    let mut config = granted(&receiver.origin());
    config.concurrency = Some(2);
    config.breaker = Some(BreakerSettings { min_calls: Some(1), ..BreakerSettings::default() });
    let site = Site::with(&config);
    site.registry.put_http(&Namespace::default(), "other", &granted(&receiver.origin())).expect("deployed");
    let attempt = |name: &str| tokio::spawn(site.registry.run(task(name, "1")));
    let held: Vec<_> = (0..3).map(|_| attempt("hook")).collect();
    eventually("two are on their way", || receiver.received().len() == 2).await;
    // Its neighbours have their own.
    let neighbour = attempt("other");
    eventually("the neighbour's is, too", || receiver.received().len() == 3).await;
    receiver.answer(|_| Answer::json(503, ""));
    held.iter().take(2).for_each(tokio::task::JoinHandle::abort);
    eventually("the third had its turn", || receiver.received().len() == 4).await;
    eventually("one call proves it", || site.state() == BreakerState::Open).await;
    neighbour.abort();
}

#[tokio::test]
async fn a_component_that_traps_has_a_breaker_too() {
    let deployment = Deployment::new(
        crate::guest::kitchen(),
        &["trap", "echo"],
        &relive_activity::Grants::default(),
        WasmLimits::default(),
    );
    let policy = BreakerPolicy::default();
    for _ in 0..policy.min_calls {
        assert_eq!(deployment.fails("trap", "1").await.code, code::TRAP);
    }
    let failure = deployment.fails("trap", "1").await;
    assert_eq!((failure.code.as_str(), failure.retryable), (code::CIRCUIT_OPEN, true));
    let breaker = deployment.registry.breaker(&Namespace::default(), "trap").expect("deployed");
    assert_eq!(
        (breaker.target(), breaker.view().faults),
        (deployment.loaded.digest().short().as_str(), policy.min_calls)
    );
    // Its neighbour in the same component is another activity.
    deployment.ok("echo", "1").await;
}
