//! What the tests share: a host, tasks, and short ways to run one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use relive_activity::{ActivityRegistry, DispatchLimits, Grants, LoadedActivity, WasmHost, WasmLimits};
use relive_core::ports::{ActivityRunner, ActivityTask, AttemptEnd};
use relive_core::{Digest, ExecutionKey, Failure, Json, Namespace, RunId, WorkflowId};
use relive_sandbox::{AdmittedComponent, Sandbox, SandboxConfig};

pub fn namespace(name: &str) -> Namespace {
    Namespace::new(name).expect("a namespace")
}

pub fn json(text: &str) -> Json {
    Json::parse(text).expect("JSON")
}

pub fn task(name: &str, input: &str) -> ActivityTask {
    let execution = ExecutionKey {
        namespace: Namespace::default(),
        workflow_id: WorkflowId::new("order-1").expect("an id"),
        run_id: RunId(uuid::Uuid::nil()),
    };
    let name = Arc::from(name);
    let correlation_id = Some(Arc::from("c-1"));
    ActivityTask {
        execution,
        command_no: 3,
        name,
        input: json(input),
        attempt: 1,
        task_queue: None,
        correlation_id,
        trace: relive_core::trace::TraceParent::of_attempt(None, RunId(uuid::Uuid::nil()), 3, 1),
        timeout: None,
        token: None,
    }
}

/// The result of an attempt that ended with its call.
pub fn completed(end: AttemptEnd) -> Json {
    match end {
        AttemptEnd::Completed(result) => result,
        AttemptEnd::Accepted { by } => panic!("accepted by {by}"),
    }
}

/// A host with a sandbox that compiles in this process.
pub fn host(limits: WasmLimits) -> WasmHost {
    let sandbox = Sandbox::new(SandboxConfig::in_process()).expect("a sandbox");
    WasmHost::new(sandbox, limits).expect("a host")
}

/// As a deployment does it: admission first.
pub fn admit(bytes: &[u8]) -> (WasmHost, LoadedActivity) {
    let sandbox = Sandbox::new(SandboxConfig::in_process()).expect("a sandbox");
    let admitted = sandbox.admit(bytes).unwrap_or_else(|e| panic!("failed to {e}"));
    let AdmittedComponent::Activity(component) = admitted.component else { panic!("not an activity") };
    let host = WasmHost::new(sandbox, WasmLimits::default()).expect("a host");
    let loaded = host.link(admitted.inspection.digest, &component).expect("links");
    (host, loaded)
}

/// A registry in which all of `names` are activities of one component.
pub struct Deployment {
    pub host: WasmHost,
    pub registry: ActivityRegistry,
    pub loaded: LoadedActivity,
}

impl Deployment {
    pub fn new(bytes: &[u8], names: &[&str], grants: &Grants, limits: WasmLimits) -> Self {
        let host = host(limits);
        let loaded = host.load(Digest::of(bytes), bytes).unwrap_or_else(|e| panic!("failed to {e}"));
        let registry = ActivityRegistry::builder(DispatchLimits::default()).wasm(host.clone()).build();
        for name in names {
            let put = registry.put_wasm(&Namespace::default(), name, loaded.clone(), grants);
            put.unwrap_or_else(|e| panic!("failed to {e}"));
        }
        Self { host, registry, loaded }
    }

    pub async fn run(&self, name: &str, input: &str) -> Result<Json, Failure> {
        self.registry.run(task(name, input)).await.map(completed)
    }

    pub async fn ok(&self, name: &str, input: &str) -> String {
        let result = self.run(name, input).await;
        result.unwrap_or_else(|failure| panic!("{name}: {failure}")).as_str().to_owned()
    }

    pub async fn fails(&self, name: &str, input: &str) -> Failure {
        match self.run(name, input).await {
            Ok(result) => panic!("{name} came to {result}"),
            Err(failure) => failure,
        }
    }
}

/// Waits for a condition that other threads bring about.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(20), "not in 20 s: {what}");
        tokio::task::yield_now().await;
        std::thread::yield_now();
    }
}
