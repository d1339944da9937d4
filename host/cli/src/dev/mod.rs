//! A host on this machine: open, listen, say so, serve until a signal, end in good order.

mod files;
mod listen;
mod log;
mod otlp;
mod signals;

use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use relive_api::Router;
use relive_engine::Engine;
use relive_queue::NatsOptions;
use relive_store::OpenError;
use serde::Serialize;
use tokio::{
    net::TcpListener,
    runtime::Runtime,
    sync::{Notify, watch},
};

pub use files::RunFiles;
pub use listen::loopback_nats;
pub use signals::watch as watch_signals;

use crate::{
    engine_args::EngineArgs,
    exit::{Exit, Failure},
    host::{Host, HostConfig, HostError},
    nats_bridge::Bridge,
    output,
    verbs::DevArgs,
};

/// Threads of the API: it parses and waits; the work is the engine's.
const API_THREADS: usize = 2;

/// What `--json` prints once the host listens.
#[derive(Serialize)]
struct Ready<'a> {
    address: String,
    data: String,
    pid: u32,
    ready_ms: u64,
    version: &'a str,
}

/// Runs a host until it is told to end.
pub fn run(args: &DevArgs, json: bool) -> Result<Exit, Failure> {
    let began = Instant::now();
    let address = listen::loopback(&args.listen)?;
    // Dropped last: what the end has to tell is sent, too.
    let _exporter = start_log(args.log_file.as_deref(), &args.engine, &instance())?;
    raise_open_files();
    let mut config = HostConfig::new(args.data.clone());
    config.engine = args.engine.config()?;
    config.accept_upgrade = args.engine.accept_upgrade;
    let grace = config.engine.shutdown_grace;
    config.bench_activities = args.bench_activities;
    let host = Host::open(config).map_err(not_opened)?;
    let runtime = api_runtime()?;
    let drain = Drain { grace, wait: Duration::from_secs(args.engine.drain_seconds) };
    let bridge = args.workers_nats.as_deref().map(|url| open_bridge(&runtime, url)).transpose()?;
    let served = serve(&runtime, &host, address, (drain, bridge), |address| {
        let files = files::RunFiles::write(&args.data, address)?;
        announce(args, address, began, json)?;
        Ok(files)
    });
    runtime.block_on(host.close());
    served?;
    if !json {
        output::complain("ended in good order");
    }
    Ok(Exit::Ok)
}

/// The runtime that the API runs on.
pub fn api_runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(API_THREADS)
        .thread_name("relive-api")
        .enable_all()
        .build()
        .map_err(|e| Failure::new(Exit::Failed, "threads", format!("failed to start the API's threads: {e}")))
}

/// Opens the listener.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|e| listen::refused(address, &e))
}

/// How a host ends after a signal.
struct Drain {
    /// How long activities that run may take.
    grace: Duration,
    /// How long it answers at least, as not ready: load balancers look every few seconds.
    wait: Duration,
}

impl Drain {
    /// Waits for the signal, then for what runs. The listener answers meanwhile: as not ready, and to workers.
    async fn after(self, stop: Arc<Notify>, engine: Engine) {
        stop.notified().await;
        tokio::join!(engine.wind_down(self.grace), tokio::time::sleep(self.wait));
    }
}

/// Listens, tells `ready` where, and serves until a signal. The files that say where it listens go when it ends.
fn serve(
    runtime: &Runtime,
    host: &Host,
    address: SocketAddr,
    (drain, bridge): (Drain, Option<Bridge>),
    ready: impl FnOnce(SocketAddr) -> Result<files::RunFiles, Failure>,
) -> Result<(), Failure> {
    runtime.block_on(async {
        let listener = bind(address).await?;
        let address = listener.local_addr().map_err(|e| listen::refused(address, &e))?;
        let stop = Arc::new(Notify::new());
        signals::watch(&stop)?;
        let _files = ready(address)?;
        let engine = host.engine();
        let served =
            beside(bridge, host.engine(), |router| relive_api::serve(listener, router, drain.after(stop, engine)));
        served.await
    })
}

/// Serves HTTP, and workers over NATS beside it for as long.
pub async fn beside<F>(bridge: Option<Bridge>, engine: Engine, http: impl FnOnce(Router) -> F) -> Result<(), Failure>
where
    F: Future<Output = std::io::Result<()>>,
{
    let (end, mut ending) = watch::channel(false);
    let workers = bridge.map(|bridge| {
        tokio::spawn(bridge.serve(engine.clone(), async move { drop(ending.wait_for(|end| *end).await) }))
    });
    let served = http(relive_api::router(engine)).await;
    end.send_replace(true);
    if let Some(workers) = workers
        && let Err(error) = workers.await
    {
        tracing::error!(%error, "the bridge to NATS ended early");
    }
    served.map_err(|e| Failure::new(Exit::Failed, "serve", format!("failed to serve: {e}")))
}

/// Starts the log, and exporting traces if somebody asked for them. `instance` is what the collector hears of.
pub fn start_log(file: Option<&Path>, args: &EngineArgs, instance: &str) -> Result<Option<otlp::Exporter>, Failure> {
    let exporting = args.otlp_endpoint.as_deref().map(|endpoint| otlp::start(endpoint, instance)).transpose()?;
    let (spans, exporter) = exporting.unzip();
    log::start(file, spans)?;
    Ok(exporter)
}

/// What tells this process from others among those that a collector hears of.
fn instance() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}:{}", host.trim(), std::process::id())
}

/// The way to workers over NATS. As with HTTP, nobody is asked for credentials, so other machines may not come by it.
fn open_bridge(runtime: &Runtime, url: &str) -> Result<Bridge, Failure> {
    let options = NatsOptions::new(url);
    listen::loopback_nats(&options.url)?;
    runtime
        .block_on(Bridge::open(NatsOptions { name: format!("relive dev {}", std::process::id()), ..options }))
        .map_err(|e| Failure::new(Exit::Usage, "workers-nats", e.to_string()))
}

/// Connections and granted directories are descriptors; what the machine allows is asked for.
pub fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        tracing::debug!(%error, "failed to raise the limit of open files");
    }
}

fn not_opened(error: HostError) -> Failure {
    let exit = match &error {
        HostError::Store(OpenError::Locked { .. }) => Exit::Conflict,
        _ => Exit::Failed,
    };
    Failure::new(exit, error.code(), format!("failed to {error}"))
}

fn announce(args: &DevArgs, address: SocketAddr, began: Instant, json: bool) -> Result<(), Failure> {
    let ready_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let version = env!("CARGO_PKG_VERSION");
    let url = format!("http://{address}");
    if json {
        let ready =
            Ready { address: url, data: args.data.display().to_string(), pid: std::process::id(), ready_ms, version };
        return output::line(
            &serde_json::to_string(&ready).map_err(|e| Failure::new(Exit::Failed, "output", e.to_string()))?,
        );
    }
    let server = if url == crate::DEFAULT_SERVER { String::new() } else { format!("export RELIVE_SERVER={url}\n    ") };
    output::line(&format!(
        "relive {version} is up after {ready_ms} ms\n\
         \n  address  {url}\n  data     {}\n\
         \n  next, in another terminal:\n    {server}relive deploy DIR\n    relive start WORKFLOW --input '{{}}' --wait\n\
         \n  Ctrl-C ends it in good order; kill -9 is fine too",
        args.data.display()
    ))
}
