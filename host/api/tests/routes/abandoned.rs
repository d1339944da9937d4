//! Clients that go away in the middle: a request is dropped at each of its awaits, and then made again. Whatever the first
//! had done by then, the second finds or does, and nothing is left behind.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

use crate::fixture::{Api, Reply};

/// No request awaits more often.
const AWAITS: usize = 24;
const EXECUTIONS: &str = "/v1/namespaces/default/executions";

/// Polls a future so often, and drops it then.
async fn abandoned<F: Future>(future: F, mut polls: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|context| {
        if polls == 0 {
            return Poll::Ready(None);
        }
        polls -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if polls == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

async fn verified(api: &Api) {
    let report = api.post("/v1/namespaces/default/verify", "{}").await;
    report.expect(200);
    assert!(report.body.contains(r#""findings":[]"#), "{}", report.body);
}

fn ok(reply: &Reply) {
    assert!((200..300).contains(&reply.status), "{} {}", reply.status, reply.body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starts_and_messages_may_be_dropped_at_every_await() {
    let api = Api::new();
    api.deploy("listen").await;
    for polls in 0..AWAITS {
        let start = format!(r#"{{"workflow":"listen","workflow_id":"w{polls}","request_id":"r{polls}"}}"#);
        abandoned(api.post(EXECUTIONS, &start), polls).await;
        ok(&api.post(EXECUTIONS, &start).await);
        let signals = format!("{EXECUTIONS}/w{polls}/signals/go");
        let message = format!(r#"{{"message_id":"m{polls}","input":{polls}}}"#);
        abandoned(api.post(&signals, &message), polls).await;
        // Either it is taken now, or it was, and has ended the execution.
        let again = api.post(&signals, &message).await;
        assert!(again.status == 200 || again.body.contains("closed"), "{}", again.body);
        let ended = api.get(&format!("{EXECUTIONS}/w{polls}/result?wait_ms=10000")).await;
        assert!(ended.body.contains(&format!(r#""result":{polls}"#)), "{}", ended.body);
    }
    let listed = api.get(&format!("{EXECUTIONS}?limit=1000")).await;
    assert_eq!(listed.body.matches(r#""run_id""#).count(), AWAITS, "{}", listed.body);
    verified(&api).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waits_reads_and_ends_may_be_dropped_at_every_await() {
    let api = Api::new();
    api.deploy("listen").await;
    for polls in 0..AWAITS {
        let start = format!(r#"{{"workflow":"listen","workflow_id":"w{polls}","request_id":"r{polls}"}}"#);
        abandoned(api.post(&format!("{EXECUTIONS}?wait_ms=20"), &start), polls).await;
        ok(&api.post(EXECUTIONS, &start).await);
        let one = format!("{EXECUTIONS}/w{polls}");
        for read in ["", "/history", "/result?wait_ms=20", "/logs"] {
            abandoned(api.get(&format!("{one}{read}")), polls).await;
        }
        abandoned(api.post(&format!("{one}/terminate"), "{}"), polls).await;
        let again = api.post(&format!("{one}/terminate"), "{}").await;
        assert!(again.status == 200 || again.body.contains("closed"), "{}", again.body);
        assert!(api.get(&format!("{one}/result")).await.body.contains("terminated"));
    }
    verified(&api).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_requests_may_be_dropped_at_every_await() {
    let api = Api::new();
    let workers = "/v1/namespaces/default/workers";
    let registered = api.post(workers, r#"{"identity":"w"}"#).await;
    let worker: serde_json::Value = serde_json::from_str(&registered.body).expect("JSON");
    let id = worker["worker_id"].as_str().expect("an id");
    for polls in 0..AWAITS {
        abandoned(api.post(workers, r#"{"identity":"other"}"#), polls).await;
        abandoned(api.post(&format!("{workers}/{id}/beat"), "{}"), polls).await;
        let poll = format!(r#"{{"worker_id":"{id}","wait_ms":20}}"#);
        abandoned(api.post("/v1/namespaces/default/task-queues/default/poll", &poll), polls).await;
    }
    let queue = api.get("/v1/namespaces/default/task-queues/default").await;
    assert!(queue.body.contains(r#""pollers":0"#), "no poll is left behind: {}", queue.body);
    ok(&api.post(&format!("{workers}/{id}/beat"), "{}").await);
}
