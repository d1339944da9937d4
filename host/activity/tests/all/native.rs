//! Native activities: raw, typed, panicking, by namespace.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use relive_activity::{ActivityRegistry, Builder, DispatchLimits, MAX_RESULT_BYTES, NativeTask, code};
use relive_core::ports::ActivityRunner;
use relive_core::{Failure, FailureKind, Json};
use serde::{Deserialize, Serialize};

use crate::support::{completed, eventually, json, namespace, task};

fn builder() -> Builder {
    ActivityRegistry::builder(DispatchLimits::default())
}

#[derive(Deserialize)]
struct Pair {
    a: i64,
    b: i64,
}

#[derive(Serialize)]
struct Sum {
    sum: i64,
}

#[tokio::test]
async fn a_raw_activity_gets_the_text_as_it_is() {
    let registry =
        builder().native_raw("echo", |_: NativeTask, input: Json| async move { Ok::<_, Failure>(input) }).build();
    let result = registry.run(task("echo", r#"{"b": 1,  "a":1.0}"#)).await;
    assert_eq!(result.map(completed).expect("a result").as_str(), r#"{"b": 1,  "a":1.0}"#);
}

#[tokio::test]
async fn a_typed_activity_is_decoded_and_encoded() {
    let registry =
        builder().native("add", |_, pair: Pair| async move { Ok::<_, Failure>(Sum { sum: pair.a + pair.b }) }).build();
    let sum = registry.run(task("add", r#"{"a":1,"b":2}"#)).await.map(completed);
    assert_eq!(sum.expect("a sum").as_str(), r#"{"sum":3}"#);
    let failure = registry.run(task("add", r#"{"a":1}"#)).await.expect_err("refused");
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Application, code::INVALID_INPUT));
    assert!(!failure.retryable && failure.message.contains("missing field `b`"), "{failure}");
}

#[tokio::test]
async fn an_activity_knows_its_attempt() {
    let registry = builder()
        .native("who", |task: NativeTask, (): ()| async move {
            Ok::<_, Failure>((task.idempotency_key(), task.attempt, task.correlation_id.as_deref().map(str::to_owned)))
        })
        .build();
    let result = registry.run(task("who", "null")).await.map(completed).expect("a result");
    assert_eq!(result.as_str(), r#"["default:order-1:00000000-0000-0000-0000-000000000000:3",1,"c-1"]"#);
}

#[tokio::test]
async fn a_panic_is_a_failure_of_the_attempt() {
    let early = |_: NativeTask, _: Json| -> std::future::Ready<Result<Json, Failure>> { panic!("before the future") };
    let late = |_: NativeTask, _: Json| async move {
        tokio::task::yield_now().await;
        assert!(std::env::var_os("NO_SUCH_VARIABLE").is_some(), "inside the future");
        Ok::<_, Failure>(Json::null())
    };
    let registry = builder().native_raw("early", early).native_raw("late", late).build();
    for (name, text) in [("early", "before the future"), ("late", "inside the future")] {
        let failure = registry.run(task(name, "null")).await.expect_err("a failure");
        assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Infrastructure, code::PANIC));
        assert!(failure.retryable && failure.message.contains(text), "{failure}");
    }
}

#[tokio::test]
async fn an_unknown_activity_is_rejected_and_may_be_tried_again() {
    let failure = builder().build().run(task("nobody", "null")).await.expect_err("a failure");
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Rejected, code::UNKNOWN_ACTIVITY));
    assert!(
        failure.retryable && failure.message.contains("`nobody`") && failure.message.contains("deploy"),
        "{failure}"
    );
}

#[tokio::test]
async fn a_namespace_goes_before_everywhere() {
    let answer = |text: &'static str| move |_: NativeTask, _: Json| async move { Ok::<_, Failure>(json(text)) };
    let registry = builder()
        .native_raw("who", answer("\"all\""))
        .native_raw_in(&namespace("a"), "who", answer("\"a\""))
        .native_raw_in(&namespace("b"), "private", answer("\"b\""))
        .build();
    let mut in_a = task("who", "null");
    in_a.execution.namespace = namespace("a");
    assert_eq!(registry.run(in_a).await.map(completed).expect("a result").as_str(), "\"a\"");
    assert_eq!(registry.run(task("who", "null")).await.map(completed).expect("a result").as_str(), "\"all\"");
    assert_eq!(registry.run(task("private", "null")).await.expect_err("unknown").code, code::UNKNOWN_ACTIVITY);
    assert!(registry.has_native(&namespace("b"), "private") && !registry.has_native(&namespace("a"), "private"));
}

#[tokio::test]
async fn a_result_over_the_limit_is_refused() {
    let registry =
        builder().native("long", |_, length: usize| async move { Ok::<_, Failure>("x".repeat(length)) }).build();
    let longest = MAX_RESULT_BYTES - 2;
    assert_eq!(
        registry.run(task("long", &longest.to_string())).await.map(completed).expect("fits").len(),
        MAX_RESULT_BYTES
    );
    let failure = registry.run(task("long", &(longest + 1).to_string())).await.expect_err("too long");
    assert!(failure.code == code::RESULT_TOO_LARGE && !failure.retryable, "{failure}");
    let payload = relive_core::limits::RunLimits::default().payload_bytes;
    assert_eq!(MAX_RESULT_BYTES, usize::try_from(payload).expect("fits"));
}

#[tokio::test]
async fn attempts_over_the_limit_wait_for_their_turn() {
    let running = Arc::new(AtomicUsize::new(0));
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let (counter, door) = (Arc::clone(&running), Arc::clone(&gate));
    let registry = ActivityRegistry::builder(DispatchLimits { native: 2, ..DispatchLimits::default() })
        .native_raw("wait", move |_, input| {
            let (counter, door) = (Arc::clone(&counter), Arc::clone(&door));
            async move {
                counter.fetch_add(1, Ordering::SeqCst);
                door.acquire().await.expect("open").forget();
                Ok::<_, Failure>(input)
            }
        })
        .build();
    let attempts: Vec<_> = (0..5).map(|_| tokio::spawn(registry.run(task("wait", "null")))).collect();
    eventually("two run", || running.load(Ordering::SeqCst) == 2).await;
    tokio::time::timeout(Duration::from_millis(20), std::future::pending::<()>()).await.expect_err("waits");
    assert_eq!(running.load(Ordering::SeqCst), 2);
    gate.add_permits(5);
    for attempt in attempts {
        attempt.await.expect("no panic").expect("a result");
    }
}
