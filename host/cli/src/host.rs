//! The wiring of a host: the one file that names adapters. `dev` and tests open hosts through it.
//!
//! A host has two async runtimes: the API's, which the caller owns, and one for activities, so that user code that
//! blocks a thread cannot stall the API.

use std::{path::PathBuf, sync::Arc};

use relive_activity::{
    ActivityRegistry, DispatchLimits, HttpHost, HttpHostError, KeyError, SigningKey, WasmHost, WasmHostError,
    WasmLimits,
};
use relive_api::HttpPeers;
use relive_core::{
    Failure, Json,
    ports::{Clock, EventFeed, Signals, TaskQueue},
};
use relive_engine::{ClusterParts, Engine, EngineConfig, EngineParts, FeedParts, SandboxGuests};
use relive_sandbox::{CompileLimits, CompileMode, Sandbox, SandboxConfig, SandboxError};
use relive_store::{MemoryStore, OpenError};
use tokio::runtime::Runtime;

use crate::{
    clock::{StoreClock, SystemClock},
    deployment::DeployedActivities,
    ledger,
    stores::Opened,
    upgrade,
    verbs::compile_component,
};

/// Threads of the activities' runtime: wasm activities have their own, native ones are asynchronous.
const ACTIVITY_THREADS: usize = 2;

/// What a host is told.
pub struct HostConfig {
    /// Where everything lies; made if it is not there.
    pub data_dir: PathBuf,
    pub engine: EngineConfig,
    /// How uploads are compiled.
    pub compile: CompileMode,
    /// Offers the native activities `echo`, `ledger` and `fatal`, for benchmarks and crash tests.
    pub bench_activities: bool,
    /// Starts also if open executions differ on this program from the one before.
    pub accept_upgrade: bool,
}

impl HostConfig {
    /// A host in `data_dir` that compiles in a child of this binary.
    #[must_use]
    pub fn new(data_dir: PathBuf) -> Self {
        Self {
            data_dir,
            engine: EngineConfig::default(),
            compile: compile_child(),
            bench_activities: false,
            accept_upgrade: false,
        }
    }
}

/// Guests without a host: nothing is kept, and there is no catalog.
pub fn local_guests() -> Result<SandboxGuests, SandboxError> {
    let sandbox = sandbox(None, compile_child())?;
    Ok(SandboxGuests::new(sandbox, Arc::new(MemoryStore::new())))
}

fn sandbox(cache_dir: Option<PathBuf>, compile: CompileMode) -> Result<Sandbox, SandboxError> {
    Sandbox::new(SandboxConfig { cache_dir, compile, compile_limits: CompileLimits::default(), optimise: true })
}

/// This binary as the compiler's process. The link in `/proc` leads to it also when the file was replaced by a newer one.
fn compile_child() -> CompileMode {
    let program = match std::env::current_exe() {
        Ok(path) if cfg!(not(target_os = "linux")) => path,
        _ => PathBuf::from("/proc/self/exe"),
    };
    CompileMode::Child { program, args: vec![compile_component::NAME.into()] }
}

/// An activity that takes the host down with it.
fn fatal() -> Result<Json, Failure> {
    std::process::abort()
}

/// Why a host cannot be opened. Fits "failed to {..}".
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    #[error("open the data directory: {0}")]
    Store(#[from] OpenError),
    #[error("set up the sandbox: {0}")]
    Sandbox(#[from] SandboxError),
    #[error("set up the activities' host: {0}")]
    Activities(#[from] WasmHostError),
    #[error("set up the client of http activities: {0}")]
    Http(#[from] HttpHostError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("go on with what is open: {0}")]
    Upgrade(#[from] upgrade::Differs),
    #[error("start the engine: {0}")]
    Engine(Box<relive_core::Error>),
    #[error("start the activities' threads: {0}")]
    Threads(#[from] std::io::Error),
}

impl HostError {
    /// Stable, for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Store(error) => error.code(),
            Self::Sandbox(_) => "sandbox",
            Self::Activities(_) | Self::Http(_) => "activity-host",
            Self::Key(_) => "signing-key",
            Self::Upgrade(_) => "upgrade-differs",
            Self::Engine(error) => error.code,
            Self::Threads(_) => "threads",
        }
    }
}

/// A running host without a listener.
pub struct Host {
    engine: Engine,
    store: Opened,
    activities: Runtime,
}

/// A host's place among others.
pub struct Membership {
    pub host_id: Arc<str>,
    /// Where the others reach it.
    pub address: Arc<str>,
    /// Tells hosts of tasks at once.
    pub broker: Option<Arc<dyn TaskQueue>>,
    /// Nudges between hosts.
    pub signals: Option<Arc<dyn Signals>>,
    /// Tells other systems of events.
    pub feed: Option<Arc<dyn EventFeed>>,
}

impl Host {
    /// Opens the data directory and starts the engine; recovery goes on in the background.
    pub fn open(config: HostConfig) -> Result<Self, HostError> {
        // The store makes the directory, and refuses one that another host has.
        let store = Opened::sqlite(&config.data_dir)?;
        Self::with(config, store, None)
    }

    /// Starts an engine on a store that hosts share. The data directory, which is there, is this host's own.
    pub fn join(config: HostConfig, store: Opened, membership: Membership) -> Result<Self, HostError> {
        Self::with(config, store, Some(membership))
    }

    fn with(config: HostConfig, store: Opened, membership: Option<Membership>) -> Result<Self, HostError> {
        let sandbox = sandbox(Some(config.data_dir.join("native")), config.compile)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(ACTIVITY_THREADS)
            .thread_name("relive-activity")
            .enable_all()
            .build()?;
        let catalog = store.catalog.clone();
        let outbox = store.outbox.clone();
        let shared = store.cluster.clone().zip(store.workers.clone());
        let cluster = membership.zip(shared).map(|(membership, (store, workers))| ClusterParts {
            store,
            workers,
            peers: Some(Arc::new(HttpPeers::default())),
            broker: membership.broker,
            signals: membership.signals,
            feed: membership.feed.zip(outbox).map(|(feed, outbox)| FeedParts { outbox, feed }),
            host_id: membership.host_id,
            address: membership.address,
            version: env!("CARGO_PKG_VERSION").into(),
            incarnation: incarnation(),
        });
        let clock: Arc<dyn Clock> = if cluster.is_some() { Arc::new(StoreClock::new()) } else { Arc::new(SystemClock) };
        let wasm = WasmHost::new(sandbox.clone(), WasmLimits::default())?;
        let http = HttpHost::new(SigningKey::of_directory(&config.data_dir)?)?;
        let mut registry = ActivityRegistry::builder(DispatchLimits::default())
            .wasm(wasm.clone())
            .http(http.clone())
            .catalog(catalog.clone());
        if config.bench_activities {
            registry = registry
                .native_raw("echo", |_, input: Json| async move { Ok::<_, Failure>(input) })
                .native_raw("ledger", |task, input| async move { ledger::append(&task, input) })
                .native_raw("fatal", |_, _| async move { fatal() });
        }
        let registry = registry.build();
        let guests = SandboxGuests::new(sandbox.clone(), catalog.clone());
        upgrade::check(&config.data_dir, &sandbox, &*store.history, &guests, config.accept_upgrade)?;
        let parts = EngineParts {
            store: store.history.clone(),
            images: store.images.clone(),
            guests: Arc::new(guests),
            catalog,
            activities: Arc::new(registry.clone()),
            activity_host: Arc::new(DeployedActivities { sandbox, wasm, http, registry }),
            clock,
            epoch: store.epoch,
            clean: store.clean,
            marks: Some(config.data_dir.join("running")),
            cluster,
            commits: store.commits.clone(),
        };
        let engine = Engine::start(parts, config.engine, runtime.handle().clone())
            .map_err(|e| HostError::Engine(Box::new(e)))?;
        Ok(Self { engine, store, activities: runtime })
    }

    #[must_use]
    pub fn engine(&self) -> Engine {
        self.engine.clone()
    }

    /// Ends in good order: turns finish, what is decided is committed, and the store notes that nothing was cut off.
    /// Call it once the listener has ended.
    pub async fn close(self) {
        self.engine.shutdown().await;
        if let Err(error) = self.store.close_clean() {
            tracing::warn!(%error, "failed to note the clean end; the next start will check more");
        }
        // Threads of activities that do not listen must not hold up the end.
        self.activities.shutdown_background();
    }
}

/// Tells this process from all others that had its name.
fn incarnation() -> u64 {
    uuid::Uuid::now_v7().as_u64_pair().1 >> 1
}
