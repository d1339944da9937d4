//! Idempotency keys of starts, and the policies for ids that were used.

use serde_json::Value;

use crate::fixture::{Api, Reply};

const EXECUTIONS: &str = "/v1/namespaces/default/executions";

fn field(reply: &Reply, name: &str) -> Value {
    serde_json::from_str::<Value>(&reply.body).expect("JSON")[name].clone()
}

async fn keyed(api: &Api, key: &str, body: &str) -> Reply {
    api.post_with(EXECUTIONS, body, &[("idempotency-key", key)]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retried_start_is_answered_with_its_run_also_after_the_end() {
    let api = Api::new();
    api.deploy("echo").await;
    let body = r#"{"workflow":"echo","workflow_id":"a","input":{"x":1,"y":2}}"#;
    let first = keyed(&api, "k1", body).await;
    first.expect(201);
    assert_eq!(field(&first, "existing"), false);
    api.get(&format!("{EXECUTIONS}/a/result?wait_ms=10000")).await.expect(200);
    // The same value in other words is the same request.
    let again = keyed(&api, "k1", r#"{"workflow":"echo","workflow_id":"a","input":{"y":2.0,"x":1}}"#).await;
    again.expect(200);
    assert_eq!(field(&again, "run_id"), field(&first, "run_id"));
    assert_eq!(field(&again, "existing"), true);
    let waited = api.post_with(&format!("{EXECUTIONS}?wait_ms=10000"), body, &[("idempotency-key", "k1")]).await;
    waited.expect(200);
    assert_eq!(field(&waited, "run_id"), field(&first, "run_id"));
    let other = r#"{"workflow":"echo","workflow_id":"a","input":{"x":1}}"#;
    keyed(&api, "k1", other).await.problem(409, "idempotency-mismatch");
    let fresh = keyed(&api, "k2", other).await;
    fresh.expect(201);
    assert_ne!(field(&fresh, "run_id"), field(&first, "run_id"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_workflow_id_the_key_gives_one() {
    let api = Api::new();
    api.deploy("echo").await;
    let first = keyed(&api, "order/17", r#"{"workflow":"echo"}"#).await;
    first.expect(201);
    let again = api.post(EXECUTIONS, r#"{"workflow":"echo","request_id":"order/17"}"#).await;
    again.expect(200);
    assert_eq!(field(&again, "workflow_id"), field(&first, "workflow_id"));
    assert_eq!(field(&again, "run_id"), field(&first, "run_id"));
    let both = keyed(&api, "a", r#"{"workflow":"echo","request_id":"b"}"#).await;
    both.problem(400, "invalid-argument");
    keyed(&api, &"k".repeat(257), r#"{"workflow":"echo"}"#).await.problem(400, "invalid-name");
}

/// `echo` ends at once, so a second start that did not see the first would make a second run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_equal_starts_at_once_one_makes_a_run() {
    let api = Api::new();
    api.deploy("echo").await;
    for key in ["k1", "k2", "k3", "k4"] {
        let starts = (0..16).map(|_| keyed(&api, key, r#"{"workflow":"echo","input":7}"#));
        let replies = futures_util::future::join_all(starts).await;
        let created = replies.iter().filter(|reply| reply.status == 201).count();
        assert_eq!(created, 1);
        assert!(replies.iter().all(|reply| field(reply, "run_id") == field(&replies[0], "run_id")));
    }
    let listed = api.get(EXECUTIONS).await;
    assert_eq!(field(&listed, "executions").as_array().map(Vec::len), Some(4), "{}", listed.body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_continues_keeps_the_key() {
    let api = Api::new();
    api.deploy("again").await;
    let body = r#"{"workflow":"again","workflow_id":"c","input":2}"#;
    let first = keyed(&api, "k", body).await;
    first.expect(201);
    // 2 -> 1 -> 0, which waits.
    let input = |events: &Reply| field(events, "events")[0]["attributes"]["input"] == 0;
    let last = api.until(&format!("{EXECUTIONS}/c/history"), input).await;
    assert_ne!(field(&last, "run_id"), field(&first, "run_id"));
    let again = keyed(&api, "k", body).await;
    again.expect(200);
    assert_eq!(field(&again, "run_id"), field(&first, "run_id"), "the run that the request started");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_run_is_refused_used_or_terminated() {
    let api = Api::new();
    api.deploy("listen").await;
    let with = |policy: &str| format!(r#"{{"workflow":"listen","workflow_id":"o"{policy}}}"#);
    let first = api.post(EXECUTIONS, &with("")).await;
    first.expect(201);
    api.post(EXECUTIONS, &with(r#","on_conflict":"fail""#)).await.problem(409, "already-started");
    keyed(&api, "k", &with("")).await.problem(409, "already-started");
    let used = api.post(EXECUTIONS, &with(r#","on_conflict":"use-existing""#)).await;
    used.expect(200);
    assert_eq!(field(&used, "run_id"), field(&first, "run_id"));
    let made = api.post(EXECUTIONS, &with(r#","on_conflict":"terminate-existing""#)).await;
    made.expect(201);
    let run = field(&first, "run_id").as_str().expect("a run").to_owned();
    let ended = api.get(&format!("{EXECUTIONS}/o/result?run_id={run}")).await;
    assert!(
        ended.body.contains(r#""status":"terminated""#) && ended.body.contains("terminate-existing"),
        "{}",
        ended.body
    );
    let contradiction = with(r#","on_conflict":"terminate-existing","reuse":"reject""#);
    api.post(EXECUTIONS, &contradiction).await.problem(400, "invalid-argument");
    api.post(EXECUTIONS, &with(r#","on_conflict":"odd""#)).await.problem(400, "invalid-body");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_is_used_again_as_the_policy_says() {
    let api = Api::new();
    api.deploy("echo").await;
    api.deploy("listen").await;
    let echo = |policy: &str| format!(r#"{{"workflow":"echo","workflow_id":"r"{policy}}}"#);
    let at_once = format!("{EXECUTIONS}?wait_ms=10000");
    api.post(&at_once, &echo("")).await.expect(200);
    api.post(&at_once, &echo(r#","reuse":"allow""#)).await.expect(200);
    api.post(&at_once, &echo(r#","reuse":"allow-failed-only""#)).await.problem(409, "id-reuse-refused");
    api.post(&at_once, &echo(r#","reuse":"reject""#)).await.problem(409, "id-reuse-refused");
    api.post(EXECUTIONS, r#"{"workflow":"listen","workflow_id":"r"}"#).await.expect(201);
    api.post(&format!("{EXECUTIONS}/r/terminate"), "").await.expect(200);
    api.post(&at_once, &echo(r#","reuse":"reject""#)).await.problem(409, "id-reuse-refused");
    api.post(&at_once, &echo(r#","reuse":"allow-failed-only""#)).await.expect(200);
}
