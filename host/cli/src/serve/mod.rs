//! One host of a cluster: connect to the store, listen, join the others, serve until a signal, hand over and leave.

mod broker;
mod document;
pub mod file;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use relive_core::ports::{EventFeed, Signals, TaskQueue};
use relive_queue::NatsQueue;
use relive_store::PostgresOptions;
use serde::Serialize;
use tokio::net::TcpListener;

pub use document::document;

use crate::{
    dev,
    engine_args::EngineArgs,
    exit::{Exit, Failure},
    host::{Host, HostConfig, Membership},
    nats_bridge::Bridge,
    output,
    stores::Opened,
    verbs::ServeArgs,
};

/// How long other hosts may take up what this one hands over before it ends.
const DRAIN: Duration = Duration::from_secs(8);

/// What `--json` prints once the host serves.
#[derive(Serialize)]
struct Ready<'a> {
    address: String,
    host_id: String,
    pid: u32,
    ready_ms: u64,
    version: &'a str,
}

/// Runs a host until it is told to end.
pub fn run(args: &ServeArgs, json: bool) -> Result<Exit, Failure> {
    let began = Instant::now();
    let address = listen_on(args)?;
    dev::raise_open_files();
    let options = store_options(args)?;
    args.queue.as_deref().map_or(Ok(()), |url| broker::check(url, args.insecure))?;
    if args.event_feed && args.queue.is_none() {
        return Err(Failure::usage("the event feed needs a broker".to_owned())
            .hint("give --queue nats://HOST:PORT, or leave --event-feed out"));
    }
    std::fs::create_dir_all(&args.data).map_err(|e| {
        Failure::new(Exit::Failed, "data-dir-unusable", format!("failed to make {}: {e}", args.data.display()))
    })?;
    let runtime = dev::api_runtime()?;
    // The address first: the other hosts are told of it as soon as this one joins.
    let listener = runtime.block_on(dev::bind(address))?;
    let address = listener.local_addr().map_err(|e| Failure::new(Exit::Failed, "address-refused", e.to_string()))?;
    let host_id = args.host_id.clone().unwrap_or_else(|| default_id(address));
    relive_core::ids::check_name(&host_id, "host id")
        .map_err(|e| Failure::usage(format!("failed to take --host-id: {e}")))?;
    let _exporter = dev::start_log(args.log_file.as_deref(), &args.engine, &host_id)?;
    let advertise = args.advertise.clone().unwrap_or_else(|| format!("http://{address}"));
    check_advertise(args, &advertise, address)?;
    let stores = Opened::shared(&options)
        .map_err(|e| Failure::new(Exit::Failed, e.code(), format!("failed to open the store: {e}")))?;
    let mut config = HostConfig::new(args.data.clone());
    config.engine = args.engine.config()?;
    config.accept_upgrade = args.engine.accept_upgrade;
    config.bench_activities = args.bench_activities;
    let broker = match &args.queue {
        Some(url) => Some(runtime.block_on(broker::open(url, &host_id, args.queue_replicas))?),
        None => None,
    };
    let membership = Membership {
        host_id: host_id.as_str().into(),
        address: advertise.as_str().into(),
        broker: broker.clone().map(|broker| -> Arc<dyn TaskQueue> { broker }),
        signals: broker.clone().map(|broker| -> Arc<dyn Signals> { broker }),
        feed: broker.clone().filter(|_| args.event_feed).map(|broker| -> Arc<dyn EventFeed> { broker }),
    };
    let host = Host::join(config, stores, membership)
        .map_err(|e| Failure::new(Exit::Failed, e.code(), format!("failed to {e}")))?;
    let served = runtime.block_on(serve(&host, listener, broker, &args.engine, || {
        let files = dev::RunFiles::write(&args.data, address)?;
        announce(address, &host_id, began, json)?;
        Ok(files)
    }));
    runtime.block_on(host.close());
    served?;
    if !json {
        output::complain("ended in good order");
    }
    Ok(Exit::Ok)
}

/// Which database, and how to use it.
fn store_options(args: &ServeArgs) -> Result<PostgresOptions, Failure> {
    let url = args.store.clone().ok_or_else(|| {
        Failure::usage("a host of a cluster needs its store".to_owned())
            .hint("give --store postgres://USER:PASSWORD@HOST:PORT/DATABASE, RELIVE_STORE, or `store` in relive-server.toml; for one machine there is `relive dev`")
    })?;
    let mut options = PostgresOptions::new(url);
    options.feeds = args.event_feed;
    options.readers = usize::try_from(args.store_connections).unwrap_or(usize::MAX);
    Ok(options)
}

async fn serve(
    host: &Host,
    listener: TcpListener,
    broker: Option<Arc<NatsQueue>>,
    args: &EngineArgs,
    ready: impl FnOnce() -> Result<dev::RunFiles, Failure>,
) -> Result<(), Failure> {
    let stop = Arc::new(tokio::sync::Notify::new());
    dev::watch_signals(&stop)?;
    let _files = ready()?;
    let engine = host.engine();
    let (grace, wait) =
        (relive_engine::EngineConfig::default().shutdown_grace, Duration::from_secs(args.drain_seconds));
    let shutdown = async {
        stop.notified().await;
        // Requests are taken still, and travel on to whoever takes the executions over.
        engine.drain();
        let until = tokio::time::Instant::now() + DRAIN;
        let handed_over = async {
            while engine.owns_anything() && engine.has_others() && tokio::time::Instant::now() < until {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            // Nobody took them: what runs here ends here.
            if engine.owns_anything() {
                engine.wind_down(grace).await;
            }
        };
        tokio::join!(handed_over, tokio::time::sleep(wait));
    };
    let served =
        dev::beside(broker.map(Bridge::over), host.engine(), |router| relive_api::serve(listener, router, shutdown));
    served.await
}

/// Where to listen. What other machines reach has to be asked for.
fn listen_on(args: &ServeArgs) -> Result<SocketAddr, Failure> {
    let text = args.listen.strip_prefix("http://").unwrap_or(&args.listen).trim_end_matches('/');
    let numeric = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    let address: SocketAddr = numeric.parse().map_err(|_| {
        Failure::usage(format!("{text:?} is no address to listen on"))
            .hint("give it as 0.0.0.0:7474 or 127.0.0.1:7474; port 0 takes a free one")
    })?;
    if !address.ip().is_loopback() && !args.insecure {
        let message = format!("{address} is reached by other machines, and nobody is asked for credentials there");
        return Err(Failure::new(Exit::Usage, "not-loopback", message).hint(
            "listen on 127.0.0.1 behind a proxy that asks for them, or say --insecure on a network of your own",
        ));
    }
    Ok(address)
}

/// Other hosts must be able to go there.
fn check_advertise(args: &ServeArgs, advertise: &str, address: SocketAddr) -> Result<(), Failure> {
    if args.advertise.is_none() && address.ip().is_unspecified() {
        let message = format!("{address} is no address that other hosts could reach");
        return Err(Failure::new(Exit::Usage, "advertise", message)
            .hint("say with --advertise http://HOST:PORT where they reach this one"));
    }
    let sound = advertise
        .strip_prefix("http://")
        .is_some_and(|rest| !rest.trim_end_matches('/').contains('/') && !rest.is_empty());
    if sound {
        return Ok(());
    }
    Err(Failure::usage(format!("{advertise:?} is no address for --advertise")).hint("give it as http://HOST:PORT"))
}

/// The machine's name and the port: several hosts on one machine have several.
fn default_id(address: SocketAddr) -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let name: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).take(100).collect();
    format!("{}-{}", if name.is_empty() { "host" } else { &name }, address.port())
}

fn announce(address: SocketAddr, host_id: &str, began: Instant, json: bool) -> Result<(), Failure> {
    let ready_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (version, url) = (env!("CARGO_PKG_VERSION"), format!("http://{address}"));
    if json {
        let ready = Ready { address: url, host_id: host_id.to_owned(), pid: std::process::id(), ready_ms, version };
        let text = serde_json::to_string(&ready).map_err(|e| Failure::new(Exit::Failed, "output", e.to_string()))?;
        return output::line(&text);
    }
    output::line(&format!(
        "relive {version} is up after {ready_ms} ms\n\
         \n  host     {host_id}\n  address  {url}\n\
         \n  `relive hosts --server {url}` shows the others; SIGTERM hands over and ends it"
    ))
}
