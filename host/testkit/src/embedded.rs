//! An engine in the test's own process: scripted guests, native activities, any store.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::BoxFuture;
use relive_core::{
    Digest, Error, Failure, FailureKind, Json, Namespace, WorkflowId,
    cursor::Cursor,
    guest::{Guest, GuestFault, NotLaid},
    image::GuestStamp,
    ports::{
        ActivityRunner, ActivityTask, AnswerToken, AttemptEnd, AttemptResult, Catalog, Clock, ClusterStore,
        HistoryStore, ImageStore, WorkerStore,
    },
};
use relive_engine::{
    Admitted, ClusterParts, DeployRequest, Described, Engine, EngineConfig, EngineParts, GuestFactory, NativeOnly,
    SignalRequest, StartRequest, Target, views::ResultView,
};

use crate::{
    clock::SystemClock,
    model::{ModelGuest, Op},
};

/// A component whose code is this program, whatever its runs are started with.
///
/// # Panics
/// Never: programs are JSON.
#[must_use]
pub fn code(program: &[Op]) -> Vec<u8> {
    serde_json::to_vec(program).expect("a program is JSON")
}

/// Programs of components, by digest. A host that begins anew finds them, as it would find bytes in its catalog.
static CODE: Mutex<BTreeMap<Digest, Vec<Op>>> = Mutex::new(BTreeMap::new());

/// Makes scripted guests; every component is one. One that is a program runs it, others run what they are started with.
pub struct ModelGuests;

impl ModelGuests {
    fn guest(digest: &Digest, cursor: Cursor) -> Box<dyn Guest> {
        let code = CODE.lock().expect("no panic under the lock").get(digest).cloned();
        Box::new(ModelGuest::with_code(cursor, code))
    }
}

impl GuestFactory for ModelGuests {
    fn admit(&self, bytes: &[u8]) -> Result<Admitted, Error> {
        let described = Described {
            name: "model".to_owned(),
            summary: None,
            input_schema: None,
            output_schema: None,
            channels: None,
        };
        let digest = Digest::of(bytes);
        if let Ok(program) = serde_json::from_slice(bytes) {
            CODE.lock().expect("no panic under the lock").insert(digest, program);
        }
        Ok(Admitted { digest, inspection: Json::null(), workflows: vec![described] })
    }

    fn instantiate(&self, digest: &Digest, cursor: Cursor) -> Result<Box<dyn Guest>, GuestFault> {
        Ok(Self::guest(digest, cursor))
    }

    fn lay(
        &self,
        _digest: &Digest,
        cursor: Cursor,
        _stamp: &GuestStamp,
        body: &[u8],
    ) -> Result<Box<dyn Guest>, NotLaid> {
        Ok(Box::new(ModelGuest::laid(cursor, body)?))
    }

    fn instantiate_bytes(&self, bytes: &[u8], cursor: Cursor) -> Result<Box<dyn Guest>, GuestFault> {
        Ok(Self::guest(&Digest::of(bytes), cursor))
    }
}

/// Activities by name: `echo` gives its input, `fail` fails for good, `flaky` fails until attempt 3, `hang` never
/// ends, `accept` is answered from elsewhere. Counts the attempts of each idempotency key, and keeps their tokens.
#[derive(Default)]
pub struct Sink {
    attempts: Mutex<HashMap<String, u32>>,
    tokens: Mutex<Vec<String>>,
}

impl Sink {
    /// Attempts made under each idempotency key.
    pub fn attempts(&self) -> HashMap<String, u32> {
        self.attempts.lock().expect("no panic under the lock").clone()
    }

    /// The tokens that attempts came with, in order.
    pub fn tokens(&self) -> Vec<String> {
        self.tokens.lock().expect("no panic under the lock").clone()
    }
}

impl ActivityRunner for Sink {
    /// What workers run has a name that says so.
    fn hosts(&self, _: &Namespace, name: &str) -> bool {
        !name.starts_with("remote-")
    }

    fn run(&self, task: ActivityTask) -> BoxFuture<'static, AttemptResult> {
        *self.attempts.lock().expect("no panic under the lock").entry(task.idempotency_key()).or_default() += 1;
        let token = task.token.as_ref().map(AnswerToken::as_str).expect("an engine gives one").to_owned();
        self.tokens.lock().expect("no panic under the lock").push(token);
        Box::pin(async move {
            match &*task.name {
                "fail" => Err(Failure::new(FailureKind::Application, "broken", "as told").permanent()),
                "flaky" if task.attempt < 3 => Err(Failure::new(FailureKind::Application, "flaky", "not yet")),
                "hang" => std::future::pending().await,
                "accept" => Ok(AttemptEnd::Accepted { by: "somebody".into() }),
                _ => Ok(AttemptEnd::Completed(task.input)),
            }
        })
    }
}

/// A store with its catalog.
pub trait Store: HistoryStore + Catalog + ImageStore + 'static {}
impl<T: HistoryStore + Catalog + ImageStore + 'static> Store for T {}

/// What makes one life of a host.
struct Life {
    clock: Arc<dyn Clock>,
    epoch: u64,
    cluster: Option<ClusterParts>,
}

/// An engine over `store` with scripted guests, and what tests ask of it.
pub struct Embedded {
    pub engine: Engine,
    pub sink: Arc<Sink>,
}

impl Embedded {
    /// Starts an engine. Must be called within a tokio runtime.
    pub async fn start(store: Arc<impl Store>, clock: Arc<dyn Clock>, epoch: u64, config: EngineConfig) -> Self {
        Self::with(store.clone(), store, clock, epoch, config).await
    }

    /// The same with a history store of its own, such as one that fails, and `beside` for everything else.
    pub async fn with(
        store: Arc<dyn HistoryStore>,
        beside: Arc<impl Store>,
        clock: Arc<dyn Clock>,
        epoch: u64,
        config: EngineConfig,
    ) -> Self {
        Self::with_images(store, beside.clone(), beside, clock, epoch, config).await
    }

    /// The same with each part apart.
    pub async fn with_images(
        store: Arc<dyn HistoryStore>,
        catalog: Arc<dyn Catalog>,
        images: Arc<dyn ImageStore>,
        clock: Arc<dyn Clock>,
        epoch: u64,
        config: EngineConfig,
    ) -> Self {
        Self::of_parts(store, catalog, images, Life { clock, epoch, cluster: None }, config).await
    }

    /// One host of several on `store`; `hosts` is its way to the others.
    pub async fn in_cluster(
        store: Arc<impl Store + WorkerStore>,
        hosts: Arc<dyn ClusterStore>,
        id: &str,
        incarnation: u64,
    ) -> Self {
        let cluster = ClusterParts {
            store: hosts,
            workers: store.clone(),
            peers: None,
            broker: None,
            signals: None,
            feed: None,
            host_id: id.into(),
            address: format!("http://{id}.test").into(),
            version: "test".into(),
            incarnation,
        };
        let life = Life { clock: Arc::new(SystemClock), epoch: 0, cluster: Some(cluster) };
        Self::of_parts(store.clone(), store.clone(), store, life, EngineConfig::default()).await
    }

    async fn of_parts(
        store: Arc<dyn HistoryStore>,
        catalog: Arc<dyn Catalog>,
        images: Arc<dyn ImageStore>,
        life: Life,
        config: EngineConfig,
    ) -> Self {
        let Life { clock, epoch, cluster } = life;
        let sink = Arc::new(Sink::default());
        let parts = EngineParts {
            store,
            catalog,
            images,
            guests: Arc::new(ModelGuests),
            activities: sink.clone(),
            activity_host: Arc::new(NativeOnly),
            clock,
            epoch,
            clean: epoch == 1,
            marks: None,
            cluster,
            commits: Arc::new(|| 0),
        };
        let engine = Engine::start(parts, config, tokio::runtime::Handle::current()).expect("an engine");
        let deploy = DeployRequest::new(Namespace::default(), b"model".to_vec());
        engine.deploy(deploy).await.expect("the model is deployed");
        Self { engine, sink }
    }

    /// Names an execution.
    #[must_use]
    pub fn target(id: &str) -> Target {
        Target { namespace: Namespace::default(), workflow_id: WorkflowId::new(id).expect("an id"), run_id: None }
    }

    pub async fn run(&self, id: &str, program: &[Op]) -> Result<(), Error> {
        let request = StartRequest {
            namespace: Namespace::default(),
            workflow: "model".to_owned(),
            workflow_id: Some(WorkflowId::new(id).expect("an id")),
            input: Json::of(&program).expect("a program is JSON"),
            correlation_id: None,
            trace: None,
            policy: relive_engine::StartPolicy::default(),
        };
        self.engine.start_execution(request).await.map(|_| ())
    }

    pub async fn send(&self, id: &str, channel: &str, message_id: &str, input: &str) -> Result<(), Error> {
        let request = SignalRequest {
            target: Self::target(id),
            channel: channel.to_owned(),
            message_id: Some(message_id.to_owned()),
            trace: None,
            input: Json::parse(input).expect("JSON"),
        };
        self.engine.signal(request).await.map(|_| ())
    }

    /// The end of an execution.
    ///
    /// # Panics
    /// If it does not end within 20 s.
    pub async fn ended(&self, id: &str) -> ResultView {
        let view = self.engine.result(Self::target(id), Some(Duration::from_secs(20))).await.expect("a result");
        assert!(!view.status.is_open(), "{id} did not end: {view:?}");
        view
    }

    /// Waits until `condition` holds of the engine.
    ///
    /// # Panics
    /// If it does not within 20 s.
    pub async fn until<F: Future<Output = bool>>(&self, what: &str, condition: impl Fn() -> F) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while !condition().await {
            assert!(tokio::time::Instant::now() < deadline, "waited in vain for: {what}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// # Panics
    /// If the checker finds anything.
    pub async fn verify(&self) -> u64 {
        let report = self.engine.verify(Namespace::default(), None, true).await.expect("a report");
        assert!(report.findings.is_empty(), "{:?}", report.findings);
        report.executions
    }
}
