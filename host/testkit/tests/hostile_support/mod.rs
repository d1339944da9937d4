//! An engine with the real sandbox in which hostile guests run beside a healthy one: the healthy one's latency is
//! measured before and meanwhile, and afterwards the process holds what it held.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use relive_core::{Error, Json, Namespace, WorkflowId, event::BlockReason, ports::Status};
use relive_engine::{
    DeployRequest, Engine, EngineConfig, EngineParts, NativeOnly, SandboxGuests, StartRequest, views::ExecutionDetail,
};
use relive_sandbox::{Sandbox, SandboxConfig};
use relive_store::MemoryStore;
use relive_testkit::{
    clock::SystemClock,
    embedded::{Embedded, Sink},
    guests,
    hostile::{reactor::GuestText, usage::Usage},
};
use serde_json::{Value, json};

/// Latencies measured before and meanwhile: this many, or fewer once enough attacks were made, which the store keeps
/// in memory.
const SAMPLES: usize = 1_000;
const FEWEST_SAMPLES: usize = 200;
const ENOUGH_ATTACKS: u64 = 4;
/// A p99 below this is good whatever it was before: a busy machine's scheduler alone makes as much.
const FLOOR: Duration = Duration::from_millis(30);
const PATIENCE: Duration = Duration::from_secs(120);

/// A host under attack.
pub struct Site {
    pub host: Embedded,
    ids: AtomicU64,
}

/// How a hostile execution must come to rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    Completed,
    Failed,
    Blocked(BlockReason),
}

/// Runs an attack in a runtime whose threads do not outlive what they did.
pub fn under_attack<F: Future<Output = ()>>(attack: impl FnOnce(Arc<Site>) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_keep_alive(Duration::from_millis(100))
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let site = Arc::new(Site::start().await);
        attack(site.clone()).await;
        site.host.verify().await;
        site.host.engine.shutdown().await;
    });
}

impl Site {
    async fn start() -> Self {
        let store = Arc::new(MemoryStore::new());
        let sandbox = Sandbox::new(SandboxConfig::in_process()).expect("a sandbox");
        let sink = Arc::new(Sink::default());
        let parts = EngineParts {
            store: store.clone(),
            catalog: store.clone(),
            images: store.clone(),
            guests: Arc::new(SandboxGuests::new(sandbox, store.clone())),
            activities: sink.clone(),
            activity_host: Arc::new(NativeOnly),
            clock: Arc::new(SystemClock),
            epoch: 1,
            clean: true,
            marks: None,
            cluster: None,
            commits: Arc::new(|| 0),
        };
        let config = EngineConfig { workers: 2, ..EngineConfig::default() };
        let engine = Engine::start(parts, config, tokio::runtime::Handle::current()).expect("an engine");
        let site = Self { host: Embedded { engine, sink }, ids: AtomicU64::new(0) };
        site.deploy(guests::bytes("script/script.wasm"), "script").await.expect("deployed");
        site
    }

    pub async fn deploy(&self, bytes: Vec<u8>, name: &str) -> Result<(), Error> {
        let request = DeployRequest { name: Some(name.to_owned()), ..DeployRequest::new(Namespace::default(), bytes) };
        self.host.engine.deploy(request).await.map(|_| ())
    }

    /// Starts an execution; gives its id.
    pub async fn begin(&self, workflow: &str, input: &Value) -> String {
        let id = format!("{workflow}-{}", self.ids.fetch_add(1, Ordering::Relaxed));
        let request = StartRequest {
            namespace: Namespace::default(),
            workflow: workflow.to_owned(),
            workflow_id: Some(WorkflowId::new(&id).expect("an id")),
            input: Json::of(input).expect("JSON"),
            correlation_id: None,
            trace: None,
            policy: relive_engine::StartPolicy::default(),
        };
        self.host.engine.start_execution(request).await.expect("started");
        id
    }

    /// Waits until an execution has ended or is blocked.
    pub async fn rest(&self, id: &str) -> ExecutionDetail {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let detail = self.host.engine.show(Embedded::target(id)).await.expect("it is there");
            if detail.execution.status != Status::Running {
                return detail;
            }
            assert!(Instant::now() < deadline, "{id} does not come to rest: {detail:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// One hostile execution from its start to its removal. Gives what it came to, as text.
    pub async fn attack(&self, workflow: &str, input: &Value, rest: Rest) -> String {
        let id = self.begin(workflow, input).await;
        let detail = self.rest(&id).await;
        let report = detail.block_report.clone().unwrap_or_default();
        let found = match (detail.execution.status, detail.execution.blocked) {
            (Status::Completed, _) => Rest::Completed,
            (Status::Failed, _) => Rest::Failed,
            (Status::Blocked, Some(reason)) => Rest::Blocked(reason),
            other => panic!("{id}: {other:?}"),
        };
        assert_eq!(found, rest, "{id}: {report}");
        assert!(report.len() < 64 << 10, "a report of {} bytes", report.len());
        if matches!(rest, Rest::Blocked(_)) {
            self.host.engine.terminate(Embedded::target(&id), "seen enough".into()).await.expect("terminated");
            return report;
        }
        let view = self.host.ended(&id).await;
        view.result.map_or_else(|| format!("{:?}", view.failure), |json| json.to_string())
    }

    /// From the request to the result of a healthy execution with one step.
    async fn healthy(&self) -> Duration {
        let began = Instant::now();
        let program = json!({"program": [{"activity": {"name": "echo", "input": 1}}]});
        let id = self.begin("script", &program).await;
        let view = self.host.ended(&id).await;
        assert_eq!(view.status, Status::Completed);
        began.elapsed()
    }

    /// Attacks again and again while a healthy guest's latency is measured, which may at most double; then everything
    /// that the attacks took is given back.
    pub async fn beside<F>(self: Arc<Self>, name: &str, attack: impl Fn(Arc<Self>) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.beside_within(name, FLOOR, attack).await;
    }

    /// The same where a p99 below `floor` is good.
    pub async fn beside_within<F>(
        self: Arc<Self>,
        name: &str,
        floor: Duration,
        attack: impl Fn(Arc<Self>) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        for _ in 0..20 {
            self.healthy().await;
        }
        // The first attack has made what is made once.
        attack(self.clone()).await;
        self.at_rest(None).await;
        let (mut before, mut during) = (Vec::new(), Vec::new());
        for _ in 0..SAMPLES {
            before.push(self.healthy().await);
        }
        let held = self.at_rest(None).await;
        let (enough, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (site, stop, count) = (self.clone(), enough.clone(), made.clone());
        let attacks = tokio::spawn(async move {
            while count.load(Ordering::Relaxed) == 0 || !stop.load(Ordering::Relaxed) {
                attack(site.clone()).await;
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        let few = |made: u64, samples| made < ENOUGH_ATTACKS || samples < FEWEST_SAMPLES;
        while during.len() < SAMPLES && few(made.load(Ordering::Relaxed), during.len()) {
            during.push(self.healthy().await);
        }
        enough.store(true, Ordering::Relaxed);
        attacks.await.expect("the attacks went as expected");
        let made = made.load(Ordering::Relaxed);
        let (before, during) = (p99(before), p99(during));
        println!("{name}: p99 {before:?} before, {during:?} beside {made} attacks");
        assert!(during <= floor.max(before * 2), "{name}: p99 {before:?} before, {during:?} beside {made} attacks");
        self.at_rest(Some(held)).await;
    }

    /// Waits until no guest is in memory, and until the process holds no more than `held`.
    async fn at_rest(&self, held: Option<Usage>) -> Usage {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (status, now) = (self.host.engine.status(), Usage::now());
            let beyond = held.and_then(|held| now.beyond(&held));
            if status.live_guests == 0 && status.cells == 0 && status.guest_memory_bytes == 0 && beyond.is_none() {
                return now;
            }
            let cells = status.cells;
            assert!(Instant::now() < deadline, "{} guests, {cells} cells stay; {beyond:?}", status.live_guests);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Deploys a hand-written guest that is `demo` under this name.
    pub async fn demo(&self, name: &str, text: &GuestText) {
        self.deploy(text.module(), name).await.expect("admitted");
    }
}

fn p99(mut samples: Vec<Duration>) -> Duration {
    samples.sort_unstable();
    samples[samples.len() * 99 / 100]
}
