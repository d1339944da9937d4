//! The thread that keeps this host's place among the others.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use relive_core::{
    Error, ErrorKind, ShardSet,
    ports::{BeatError, Claimed, ClusterView},
};
use tokio::sync::Semaphore;

use super::{BEAT_EVERY, Cluster, LEASE, MARGIN, placement};
use crate::{context::Context, facade::workers::read_limits, message::Message, recovery};

/// How long shards that go wait, twice, for what is in flight; then they are let go of all the same, and the fence
/// decides. No beat is sent meanwhile, so both together must stay well below the lease.
const HAND_OVER: Duration = Duration::from_secs(1);
/// How often it looks meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// A host that is started again at once finds its own name's lease: it waits for that, and a little.
const NAME_PATIENCE: Duration = Duration::from_secs(LEASE.as_secs() + 3);
/// Between two tries of a name that is taken.
const NAME_PAUSE: Duration = Duration::from_millis(250);

pub(crate) struct Keeper {
    cluster: Arc<Cluster>,
    revision: Option<u64>,
    /// The lease did not hold for a while, and what came meanwhile was refused.
    lapsed: bool,
    /// The trouble that was told last: one line when it begins and one when it ends.
    trouble: Option<String>,
}

impl Keeper {
    /// Makes the host known. Waits for the lease of a process of the same name that died just now; one that lives is a
    /// mistake in the configuration.
    pub fn register(cluster: Arc<Cluster>, context: &Arc<Context>) -> Result<Self, Error> {
        let began = Instant::now();
        let mut keeper = Self { cluster, revision: None, lapsed: false, trouble: None };
        loop {
            match keeper.beat(context) {
                Ok(_) => return Ok(keeper),
                Err(BeatError::Taken { .. }) if began.elapsed() < NAME_PATIENCE => std::thread::sleep(NAME_PAUSE),
                Err(error @ BeatError::Taken { .. }) => {
                    return Err(Error::new(ErrorKind::Configuration, "host-id-taken", error.to_string()));
                }
                Err(BeatError::Store(error)) => {
                    return Err(Error::new(ErrorKind::EventStore, "store-unavailable", error.to_string()));
                }
            }
        }
    }

    /// Beats until the host has left.
    pub fn run(mut self, context: &Arc<Context>) {
        while !context.closed.load(Ordering::Acquire) {
            let began = Instant::now();
            match self.beat(context) {
                Ok(view) => {
                    if self.trouble.take().is_some() {
                        tracing::info!("the cluster is reached again");
                    }
                    self.keep(context, &view);
                    if std::mem::take(&mut self.lapsed) {
                        resume(context);
                    }
                }
                Err(error) => self.tell(context, &error),
            }
            self.cluster.wait(BEAT_EVERY.saturating_sub(began.elapsed()));
        }
    }

    fn tell(&mut self, context: &Context, error: &BeatError) {
        let text = error.to_string();
        if self.trouble.as_ref() != Some(&text) {
            let holds = context.ownership.holds();
            tracing::warn!(
                error = text,
                lease_holds = holds,
                "failed to beat; executions stop here when the lease ends"
            );
            self.trouble = Some(text);
        }
    }

    fn beat(&mut self, context: &Arc<Context>) -> Result<Arc<ClusterView>, BeatError> {
        let parts = &self.cluster.parts;
        let sent = Instant::now();
        let view = parts.store.beat(&parts.beat(self.cluster.draining.load(Ordering::Acquire)))?;
        // It cannot lapse before it began.
        self.lapsed |= self.revision.is_some() && !context.ownership.holds();
        context.ownership.hold(sent, LEASE - MARGIN);
        context.clock.store_says(view.now);
        if self.revision.replace(view.catalog_revision) != Some(view.catalog_revision) {
            context.workflows.forget();
            warm(context);
            context.activity_host.refresh();
            if let Err(error) = read_limits(context) {
                tracing::warn!(%error, "failed to read the limits of task queues");
            }
        }
        Ok(self.cluster.set_view(view))
    }

    /// Makes what this host holds what it should hold.
    fn keep(&self, context: &Arc<Context>, view: &ClusterView) {
        let parts = &self.cluster.parts;
        let own = &context.ownership;
        let mine = |owner: &(Arc<str>, u64)| owner.0 == parts.host_id && owner.1 == parts.incarnation;
        let noted = own.noted();
        let held: ShardSet =
            view.shards.iter().filter(|row| row.owner.as_ref().is_some_and(mine)).map(|row| row.shard).collect();
        // Taken by others while this host was silent: gone, whatever is in flight.
        let taken: ShardSet = noted
            .iter()
            .filter(|s| !held.contains(*s) || view.shards[s.index()].epoch != own.noted_epoch(*s))
            .collect();
        if !taken.is_empty() {
            tracing::warn!(shards = taken.len(), "other hosts have taken shards of this one");
            self.drop_shards(context, &taken);
        }
        let wanted = placement::wanted(view, &parts.host_id);
        // Also what this host let go of and could not release: nobody else could have it while this host lives.
        let going: ShardSet = held.iter().filter(|s| !wanted.contains(*s)).collect();
        // What the store says is this host's and it does not know of: an answer to a claim that was lost.
        let unknown: Vec<Claimed> = held
            .iter()
            .filter(|s| own.noted_epoch(*s) == 0 && wanted.contains(*s))
            .map(|shard| Claimed { shard, epoch: view.shards[shard.index()].epoch, unclean: true })
            .collect();
        self.gained(context, &unknown);
        let free = |shard: &relive_core::Shard| match &view.shards[shard.index()].owner {
            None => true,
            Some(owner) => {
                !mine(owner) && !view.hosts.iter().any(|h| h.alive && h.id == owner.0 && h.incarnation == owner.1)
            }
        };
        let claim: ShardSet = wanted.iter().filter(|s| !held.contains(*s)).filter(free).collect();
        if !claim.is_empty() {
            match parts.store.claim_shards(&parts.host_id, parts.incarnation, &claim) {
                Ok(claimed) => self.gained(context, &claimed),
                Err(error) => tracing::warn!(%error, "failed to claim shards; trying again with the next beat"),
            }
        }
        if !going.is_empty() {
            self.hand_over(context, &going);
        }
    }

    /// Takes shards up: what the owner before was at is counted, then timers, tasks and wakes are looked for.
    fn gained(&self, context: &Arc<Context>, claimed: &[Claimed]) {
        if claimed.is_empty() {
            return;
        }
        let unclean: ShardSet = claimed.iter().filter(|c| c.unclean).map(|c| c.shard).collect();
        if !unclean.is_empty()
            && let Err(error) = context.store.count_crash(&unclean, &[], context.clock.now())
        {
            // Not taken up: with the next beat they are found as this host's own, and tried again.
            return tracing::warn!(%error, "failed to take shards up; trying again with the next beat");
        }
        for claimed in claimed {
            context.ownership.take(claimed.shard, claimed.epoch);
        }
        tracing::info!(shards = claimed.len(), unclean = unclean.len(), "owns more shards");
        context.timers.reset();
        if let Some(feed) = &context.feed {
            feed.behind();
        }
        let shards: ShardSet = claimed.iter().map(|c| c.shard).collect();
        recovery::ask(context, &shards);
    }

    /// Lets go of shards in good order: what rides and images are committed, cells are emptied, then others may claim.
    fn hand_over(&self, context: &Arc<Context>, shards: &ShardSet) {
        flush(context, shards);
        self.drop_shards(context, shards);
        let patience = Instant::now() + HAND_OVER;
        while Instant::now() < patience && !runs_of(context, shards).is_empty() {
            std::thread::sleep(LOOK_EVERY);
        }
        let parts = &self.cluster.parts;
        match parts.store.release_shards(&parts.host_id, parts.incarnation, shards) {
            Ok(()) => {
                tracing::info!(shards = shards.len(), "handed shards over");
                if let (Some(exchange), Some(shard)) = (&context.exchange, shards.iter().next()) {
                    exchange.nudge(shard);
                }
            }
            Err(error) => tracing::warn!(%error, "failed to release shards; trying again with the next beat"),
        }
    }

    fn drop_shards(&self, context: &Arc<Context>, shards: &ShardSet) {
        shards.iter().for_each(|shard| context.ownership.lose(shard));
        context.timers.reset();
        context.remote.queues.forget(shards);
        for run in runs_of(context, shards) {
            context.registry.post_if_present(run, Message::Wake);
        }
    }
}

/// Another host may have deployed a version: gets it ready before runs take it, without keeping the keeper.
fn warm(context: &Arc<Context>) {
    let used = context.workflows.used();
    if used.is_empty() {
        return;
    }
    let context = context.clone();
    let work = move || {
        for (namespace, workflow) in used {
            let versions = context.catalog.versions(&namespace, Some(&workflow)).unwrap_or_default();
            let newest = versions.last().map(|row| row.version);
            for row in versions.iter().filter(|row| row.active || Some(row.version) == newest) {
                if let Err(fault) = context.guests.warm(&row.digest) {
                    tracing::debug!(workflow, version = row.version, %fault, "a version is not ready yet");
                }
            }
        }
    };
    if let Err(error) = std::thread::Builder::new().name("relive-warm".to_owned()).spawn(work) {
        tracing::debug!(%error, "versions of other hosts get ready when runs take them");
    }
}

/// Goes on with shards that nobody took while the lease had lapsed: timers that rang were dropped, and executions let go.
fn resume(context: &Arc<Context>) {
    let shards = context.ownership.noted();
    if !shards.is_empty() {
        tracing::info!(shards = shards.len(), "goes on after its lease had lapsed");
        context.timers.reset();
        recovery::ask(context, &shards);
    }
}

fn runs_of(context: &Context, shards: &ShardSet) -> Vec<relive_core::RunKey> {
    context.registry.runs().into_iter().filter(|run| shards.contains(run.shard())).collect()
}

/// Has the executions in memory commit what rides, and take their images.
fn flush(context: &Arc<Context>, shards: &ShardSet) {
    let runs = runs_of(context, shards);
    let done = Arc::new(Semaphore::new(0));
    let count = runs.len();
    for run in runs {
        context.registry.post(run, Message::Flush(done.clone()));
    }
    let patience = Instant::now() + HAND_OVER;
    while done.available_permits() < count && Instant::now() < patience {
        std::thread::sleep(LOOK_EVERY);
    }
}

/// The host ends in good order: everything was flushed, others may take over at once.
pub(crate) fn leave(context: &Context, cluster: &Cluster) {
    for shard in context.ownership.noted().iter() {
        context.ownership.lose(shard);
    }
    let parts = &cluster.parts;
    if let Err(error) = parts.store.leave(&parts.host_id, parts.incarnation) {
        tracing::warn!(%error, "failed to leave the cluster in good order; others take over when the lease ends");
    }
}
