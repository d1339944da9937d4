//! What all parts of an engine share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize},
    },
    time::Instant,
};

use crossbeam_channel::{Receiver, Sender};
use parking_lot::Mutex;
use relive_core::{
    ShardSet,
    ports::{AppendItem, Catalog, Clock, HistoryStore, StoredImage, Wanted},
};
use tokio::runtime::Handle;

use crate::{
    attempts::Attempts,
    cache::Cache,
    cell::{Cell, Registry},
    changes::Changes,
    cluster::Cluster,
    config::{EngineConfig, EngineParts},
    dispatch::Dispatcher,
    feed::{Feed, Publisher},
    guests::{ActivityHost, GuestFactory},
    health::Health,
    images::Images,
    loader::Loader,
    marks::{Marks, Suspects},
    metrics::Metrics,
    ownership::Ownership,
    remote::{Exchange, Queues, Workers},
    stripes::Stripes,
    timers::Timers,
    waiters::Waiters,
    workflows::Workflows,
};

/// Numbers for operators and benchmarks.
#[derive(Default)]
pub(crate) struct Stats {
    pub relives: AtomicU64,
    pub relived_events: AtomicU64,
    pub relive_nanos: AtomicU64,
    pub recovered: AtomicU64,
    pub audited: AtomicU64,
    pub audit_findings: AtomicU64,
    pub in_flight: AtomicUsize,
    /// Runs that the loader was asked for and has not told of.
    pub loading: AtomicUsize,
    /// Workers that were not heard of any more, and attempts that workers lost or gave up.
    pub workers_lost: AtomicU64,
    pub attempts_given_back: AtomicU64,
    /// Looks of the reconciler, and what it did.
    pub reconciled: AtomicU64,
    pub tasks_put_back: AtomicU64,
    pub tasks_removed: AtomicU64,
}

/// What is in memory of workers and the tasks that they take.
#[derive(Default)]
pub(crate) struct Remote {
    pub queues: Arc<Queues>,
    pub workers: Workers,
}

pub(crate) struct Context {
    pub config: EngineConfig,
    pub store: Arc<dyn HistoryStore>,
    pub catalog: Arc<dyn Catalog>,
    pub guests: Arc<dyn GuestFactory>,
    pub activity_host: Arc<dyn ActivityHost>,
    pub clock: Arc<dyn Clock>,
    pub commits: Arc<dyn Fn() -> u64 + Send + Sync>,
    pub ownership: Ownership,
    /// The other hosts; none: this one has its store to itself.
    pub cluster: Option<Arc<Cluster>>,
    /// Tells this process from those before it under the same name.
    pub generation: u64,
    /// Shards that came to this host and are still to be looked through.
    pub recovering: Mutex<ShardSet>,
    pub registry: Registry,
    pub committer: Sender<AppendItem>,
    /// Reads for owners that wake; none: they read themselves.
    pub loader: Option<Loader>,
    pub dispatcher: Dispatcher,
    pub timers: Timers,
    pub cache: Cache,
    pub images: Images,
    pub attempts: Attempts,
    pub remote: Remote,
    /// The way to what other hosts have for workers that poll here; none: there are no others.
    pub exchange: Option<Exchange>,
    /// Other systems that want to know of events.
    pub feed: Option<Feed>,
    pub waiters: Waiters,
    /// Those who want to know of commits.
    pub changes: Arc<Changes>,
    /// Starts that look before they start.
    pub starts: Stripes,
    pub marks: Marks,
    pub suspects: Suspects,
    pub workflows: Workflows,
    pub stats: Stats,
    pub metrics: Arc<Metrics>,
    pub health: Health,
    /// No new requests; what is running goes on, and may be answered for.
    pub draining: AtomicBool,
    /// The end: no requests at all, what is running may end.
    pub stopping: AtomicBool,
    /// Nothing will be decided any more: the committer may end.
    pub closed: AtomicBool,
    pub started: Instant,
}

/// What the threads of an engine take in.
pub(crate) struct Ends {
    pub cells: Receiver<Arc<Cell>>,
    pub items: Receiver<AppendItem>,
    pub wanted: Option<Receiver<Wanted>>,
    pub spilled: Receiver<StoredImage>,
    pub publisher: Option<Publisher>,
}

impl Context {
    pub fn new(
        parts: EngineParts,
        config: EngineConfig,
        runtime: Handle,
        marks: Marks,
        suspects: Suspects,
    ) -> (Arc<Self>, Ends) {
        let (ready, cells) = crossbeam_channel::unbounded();
        let (committer, items) = crossbeam_channel::unbounded();
        let (loader, wanted) = (parts.store.takes_together() > 1)
            .then(crossbeam_channel::unbounded)
            .map(|(requests, wanted)| (Loader::new(requests), wanted))
            .unzip();
        let (images, spilled) = Images::new(config.images, parts.images);
        let metrics = Arc::<Metrics>::default();
        let shared = parts.cluster.as_ref();
        let (feed, publisher) = shared.and_then(|cluster| cluster.feed.clone()).map(Feed::new).unzip();
        let peers =
            shared.and_then(|cluster| Some((cluster.peers.clone()?, cluster.broker.clone(), cluster.signals.clone())));
        let exchange = peers.map(|(peers, broker, signals)| Exchange::new(peers, broker, signals, runtime.clone()));
        let context = Arc::new(Self {
            cache: Cache::new(config.cache),
            images,
            attempts: Attempts::default(),
            remote: Remote::default(),
            exchange,
            feed,
            store: parts.store,
            catalog: parts.catalog,
            guests: parts.guests,
            activity_host: parts.activity_host,
            clock: parts.clock,
            commits: parts.commits,
            ownership: if parts.cluster.is_some() { Ownership::shared() } else { Ownership::alone(parts.epoch) },
            generation: parts.cluster.as_ref().map_or(parts.epoch, |c| c.incarnation),
            cluster: parts.cluster.map(|parts| Arc::new(Cluster::new(parts))),
            recovering: Mutex::new(ShardSet::NONE),
            registry: Registry::new(ready),
            committer,
            loader,
            dispatcher: Dispatcher::new(runtime, parts.activities, metrics.clone()),
            timers: Timers::new(),
            waiters: Waiters::default(),
            changes: Arc::default(),
            starts: Stripes::default(),
            marks,
            suspects,
            workflows: Workflows::default(),
            stats: Stats::default(),
            metrics,
            health: Health::default(),
            draining: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            started: Instant::now(),
            config,
        });
        (context, Ends { cells, items, wanted, spilled, publisher })
    }
}
