//! Putting together what every metric comes to now.

use std::{
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use relive_core::{Namespace, Timestamp, event::BlockReason, ports::Census};

use super::{
    FAILURES, REFUSALS,
    family::Family,
    process,
    table::{self as t, DEFINITIONS},
};
use crate::{
    context::Context,
    engine::Engine,
    remote::{QueueView, WorkerState},
};

/// How old the census may be. One that took long may be older, so that counting costs at most a hundredth of the time.
const CENSUS_AGE: Duration = Duration::from_secs(5);
const CENSUS_SHARE: u32 = 100;
/// Longer than this nobody waits for the census: the other numbers are wanted most when the store is in trouble.
const CENSUS_PATIENCE: Duration = Duration::from_secs(2);
/// Queues that are shown, those with the largest backlog: guests make up their names.
const MAX_QUEUES: usize = 500;

/// The last census, and until when it is good enough.
#[derive(Default)]
pub(crate) struct Counted(Mutex<Option<(Census, Instant)>>);

impl Engine {
    /// All metrics of [`DEFINITIONS`], in their order.
    pub async fn metrics(&self) -> Vec<Family> {
        let census = self.census().await;
        let ready = self.is_ready().await;
        let context = &self.context;
        let mut families = counted(context);
        families.extend(held(context));
        families.extend(of_census(census.as_ref()));
        families.extend(queues(context));
        families.extend(workers(context));
        families.extend([
            Family::number(&t::READY, f64::from(u8::from(ready))),
            Family::new(&t::BUILD).with(&[env!("CARGO_PKG_VERSION")], 1.0),
        ]);
        families.extend(of_process(context));
        let place = |family: &Family| DEFINITIONS.iter().position(|d| **d == *family.definition);
        families.sort_by_key(place);
        families
    }

    async fn census(&self) -> Option<Census> {
        let now = Instant::now();
        if let Some((census, until)) = &*self.context.metrics.census.0.lock()
            && now < *until
        {
            return Some(census.clone());
        }
        let count = self.blocking(|engine| {
            let began = Instant::now();
            let census = engine.context.store.census().map_err(crate::facade::store_error)?;
            let age = CENSUS_AGE.max(began.elapsed().saturating_mul(CENSUS_SHARE));
            *engine.context.metrics.census.0.lock() = Some((census.clone(), Instant::now() + age));
            Ok(census)
        });
        match tokio::time::timeout(CENSUS_PATIENCE, count).await {
            Ok(Ok(census)) => Some(census),
            Ok(Err(error)) => {
                tracing::debug!(%error, "failed to count executions");
                None
            }
            Err(_) => None,
        }
    }
}

/// What was counted on the way.
fn counted(context: &Context) -> Vec<Family> {
    let m = &context.metrics;
    let stats = &context.stats;
    let kinds = |family: Family, names: &[&str], counters: &[super::Counter]| {
        names.iter().zip(counters).fold(family, |family, (name, counter)| family.with(&[name], counter.get() as f64))
    };
    vec![
        Family::counter(&t::STARTED, &m.started),
        Family::counter(&t::COMPLETED, &m.completed),
        Family::counter(&t::FAILED, &m.failed),
        Family::counter(&t::CANCELED, &m.canceled),
        Family::counter(&t::TERMINATED, &m.terminated),
        Family::counter(&t::CONTINUED, &m.continued),
        Family::histogram(&t::ENDTOEND, &m.endtoend),
        Family::histogram(&t::TURNS, &m.turns),
        Family::histogram(&t::REPLAYS, &m.replays),
        Family::histogram(&t::SCHEDULE_TO_START, &m.schedule_to_start),
        Family::histogram(&t::ATTEMPTS, &m.attempts),
        kinds(Family::new(&t::ATTEMPTS_FAILED), &FAILURES, &m.attempts_failed),
        Family::counter(&t::EXHAUSTED, &m.exhausted),
        Family::counter(&t::CACHE_HIT, &m.cache_hits),
        Family::counter(&t::CACHE_MISS, &m.cache_misses),
        Family::histogram(&t::APPENDS, &m.appends),
        Family::histogram(&t::BATCHES, &m.batches),
        kinds(Family::new(&t::APPEND_ERRORS), &REFUSALS, &m.append_errors),
        Family::histogram(&t::TIMERS, &m.timers),
        Family::number(&t::WORKERS_LOST, stats.workers_lost.load(Relaxed) as f64),
        Family::number(&t::RUNNING, m.running.load(Relaxed) as f64),
        Family::number(&t::OUTBOX, m.outbox_lag.load(Relaxed) as f64 / 1e9),
        Family::number(&t::COMMITS, (context.commits)() as f64),
        Family::number(&t::IN_FLIGHT, stats.in_flight.load(Relaxed) as f64),
        Family::number(&t::RECOVERED, stats.recovered.load(Relaxed) as f64),
        Family::number(&t::FINDINGS, stats.audit_findings.load(Relaxed) as f64),
    ]
}

/// What memory holds.
fn held(context: &Context) -> Vec<Family> {
    let (live, held) = context.cache.totals();
    let images = context.images.status();
    vec![
        Family::number(&t::CACHE_SIZE, live as f64),
        Family::number(&t::GUEST_BYTES, held.bytes as f64),
        Family::number(&t::IMAGES, images.in_memory as f64),
        Family::number(&t::CAPTURED, images.captured as f64),
        Family::number(&t::LAID, images.laid as f64),
        Family::number(&t::IGNORED, images.ignored as f64),
    ]
}

/// Without a census there is no number: a wrong one would be worse.
fn of_census(census: Option<&Census>) -> Vec<Family> {
    let (mut executions, mut blocked) = (Family::new(&t::EXECUTIONS), Family::new(&t::BLOCKED));
    let (mut behind, mut failed) = (Family::new(&t::BEHIND), Family::new(&t::FAILED_TASKS));
    if let Some(census) = census {
        let of = |reason| census.blocked.iter().filter(|(r, _)| *r == reason).map(|(_, n)| *n).sum::<u64>();
        let all: u64 = census.blocked.iter().map(|(_, n)| *n).sum();
        executions = executions.with(&["running"], census.running as f64).with(&["blocked"], all as f64);
        for reason in BlockReason::ALL {
            blocked = blocked.with(&[&reason.to_string()], of(reason) as f64);
        }
        behind = behind.with(&[], census.behind as f64);
        failed = failed.with(&[], census.failed_tasks as f64);
    }
    vec![executions, blocked, behind, failed]
}

fn queues(context: &Context) -> Vec<Family> {
    let now = context.clock.now();
    let mut queues: Vec<(Namespace, QueueView)> = context.remote.queues.all(context.clock.now());
    queues.sort_by(|(a, x), (b, y)| y.backlog.cmp(&x.backlog).then_with(|| (a, &x.name).cmp(&(b, &y.name))));
    queues.truncate(MAX_QUEUES);
    let (mut backlog, mut age, mut claimed, mut pollers) =
        (Family::new(&t::BACKLOG), Family::new(&t::AGE), Family::new(&t::CLAIMED), Family::new(&t::POLLERS));
    for (namespace, queue) in &queues {
        let labels = [namespace.as_str(), &queue.name];
        let waited = queue.oldest.map_or(0, |at: Timestamp| now.since(at));
        backlog = backlog.with(&labels, queue.backlog as f64);
        age = age.with(&labels, waited as f64 / 1e9);
        claimed = claimed.with(&labels, queue.claimed as f64);
        pollers = pollers.with(&labels, queue.pollers as f64);
    }
    vec![backlog, age, claimed, pollers]
}

fn workers(context: &Context) -> Vec<Family> {
    let states = context.remote.workers.states();
    let there = |wanted| states.iter().filter(|state| **state == wanted).count() as f64;
    let workers = Family::new(&t::WORKERS)
        .with(&["creating"], there(WorkerState::Creating))
        .with(&["ready"], there(WorkerState::Ready))
        .with(&["busy"], there(WorkerState::Busy));
    let breakers = context.activity_host.breakers();
    let breakers = breakers.iter().fold(Family::new(&t::BREAKERS), |family, loaded| {
        let state = match loaded.standing.breaker.state {
            "closed" => 0.0,
            "half-open" => 1.0,
            _ => 2.0,
        };
        family.with(&[loaded.namespace.as_str(), &loaded.activity, &loaded.standing.target], state)
    });
    vec![workers, breakers]
}

fn of_process(context: &Context) -> Vec<Family> {
    let began = context.clock.now().0 as f64 / 1e9 - context.started.elapsed().as_secs_f64();
    let some = |definition, value: Option<u64>| match value {
        Some(value) => Family::number(definition, value as f64),
        None => Family::new(definition),
    };
    vec![
        some(&t::RSS, process::resident_bytes()),
        some(&t::FDS, process::open_files()),
        Family::number(&t::BEGAN, began),
    ]
}
