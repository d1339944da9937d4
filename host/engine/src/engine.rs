//! Starting and stopping an engine: which threads there are, and in which order they come and go.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use relive_core::{Error, ErrorKind, ShardSet};
use tokio::{runtime::Handle, sync::Semaphore};

use crate::{
    canary,
    cluster::{Keeper, leave},
    committer,
    config::{EngineConfig, EngineParts},
    context::{Context, Ends},
    facade::{deep, workers},
    images, loader,
    marks::{Marks, Suspects},
    message::Message,
    pool::Pool,
    reconcile, recovery,
    remote::{Exchange, Recovery},
    threads,
};

/// How long a graceful shutdown waits for commits that are under way.
const COMMIT_GRACE: Duration = Duration::from_secs(30);
/// How often workers are looked for that are not heard of any more.
const REAP_EVERY: Duration = Duration::from_secs(1);
/// How often a host of several looks which workers have ended.
const FOLLOW_EVERY: Duration = Duration::from_secs(3);
/// How often the sweep looks whether shards came or time is up.
const SWEEP_LOOK: Duration = Duration::from_millis(50);
/// The store's trouble is not made worse by asking at once again.
const RECOVERY_PAUSE: Duration = Duration::from_millis(500);
/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A running engine. Cheap to clone; [`Engine::shutdown`] ends it for all clones.
#[derive(Clone)]
pub struct Engine {
    pub(crate) context: Arc<Context>,
    threads: Arc<Threads>,
}

struct Threads {
    pool: Arc<Pool>,
    others: Mutex<Vec<JoinHandle<()>>>,
    down: AtomicBool,
}

impl Engine {
    /// Starts an engine on `runtime`, which runs activities. Recovery goes on in the background.
    pub fn start(parts: EngineParts, config: EngineConfig, runtime: Handle) -> Result<Self, Error> {
        let fail = |what: &str, e: std::io::Error| {
            Error::new(ErrorKind::Configuration, "start", format!("failed to {what}: {e}"))
        };
        let (marks, left) = Marks::open(parts.marks.as_deref()).map_err(|e| fail("open the running marks", e))?;
        if !parts.clean && (parts.cluster.is_none() || !left.running.is_empty()) {
            // In a cluster, what the process before was at is counted by whoever takes its shards over.
            let cut_off = if parts.cluster.is_some() { ShardSet::NONE } else { ShardSet::ALL };
            let now = parts.clock.now();
            parts
                .store
                .count_crash(&cut_off, &left.running, now)
                .map_err(|e| Error::new(ErrorKind::EventStore, "store-unavailable", e.to_string()))?;
        }
        let suspects = if parts.clean { Suspects::default() } else { left.suspects };
        let activities = runtime.clone();
        let (context, Ends { cells, items, wanted, spilled, publisher }) =
            Context::new(parts, config, runtime, marks, suspects);
        context.dispatcher.attach(&context);
        Exchange::start(&context);
        let keeper = context.cluster.clone().map(|cluster| Keeper::register(cluster, &context)).transpose()?;
        let recovery = workers::begin(&context)?;
        let pool = Pool::start(context.clone(), cells).map_err(|e| fail("start turn threads", e))?;
        let engine = Self {
            threads: Arc::new(Threads { pool, others: Mutex::default(), down: AtomicBool::new(false) }),
            context,
        };
        engine
            .spawn("relive-commit", move |context| committer::run(context, &items))
            .map_err(|e| fail("start the committer", e))?;
        if let Some(wanted) = wanted {
            engine
                .spawn("relive-load", move |context| loader::run(context, &wanted))
                .map_err(|e| fail("start the loader", e))?;
        }
        engine
            .spawn("relive-timers", |context| context.timers.run(context))
            .map_err(|e| fail("start the timer service", e))?;
        let save = move |context: &Arc<Context>| {
            images::save(&context.images, &spilled, &|| context.closed.load(Ordering::Acquire));
        };
        engine.spawn("relive-images", save).map_err(|e| fail("start the keeper of images", e))?;
        if let Some(publisher) = publisher {
            engine
                .spawn("relive-feed", move |context| publisher.run(context, &activities))
                .map_err(|e| fail("start the event feed", e))?;
        }
        if let Some(keeper) = keeper {
            engine
                .spawn("relive-cluster", move |context| keeper.run(context))
                .map_err(|e| fail("start the keeper of shards", e))?;
        }
        let watched = engine.clone();
        engine
            .spawn("relive-sweep", move |context| sweep(context, &watched, recovery))
            .map_err(|e| fail("start the sweep", e))?;
        engine.start_auditor().map_err(|e| fail("start the auditor", e))?;
        Ok(engine)
    }

    /// If a rate of audits is set.
    fn start_auditor(&self) -> std::io::Result<()> {
        let rate = self.context.config.audits_per_minute;
        if rate == 0 {
            return Ok(());
        }
        let auditor = self.clone();
        self.spawn("relive-audit", move |context| {
            deep::audit(&auditor, rate, &|| context.stopping.load(Ordering::Acquire));
        })
    }

    /// Starts a thread that the end of the engine waits for.
    pub(crate) fn spawn(&self, name: &str, run: impl FnOnce(&Arc<Context>) + Send + 'static) -> std::io::Result<()> {
        let context = self.context.clone();
        let thread = threads::spawn(name.to_owned(), move || run(&context))?;
        let mut others = self.threads.others.lock();
        others.retain(|thread| !thread.is_finished());
        others.push(thread);
        Ok(())
    }

    /// Looks at the clock now: for test clocks that were moved.
    pub fn poke_timers(&self) {
        self.context.timers.poke();
    }

    /// Prepares the end: new work is refused with `shutting-down` and the host says that it is not ready, while what
    /// runs goes on and workers may answer. Returns once no activity runs, or after `grace`; [`Engine::shutdown`]
    /// follows.
    pub async fn wind_down(&self, grace: Duration) {
        let context = &self.context;
        self.drain();
        context.draining.store(true, Ordering::Release);
        context.remote.queues.close();
        let until = Instant::now() + grace;
        while context.dispatcher.running() > 0 && Instant::now() < until {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Ends gracefully: no new requests, running activities get their grace, what is decided is committed, and what
    /// rides along too. Nothing is lost without it; the next start is only less work.
    pub async fn shutdown(&self) {
        if self.threads.down.swap(true, Ordering::AcqRel) {
            return;
        }
        let context = &self.context;
        context.stopping.store(true, Ordering::Release);
        context.timers.stop();
        context.remote.queues.close();
        // Whoever wound down has waited already.
        let waited = context.draining.load(Ordering::Acquire);
        let grace = Instant::now() + if waited { Duration::ZERO } else { context.config.shutdown_grace };
        while context.dispatcher.running() > 0 && Instant::now() < grace {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let flushed = Arc::new(Semaphore::new(0));
        let runs = context.registry.runs();
        let count = u32::try_from(runs.len()).unwrap_or(u32::MAX);
        for run in runs {
            context.registry.post(run, Message::Flush(flushed.clone()));
        }
        let _ = tokio::time::timeout(COMMIT_GRACE, flushed.acquire_many(count)).await;
        let patience = Instant::now() + COMMIT_GRACE;
        while !self.is_quiet() && Instant::now() < patience {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let threads = self.threads.clone();
        let context = context.clone();
        let join = move || {
            threads.pool.stop();
            context.images.save_all();
            context.closed.store(true, Ordering::Release);
            if let Some(cluster) = &context.cluster {
                cluster.poke();
            }
            for thread in std::mem::take(&mut *threads.others.lock()) {
                let _ = thread.join();
            }
            // Once nobody beats any more, who would make the host known again.
            if let Some(cluster) = &context.cluster {
                leave(&context, cluster);
            }
        };
        let _ = tokio::task::spawn_blocking(join).await;
    }

    /// Whether nothing is in flight or on its way from the store, and no turn runs.
    fn is_quiet(&self) -> bool {
        let stats = &self.context.stats;
        let settled = || stats.in_flight.load(Ordering::Acquire) == 0 && stats.loading.load(Ordering::Acquire) == 0;
        // Once more: what was on a thread may be in flight now.
        settled() && self.threads.pool.is_quiet() && settled()
    }
}

/// Looks through shards that came to this host, and from time to time for work that nobody holds.
fn sweep(context: &Arc<Context>, engine: &Engine, recovery: Arc<Recovery>) {
    let stop = || context.stopping.load(Ordering::Acquire);
    if context.ownership.is_alone() {
        recovery::ask(context, &ShardSet::ALL);
    }
    let mut begun = Some(recovery);
    let mut reap_at = Instant::now();
    let (mut following, mut follow_at) = (workers::Following::default(), Instant::now());
    let mut sweep_at = Instant::now() + context.config.sweep_every;
    let mut canaries_at = Instant::now();
    let mut reconciled_at = context.clock.now();
    while !stop() {
        let asked = std::mem::replace(&mut *context.recovering.lock(), ShardSet::NONE);
        if asked.is_empty() {
            context.health.recovered();
        } else {
            let recovery = begun.take().unwrap_or_else(|| context.remote.queues.recovery());
            match recovery::walk(context, &asked, Some(&recovery), &stop) {
                Ok(woken) => {
                    context.stats.recovered.fetch_add(woken, Ordering::Relaxed);
                    context.health.recovered();
                }
                Err(error) => {
                    tracing::warn!(%error, "failed to look for work");
                    recovery::ask(context, &asked);
                    begun = Some(recovery);
                    std::thread::sleep(RECOVERY_PAUSE);
                }
            }
        }
        if Instant::now() >= sweep_at {
            if let Err(error) = workers::read_limits(context) {
                tracing::warn!(%error, "failed to read the limits of task queues");
            }
            match recovery::walk(context, &context.ownership.owned(), None, &stop) {
                Ok(0) => {}
                Ok(woken) => tracing::warn!(woken, "the sweep found executions that nobody held"),
                Err(error) => tracing::warn!(%error, "failed to look for work"),
            }
            sweep_at = Instant::now() + context.config.sweep_every;
        }
        let now = context.clock.now();
        if now.since(reconciled_at) >= reconcile::EVERY_NANOS && context.recovering.lock().is_empty() {
            reconcile::run(context, &stop);
            reconciled_at = now;
        }
        if Instant::now() >= reap_at {
            workers::reap(context);
            reap_at = Instant::now() + REAP_EVERY;
        }
        if Instant::now() >= canaries_at {
            canary::watch(engine);
            canaries_at = Instant::now() + canary::LOOK_EVERY;
        }
        if Instant::now() >= follow_at {
            following.look(context);
            follow_at = Instant::now() + FOLLOW_EVERY;
        }
        std::thread::sleep(SWEEP_LOOK.min(context.config.sweep_every));
    }
}
