//! Declared channels, through the engine and the real sandbox: what a workflow says that it reads is what can be sent
//! to it. Guests are the examples.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use relive_core::{
    Error, ErrorKind, Json, Namespace, WorkflowId,
    ports::{ActivityRunner, ActivityTask, AttemptResult, Status},
};
use relive_engine::{
    DeployRequest, Engine, EngineConfig, EngineParts, NativeOnly, SandboxGuests, SignalRequest, StartRequest,
};
use relive_sandbox::{Sandbox, SandboxConfig};
use relive_store::MemoryStore;
use relive_testkit::{
    clock::SystemClock,
    embedded::{Embedded, Sink},
    guests,
};

/// Activities that never end, so that executions stay open.
struct Idle;

impl ActivityRunner for Idle {
    fn hosts(&self, _: &relive_core::Namespace, _: &str) -> bool {
        true
    }

    fn run(&self, _task: ActivityTask) -> BoxFuture<'static, AttemptResult> {
        Box::pin(std::future::pending())
    }
}

fn engine(store: &Arc<MemoryStore>, epoch: u64) -> Embedded {
    let sandbox = Sandbox::new(SandboxConfig::in_process()).expect("a sandbox");
    let parts = EngineParts {
        store: store.clone(),
        catalog: store.clone(),
        images: store.clone(),
        guests: Arc::new(SandboxGuests::new(sandbox, store.clone())),
        activities: Arc::new(Idle),
        activity_host: Arc::new(NativeOnly),
        clock: Arc::new(SystemClock),
        epoch,
        clean: epoch == 1,
        marks: None,
        cluster: None,
        commits: Arc::new(|| 0),
    };
    let engine = Engine::start(parts, EngineConfig::default(), tokio::runtime::Handle::current()).expect("an engine");
    Embedded { engine, sink: Arc::new(Sink::default()) }
}

async fn deploy(host: &Embedded, guest: &str, name: Option<&str>) {
    let request = DeployRequest {
        name: name.map(str::to_owned),
        ..DeployRequest::new(Namespace::default(), guests::bytes(guest))
    };
    host.engine.deploy(request).await.expect("deployed");
}

/// Starts a workflow under its own name as id.
async fn start(host: &Embedded, workflow: &str, input: &str) {
    let request = StartRequest {
        namespace: Namespace::default(),
        workflow: workflow.to_owned(),
        workflow_id: Some(WorkflowId::new(workflow).expect("an id")),
        input: Json::parse(input).expect("JSON"),
        correlation_id: None,
        trace: None,
        policy: relive_engine::StartPolicy::default(),
    };
    host.engine.start_execution(request).await.expect("started");
}

async fn send(host: &Embedded, id: &str, channel: &str, input: &str) -> Result<String, Error> {
    let input = Json::parse(input).expect("JSON");
    let request = SignalRequest {
        target: Embedded::target(id),
        channel: channel.to_owned(),
        message_id: None,
        trace: None,
        input,
    };
    host.engine.signal(request).await
}

/// The message is refused, in these words, and nothing of it is kept.
async fn refused(host: &Embedded, id: &str, channel: &str, words: &[&str]) {
    let error = send(host, id, channel, "{}").await.expect_err("nobody reads it");
    assert_eq!((error.kind, error.code), (ErrorKind::SignalDispatcher, "unknown-channel"), "{error}");
    for word in words {
        assert!(error.message.contains(word), "{word}: {error}");
    }
    assert_eq!(error.context.execution.as_ref().map(|e| e.workflow_id.as_str()), Some(id));
    let history = host.engine.history(Embedded::target(id), 1, 1_000).await.expect("a history");
    assert!(history.events.iter().all(|e| e.event_type().name() != "SignalReceived"), "{history:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_the_workflow_would_never_read_is_refused() {
    let store = Arc::new(MemoryStore::new());
    let host = engine(&store, 1);
    deploy(&host, "steps/steps.wasm", None).await;
    start(&host, "waiter", "null").await;
    start(&host, "steps", r#"{"steps": 1}"#).await;
    refused(&host, "waiter", "og", &["waiter", "\"og\"", "\"go\"", "declare"]).await;
    refused(&host, "steps", "go", &["steps", "\"go\"", "takes no messages"]).await;
    host.engine.shutdown().await;

    // What was declared is in the catalog: another engine knows it without a deployment.
    let host = engine(&store, 2);
    refused(&host, "waiter", "og", &["\"go\""]).await;
    send(&host, "waiter", "go", "{}").await.expect("declared");
    send(&host, "waiter", "go", r#"{"stop": true}"#).await.expect("declared");
    let view = host.ended("waiter").await;
    assert_eq!((view.status, view.result), (Status::Completed, Some(Json::parse(r#"{"messages":2}"#).expect("JSON"))));
    // That it is over comes before what it read.
    assert_eq!(send(&host, "waiter", "og", "{}").await.expect_err("it is over").code, "closed");
    host.verify().await;
    host.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_name_changes_nothing_about_what_is_read() {
    let host = engine(&Arc::new(MemoryStore::new()), 1);
    deploy(&host, "order/order_workflow.wasm", Some("renamed")).await;
    let order = r#"{"order_id": "o", "sku": "tea", "quantity": 1, "card": "4242", "cents": 1}"#;
    start(&host, "renamed", order).await;
    refused(&host, "renamed", "go", &["renamed", "takes no messages"]).await;
    host.verify().await;
    host.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_that_declares_nothing_is_sent_anything() {
    let host = engine(&Arc::new(MemoryStore::new()), 1);
    deploy(&host, "script/script.wasm", None).await;
    start(&host, "script", r#"{"program": [{"message": {"channel": "go"}}]}"#).await;
    send(&host, "script", "unheard", "1").await.expect("accepted");
    send(&host, "script", "go", "1").await.expect("accepted");
    assert_eq!(host.ended("script").await.status, Status::Completed);
    host.verify().await;
    host.engine.shutdown().await;
}
