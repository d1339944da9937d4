//! The routes over a real engine with the store in memory and a scripted guest, called without a socket.

mod abandoned;
mod fixture;
mod openapi;
mod operations;
mod pages;
mod starts;
mod streams;

use fixture::{Api, Reply};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_is_answered_with_its_name_and_its_result() {
    let api = Api::new();
    api.deploy("echo").await;
    let started = api
        .post("/v1/namespaces/default/executions", r#"{"workflow":"echo","workflow_id":"a/b","input":{"x": 1.0}}"#)
        .await;
    started.expect(201);
    assert!(started.body.contains(r#""workflow_id":"a/b""#), "{}", started.body);
    let ended = api.get("/v1/namespaces/default/executions/a%2Fb/result?wait_ms=10000").await;
    ended.expect(200);
    // The input's text comes back as it was sent, not as a parser would write it.
    assert!(ended.body.contains(r#""result":{"x": 1.0}"#), "{}", ended.body);
    let waited =
        api.post("/v1/namespaces/default/executions?wait_ms=10000", r#"{"workflow":"echo","input":1e2}"#).await;
    waited.expect(200);
    assert!(waited.body.contains(r#""result":1e2"#) && waited.body.contains("completed"), "{}", waited.body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_correlation_id_is_kept_and_returned() {
    let api = Api::new();
    api.deploy("echo").await;
    let started = api
        .post_with(
            "/v1/namespaces/default/executions?wait_ms=10000",
            r#"{"workflow":"echo","workflow_id":"c"}"#,
            &[("x-correlation-id", "req-7")],
        )
        .await;
    started.expect(200);
    assert_eq!(started.correlation, "req-7");
    let shown = api.get("/v1/namespaces/default/executions/c").await;
    assert!(shown.body.contains(r#""correlation_id":"req-7""#), "{}", shown.body);
    assert_eq!(api.get("/healthz").await.correlation.len(), 32);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_reaches_a_waiting_execution_once() {
    let api = Api::new();
    api.deploy("listen").await;
    api.post("/v1/namespaces/default/executions", r#"{"workflow":"listen","workflow_id":"m"}"#).await.expect(201);
    let at_once = api.get("/v1/namespaces/default/executions/m/result").await;
    assert!(at_once.body.contains(r#""status":"running""#), "{}", at_once.body);
    let raw = "/v1/namespaces/default/executions/m/signals/go?raw=true";
    let sent = api.post_with(raw, r#"{"input": "not an envelope"}"#, &[("idempotency-key", "k1")]).await;
    sent.expect(200);
    assert_eq!(sent.body, r#"{"message_id":"k1"}"#);
    let ended = api.get("/v1/namespaces/default/executions/m/result?wait_ms=10000").await;
    assert!(ended.body.contains(r#""result":{"input": "not an envelope"}"#), "{}", ended.body);
    api.post(raw, "1").await.problem(409, "closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_answer_for_a_run_that_ended() {
    let api = Api::new();
    api.deploy("echo").await;
    api.post("/v1/namespaces/default/executions?wait_ms=10000", r#"{"workflow":"echo","workflow_id":"r","input":[1]}"#)
        .await
        .expect(200);
    let base = "/v1/namespaces/default/executions/r";
    for route in ["", "/history", "/history?from=2&limit=1", "/queries", "/logs", "/state", "/state?at=1"] {
        api.get(&format!("{base}{route}")).await.expect(200);
    }
    api.get(&format!("{base}/queries/nothing")).await.problem(404, "unknown-key");
    let listed = api.get("/v1/namespaces/default/executions?workflow=echo&status=completed").await;
    assert!(listed.body.contains(r#""workflow_id":"r""#), "{}", listed.body);
    api.get("/v1/namespaces/other/executions/r").await.problem(404, "unknown-execution");
    let checked = api.post("/v1/namespaces/default/verify", "").await;
    assert!(checked.body.contains(r#""findings":[]"#), "{}", checked.body);
    api.post(&format!("{base}/verify"), "").await.expect(200);
    let replayed = api.post(&format!("{base}/replay"), "").await;
    assert!(replayed.body.contains(r#""agrees":true"#), "{}", replayed.body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_open_run_an_id_and_an_operator_may_end_it() {
    let api = Api::new();
    api.deploy("listen").await;
    let start = r#"{"workflow":"listen","workflow_id":"o"}"#;
    api.post("/v1/namespaces/default/executions", start).await.expect(201);
    api.post("/v1/namespaces/default/executions", start).await.problem(409, "already-started");
    api.post("/v1/namespaces/default/executions/o/terminate", r#"{"reason":"enough"}"#).await.expect(200);
    let ended = api.get("/v1/namespaces/default/executions/o/result?wait_ms=10000").await;
    assert!(ended.body.contains(r#""status":"terminated""#) && ended.body.contains("enough"), "{}", ended.body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_requests_get_problems_that_say_what_is_wrong() {
    let api = Api::new();
    api.deploy("echo").await;
    let executions = "/v1/namespaces/default/executions";
    api.get("/nowhere").await.problem(404, "unknown-route");
    api.get("/v1/namespaces/default/nothing").await.problem(404, "unknown-route");
    let refused = api.delete(executions).await;
    refused.problem(405, "method-not-allowed");
    assert!(refused.allow.contains("GET") && refused.allow.contains("POST"), "{}", refused.allow);
    api.post(executions, "{").await.problem(400, "invalid-json");
    api.post(executions, r#"{"workflw":"echo"}"#).await.problem(400, "invalid-body");
    api.post(executions, r#"{"workflow":"none"}"#).await.problem(404, "unknown-workflow");
    api.post(executions, r#"{"workflow":"echo","input":{"a":1,"a":2}}"#).await.problem(400, "invalid-json");
    let deep = format!(r#"{{"workflow":"echo","input":{}1{}}}"#, "[".repeat(500), "]".repeat(500));
    api.post(executions, &deep).await.problem(400, "invalid-json");
    let large = format!(r#"{{"workflow":"echo","input":"{}"}}"#, "x".repeat(3 << 20));
    api.post(executions, &large).await.problem(413, "payload-too-large");
    let xml = api.post_with(executions, "<a/>", &[("content-type", "text/xml; charset=utf-8")]).await;
    xml.problem(415, "unsupported-media-type");
    let form = [("content-type", "application/x-www-form-urlencoded")];
    api.post_with(executions, r#"{"workflow":"echo"}"#, &form).await.expect(201);
    api.get("/v1/namespaces/default/executions/%FF").await.problem(400, "invalid-path");
    api.get("/v1/namespaces/%C3%28/executions").await.problem(400, "invalid-path");
    api.get(&format!("{executions}?limit=1&limit=2")).await.problem(400, "invalid-query");
    api.get(&format!("{executions}?limit=many")).await.problem(400, "invalid-query");
    api.get("/v1/namespaces/a%20b/executions").await.problem(400, "invalid-name");
    api.get("/v1/namespaces/default/executions?status=odd").await.problem(400, "invalid-query");
    api.get("/v1/namespaces/default/executions?staus=running").await.problem(400, "invalid-query");
    api.get("/v1/namespaces/default/executions/x?run_id=1").await.problem(400, "invalid-name");
    api.get("/v1/namespaces/default/executions/x/result").await.problem(404, "unknown-execution");
    api.post("/v1/namespaces/default/executions/x/signals/go", r#"{"input":1}"#)
        .await
        .problem(404, "unknown-execution");
    let activities = "/v1/namespaces/default/activities";
    api.post(activities, "").await.problem(400, "invalid-query");
    api.post(&format!("{activities}?name=a&kind=odd"), "").await.problem(400, "invalid-query");
    api.post(&format!("{activities}?name=a&kind=http&grants=1"), "{}").await.problem(400, "invalid-query");
    api.post(&format!("{activities}?name=a&kind=http"), "{").await.problem(400, "invalid-json");
    api.post(&format!("{activities}?name=a%20b&kind=http"), "{}").await.problem(400, "invalid-name");
    api.post(&format!("{activities}?name=a&kind=http"), "{}").await.problem(422, "no-activity-host");
    api.post("/v1/namespaces/default/workflows", "refuse").await.problem(422, "not-wasm");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_served_to_everybody() {
    let keys = Api::new().get("/.well-known/relive/keys.json").await;
    keys.expect(200);
    assert_eq!(keys.body, r#"{"keys":[]}"#);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_is_a_problem_and_the_next_request_is_answered() {
    let api = Api::new();
    api.post("/v1/namespaces/default/components/inspect", "panic").await.problem(500, "internal");
    api.until("/readyz", |reply| reply.status == 200).await;
    let status: Reply = api.get("/v1/status").await;
    status.expect(200);
}
