//! Requests of workers over NATS, with a desk that tells what it was asked.

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_nats::{Client, HeaderMap, Message, RequestErrorKind};
use common::{connect, fresh_prefix, in_time, queue, raw, server::Server, shared_server, tasks, until};
use futures_util::{FutureExt, StreamExt};
use relive_core::ports::TaskQueue;
use relive_queue::{NatsQueue, WorkerAnswer, WorkerRequest};
use serde_json::{Value, json};
use tokio::{sync::oneshot, task::JoinHandle};

/// A host that answers until it is told to stop.
struct Host {
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl Host {
    /// Waits until it answers.
    async fn start(
        nats: Arc<NatsQueue>,
        client: &Client,
        prefix: &str,
        answer: impl Fn(WorkerRequest) -> WorkerAnswer + Send + Sync + Clone + 'static,
    ) -> Self {
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(async move {
            let desk = move |request| {
                let answer = answer.clone();
                async move { answer(request) }.boxed()
            };
            nats.serve_workers(desk, async { drop(stopped.await) }).await.expect("it serves");
        });
        until("a host answers", || async { ask(client, prefix, "dance", "").await.map(drop).ok() }).await;
        Self { stop, serving }
    }

    async fn stop(self) {
        self.stop.send(()).expect("it serves");
        in_time("a host stops", self.serving).await.expect("in good order");
    }
}

async fn ask(client: &Client, prefix: &str, operation: &str, body: &str) -> Result<Message, RequestErrorKind> {
    let subject = format!("{prefix}.workers.default.{operation}");
    client.request(subject, body.to_owned().into()).await.map_err(|error| error.kind())
}

fn status(message: &Message) -> String {
    message.headers.as_ref().expect("headers").get("Relive-Status").expect("a status").to_string()
}

/// An answer that says what was asked.
fn echo(request: WorkerRequest) -> WorkerAnswer {
    let body: Value = serde_json::from_slice(&request.body).expect("JSON");
    let told = json!({"path": request.path, "body": body, "correlation": request.correlation_id, "who": request.authorization});
    WorkerAnswer { status: 201, body: told.to_string().into() }
}

#[tokio::test]
async fn requests_are_handed_over_and_answered() {
    let (url, prefix) = (shared_server(), fresh_prefix());
    let (nats, client) = (Arc::new(connect(&url, &prefix).await), raw(&url).await);
    let host = Host::start(nats, &client, &prefix, echo).await;
    let mut headers = HeaderMap::new();
    headers.insert("Relive-Correlation-Id", "order%201");
    headers.insert("Authorization", "Bearer x");
    let subject = format!("{prefix}.workers.default.heartbeat");
    let body = r#"{"token":"t","details":{"n":1}}"#;
    let answer = client.request_with_headers(subject, headers, body.into()).await.unwrap();
    assert_eq!(status(&answer), "201");
    let told: Value = serde_json::from_slice(&answer.payload).unwrap();
    let path = "/v1/namespaces/default/tasks/t/heartbeat";
    assert_eq!(told, json!({"path": path, "body": {"details": {"n": 1}}, "correlation": "order 1", "who": "Bearer x"}));

    let answer = ask(&client, &prefix, "complete", "[]").await.unwrap();
    assert_eq!(status(&answer), "400");
    let told: Value = serde_json::from_slice(&answer.payload).unwrap();
    assert_eq!((&told["code"], &told["status"]), (&json!("invalid-body"), &json!(400)));
    host.stop().await;
    // Nobody is there: NATS itself says so.
    assert_eq!(ask(&client, &prefix, "answer", "{}").await.unwrap_err(), RequestErrorKind::NoResponders);
}

#[tokio::test]
async fn large_answers_come_in_parts() {
    let (url, prefix) = (shared_server(), fresh_prefix());
    let (nats, client) = (Arc::new(connect(&url, &prefix).await), raw(&url).await);
    let large: String = (0..600_000_u32).map(|n| char::from(b'a' + (n % 23) as u8)).collect::<String>().repeat(5);
    let answer = WorkerAnswer { status: 200, body: large.clone().into() };
    let host = Host::start(nats, &client, &prefix, move |_| answer.clone()).await;
    let inbox = client.new_inbox();
    let mut parts = client.subscribe(inbox.clone()).await.unwrap();
    client.publish_with_reply(format!("{prefix}.workers.default.answer"), inbox, "{}".into()).await.unwrap();
    let first = in_time("the first part", parts.next()).await.unwrap();
    assert_eq!(status(&first), "200");
    let count: usize = first.headers.as_ref().unwrap().get("Relive-Parts").unwrap().as_str().parse().unwrap();
    assert_eq!(count, 3);
    let mut whole = first.payload.to_vec();
    for _ in 1..count {
        whole.extend_from_slice(&in_time("a part", parts.next()).await.unwrap().payload);
    }
    assert!(whole == large.as_bytes(), "{} bytes of {}", whole.len(), large.len());
    host.stop().await;
}

#[tokio::test]
async fn hosts_share_requests_and_one_may_go() {
    let (url, prefix) = (shared_server(), fresh_prefix());
    let client = raw(&url).await;
    let named = |name: &'static str| move |_| WorkerAnswer { status: 200, body: name.into() };
    let a = Host::start(Arc::new(connect(&url, &prefix).await), &client, &prefix, named("a")).await;
    let b = Host::start(Arc::new(connect(&url, &prefix).await), &client, &prefix, named("b")).await;
    let who = || async { ask(&client, &prefix, "answer", "{}").await.map(|answer| answer.payload) };
    until("both are asked", || async { (who().await.unwrap() != who().await.unwrap()).then_some(()) }).await;
    a.stop().await;
    for _ in 0..20 {
        assert_eq!(who().await.unwrap(), "b");
    }
    b.stop().await;
}

#[tokio::test]
async fn a_poll_that_waits_is_cut_when_the_host_stops() {
    let (url, prefix) = (shared_server(), fresh_prefix());
    let (nats, client) = (connect(&url, &prefix).await, raw(&url).await);
    let asked = Arc::new(AtomicBool::new(false));
    let begun = asked.clone();
    let desk = move |_| {
        begun.store(true, Ordering::Relaxed);
        std::future::pending().boxed()
    };
    let subject = format!("{prefix}.workers.default.answer");
    // What is asked before the host listens is nobody's.
    let stop = until("the host is asked", || async {
        client.publish_with_reply(subject.clone(), "nobody", "{}".into()).await.expect("it is sent");
        asked.load(Ordering::Relaxed).then_some(())
    });
    in_time("the host stops", nats.serve_workers(desk, stop)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_returns_has_its_hosts_again() {
    let mut server = Server::start().await;
    let (nats, client) = (Arc::new(connect(&server.url(), "relive").await), raw(&server.url()).await);
    let host = Host::start(nats.clone(), &client, "relive", echo).await;
    server.kill();
    server.wipe();
    server.run().await;
    until("the host answers again", || async {
        let asked = tokio::time::timeout(Duration::from_secs(1), ask(&client, "relive", "answer", "{}")).await;
        asked.ok()?.ok().map(drop)
    })
    .await;
    until("and has its queues", || async { nats.publish(&tasks(&queue("mail"), 0..1)).await.ok() }).await;
    host.stop().await;
}
