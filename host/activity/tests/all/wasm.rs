//! Wasm activities: what their answers, traps and descriptions come to.

use relive_activity::{Grants, MAX_RESULT_BYTES, WasmLimits, code};
use relive_core::{Digest, FailureKind, Namespace};

use crate::guest::{KITCHEN, endless_describe, kitchen, named};
use crate::support::{Deployment, admit, host};

const CALLS: u32 = 200;

fn deployment() -> Deployment {
    Deployment::new(kitchen(), KITCHEN, &Grants::default(), WasmLimits::default())
}

#[tokio::test]
async fn a_component_answers_as_the_contract_says() {
    let deployed = deployment();
    assert_eq!(deployed.ok("echo", r#"{"a":[1,2]}"#).await, r#"{"a":[1,2]}"#);
    let failure = deployed.fails("fail", "null").await;
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Application, "declined"));
    assert_eq!((failure.message.as_str(), failure.retryable), ("the card was declined", false));
}

#[tokio::test]
async fn a_call_gets_a_fresh_instance() {
    let deployed = deployment();
    deployed.ok("echo", "0").await;
    let begin = std::time::Instant::now();
    for number in 0..CALLS {
        assert_eq!(deployed.ok("echo", &number.to_string()).await, number.to_string());
        assert_eq!(deployed.host.memory_bytes(), 0, "an instance is left");
    }
    println!("a wasm call took {:?}", begin.elapsed() / CALLS);
}

#[tokio::test]
async fn a_trap_is_a_failure_that_says_where() {
    let deployed = deployment();
    let failure = deployed.fails("trap", "null").await;
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Infrastructure, code::TRAP));
    assert!(
        failure.retryable && failure.message.contains("unreachable") && failure.message.contains("\n  at "),
        "{failure}"
    );
    let failure = deployed.fails("quit", "null").await;
    assert!(failure.code == code::TRAP && failure.message.contains("exit code"), "{failure}");
    assert_eq!(deployed.host.running(), 0);
    assert_eq!(deployed.host.memory_bytes(), 0);
}

#[tokio::test]
async fn a_result_must_be_json_within_the_limit() {
    let deployed = deployment();
    let failure = deployed.fails("garbage", "null").await;
    assert!(failure.code == code::INVALID_RESULT && !failure.retryable, "{failure}");
    let failure = deployed.fails("big", "null").await;
    assert!(failure.code == code::RESULT_TOO_LARGE && !failure.retryable, "{failure}");
    assert!(failure.message.contains(&MAX_RESULT_BYTES.to_string()), "{failure}");
}

#[tokio::test]
async fn a_deployment_is_checked_by_asking_the_component() {
    let (host, loaded) = admit(kitchen());
    let described = host.check(&loaded, &["echo", "read"]).expect("both are there");
    let names: Vec<&str> = described.iter().map(|d| d.name.as_str()).collect();
    assert_eq!(names, KITCHEN);
    let error = host.check(&loaded, &["echo", "missing"]).expect_err("it is not there");
    assert_eq!(error.code(), "activity-not-exported");
    let text = error.to_string();
    assert!(text.contains("`missing`") && text.contains("`big`, `echo`") && error.is_uploads_fault(), "{text}");
}

#[tokio::test]
async fn a_description_is_bounded_and_checked() {
    let (host, loaded) = admit(&endless_describe());
    let error = host.describe(&loaded).expect_err("it has no end");
    assert_eq!(error.code(), "describe-fuel", "{error}");
    let (host, loaded) = admit(&named(&["a b"]));
    assert_eq!(host.describe(&loaded).expect_err("a bad name").code(), "describe-invalid");
    let (host, loaded) = admit(&named(&["same", "same"]));
    assert_eq!(host.describe(&loaded).expect_err("a name twice").code(), "describe-invalid");
}

#[tokio::test]
async fn what_is_no_activity_is_refused() {
    let error = host(WasmLimits::default()).load(Digest::of(b"hello"), b"hello").expect_err("not WebAssembly");
    assert_eq!(error.code(), "not-wasm");
    let error = host(WasmLimits::default()).load(Digest::of(b"other"), kitchen()).expect_err("other bytes");
    assert_eq!(error.code(), "digest-mismatch");
}

#[tokio::test]
async fn a_new_deployment_replaces_and_forgetting_removes() {
    let deployed = deployment();
    let default = Namespace::default();
    let other = named(&["echo"]);
    let loaded = deployed.host.load(Digest::of(&other), &other).expect("loads");
    deployed.registry.put_wasm(&default, "echo", loaded, &Grants::default()).expect("deploys");
    assert_eq!(deployed.registry.loaded(&default, "echo"), Some(Digest::of(&other)));
    assert_eq!(deployed.registry.loaded(&default, "read"), Some(deployed.loaded.digest()));
    assert!(deployed.registry.forget(&default, "echo") && !deployed.registry.forget(&default, "echo"));
    assert_eq!(deployed.fails("echo", "null").await.code, code::UNKNOWN_ACTIVITY);
}
