//! The registry of workers: who there is, when each was last heard of, and which attempts it has. A worker that misses
//! three beats is lost, and its attempts go back; if it comes again it is another worker. In memory: after a host's
//! restart, claims in the store name workers that nobody knows yet, and these get the same time to come forward.
//!
//! Where hosts share workers, who there is stands in the store, and this is what one host knows of it: it tells the store
//! whom it has heard of, and learns from there who has ended (`settle`).

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use parking_lot::Mutex;
use relive_core::{
    Namespace, RunKey, Timestamp,
    ports::{WorkerEnd, WorkerRow},
};
use serde::Serialize;

use super::ClaimedBy;

/// How often a worker that does nothing else lets the host hear of it.
pub(crate) const BEAT_EVERY_NANOS: u64 = 30 * 1_000_000_000;
/// Beats in a row that a worker may miss.
pub(crate) const MISSED: u64 = 3;
/// Workers that have ended are shown for this long.
pub(crate) const SHOW_ENDED_NANOS: u64 = 3_600 * 1_000_000_000;
/// Workers of a namespace at once: more is a client that registers in a loop.
pub(crate) const MAX_WORKERS: usize = 20_000;
/// A worker of all hosts that has nothing here and was not heard of here for this long is forgotten; the store knows it.
const FORGET_IDLE_NANOS: u64 = 600 * 1_000_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WorkerState {
    /// Registered, and has not asked for work yet.
    Creating,
    Ready,
    /// Has at least one attempt.
    Busy,
    /// Said good-bye, or was lost.
    Terminated,
}

/// A worker, as operators see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct WorkerView {
    pub id: String,
    /// What it calls itself: host and process, mostly.
    pub identity: String,
    pub state: WorkerState,
    /// Why it is terminated: `stopped` or `lost`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<&'static str>,
    pub task_queues: Vec<String>,
    /// What it says that it runs; none: anything.
    pub activities: Vec<String>,
    /// The library that it is made with, as it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sdk: Option<String>,
    #[schema(value_type = crate::schema::Timestamp)]
    pub registered_at: Timestamp,
    #[schema(value_type = crate::schema::Timestamp)]
    pub last_seen: Timestamp,
    /// Attempts that it has.
    pub running: u64,
}

/// What a worker says of itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Registration {
    pub identity: String,
    pub task_queues: Vec<String>,
    pub activities: Vec<String>,
    pub sdk: Option<String>,
    /// The id that it had before the host lost it; its attempts are carried over.
    pub replaces: Option<String>,
    /// Secrets of the claims that it really has; none: all of them.
    pub holds: Option<HashSet<u64>>,
}

/// An attempt whose worker was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lost {
    pub run: RunKey,
    pub command_no: u64,
    pub secret: u64,
}

struct Worker {
    namespace: Namespace,
    identity: Arc<str>,
    told: Registration,
    polled: bool,
    /// Only a claim in the store names it: it has to register, and to say which worker it was.
    unheard: bool,
    /// Heard of since the store was last told.
    heard: bool,
    ended: Option<&'static str>,
    /// Who it is now, if it was replaced.
    heir: Option<Arc<str>>,
    registered_at: Timestamp,
    last_seen: Timestamp,
    running: BTreeSet<(RunKey, u64, u64)>,
}

/// How often in a row a worker is looked for under its next id.
const MAX_HEIRS: usize = 64;

#[derive(Default)]
pub(crate) struct Workers {
    workers: Mutex<HashMap<Arc<str>, Worker>>,
}

impl Workers {
    /// A new worker; tells the attempts that it was given and never got. `None`: there are too many workers.
    pub fn register(
        &self,
        id: &Arc<str>,
        namespace: &Namespace,
        mut told: Registration,
        now: Timestamp,
    ) -> Option<Vec<Lost>> {
        let mut workers = self.workers.lock();
        if workers.values().filter(|w| w.namespace == *namespace && w.ended.is_none()).count() >= MAX_WORKERS {
            return None;
        }
        let before = told.replaces.as_deref().and_then(|id| workers.get_mut(id));
        let mut running = match before.filter(|w| w.namespace == *namespace && w.ended.is_none()) {
            Some(before) => {
                before.ended = Some("replaced");
                before.heir = Some(id.clone());
                before.last_seen = now;
                std::mem::take(&mut before.running)
            }
            None => BTreeSet::new(),
        };
        let never_got = told.holds.take().map(|holds| keep_held(&mut running, &holds)).unwrap_or_default();
        let identity: Arc<str> = told.identity.as_str().into();
        let worker = Worker { told, running, ..Worker::new(namespace, identity, now) };
        workers.insert(id.clone(), worker);
        Some(never_got)
    }

    /// Makes a worker known that another host, or this one before, has heard of.
    pub fn adopt(&self, row: &WorkerRow, now: Timestamp) {
        let mut workers = self.workers.lock();
        let new = || Worker { polled: true, ..Worker::new(&row.namespace, row.identity.clone(), now) };
        let worker = workers.entry(row.id.clone()).or_insert_with(new);
        if worker.ended.is_none() {
            worker.adopt(row);
        }
    }

    /// All that have not ended, as far as this host knows, and of them those that it has heard of since it was last asked.
    pub fn known(&self) -> (Vec<Arc<str>>, Vec<Arc<str>>) {
        let mut workers = self.workers.lock();
        let open = workers.iter_mut().filter(|(_, worker)| worker.ended.is_none());
        let (mut all, mut heard) = (Vec::new(), Vec::new());
        for (id, worker) in open {
            if std::mem::take(&mut worker.heard) {
                heard.push(id.clone());
            }
            all.push(id.clone());
        }
        (all, heard)
    }

    /// The store could not be told.
    pub fn tell_again(&self, heard: &[Arc<str>]) {
        let mut workers = self.workers.lock();
        for id in heard {
            if let Some(worker) = workers.get_mut(id) {
                worker.heard = true;
            }
        }
    }

    /// Takes over what the store says of those that it was asked about; tells the attempts that go back.
    pub fn settle(&self, asked: &[Arc<str>], rows: &[WorkerRow], now: Timestamp) -> Vec<Lost> {
        let mut workers = self.workers.lock();
        let rows: HashMap<&str, &WorkerRow> = rows.iter().map(|row| (&*row.id, row)).collect();
        let mut lost = Vec::new();
        for id in asked {
            let Some(worker) = workers.get_mut(id).filter(|worker| worker.ended.is_none()) else { continue };
            let row = rows.get(&**id);
            match row.map(|row| &row.ended) {
                // It has just registered with another host, or a claim names a worker of long ago.
                None if now.since(worker.registered_at) <= MISSED * BEAT_EVERY_NANOS => {}
                None | Some(Some(WorkerEnd::Lost)) => lost.extend(worker.end("lost", now)),
                Some(Some(WorkerEnd::Stopped)) => lost.extend(worker.end("stopped", now)),
                Some(None) => row.into_iter().for_each(|row| worker.adopt(row)),
                Some(Some(WorkerEnd::Replaced { by, holds })) => {
                    worker.end("replaced", now);
                    worker.heir = Some(by.clone());
                    let mut running = std::mem::take(&mut worker.running);
                    let holds = holds.as_ref().map(|holds| holds.iter().copied().collect());
                    lost.extend(holds.map(|holds| keep_held(&mut running, &holds)).unwrap_or_default());
                    let (namespace, identity) = (worker.namespace.clone(), worker.identity.clone());
                    let heir = workers.entry(by.clone()).or_insert_with(|| Worker::claiming(&namespace, identity, now));
                    heir.running.extend(running);
                }
            }
        }
        workers.retain(|_, w| !w.running.is_empty() || now.since(w.last_seen) < FORGET_IDLE_NANOS);
        lost
    }

    /// The worker is there. `None`: nobody knows it, or it was lost: it has to register.
    pub fn seen(&self, namespace: &Namespace, id: &str, polls: bool, now: Timestamp) -> Option<ClaimedBy> {
        let mut workers = self.workers.lock();
        let (key, identity) = {
            let (key, worker) = workers.get_key_value(id)?;
            (key.clone(), worker.identity.clone())
        };
        let worker = workers.get_mut(id).filter(|w| w.namespace == *namespace && w.ended.is_none() && !w.unheard)?;
        worker.last_seen = now;
        worker.heard = true;
        worker.polled |= polls;
        Some(ClaimedBy { id: key, identity })
    }

    /// The worker has an attempt, or who came in its place. One that nobody knows claimed it from this host before a restart.
    /// False: it has ended, and nobody will say so again.
    pub fn claimed(&self, namespace: &Namespace, id: &Arc<str>, attempt: Lost, now: Timestamp) -> bool {
        let mut workers = self.workers.lock();
        let unknown = || Worker::claiming(namespace, "not heard of since the host started".into(), now);
        let mut id = id.clone();
        for _ in 0..MAX_HEIRS {
            let Some(heir) = workers.get(&id).and_then(|worker| worker.heir.clone()) else { break };
            id = heir;
        }
        let worker = workers.entry(id).or_insert_with(unknown);
        let works = worker.ended.is_none();
        if works {
            worker.running.insert((attempt.run, attempt.command_no, attempt.secret));
        }
        works
    }

    /// The worker does not have the attempt any more.
    pub fn released(&self, id: &str, attempt: Lost) {
        let key = (attempt.run, attempt.command_no, attempt.secret);
        let mut workers = self.workers.lock();
        if workers.get_mut(id).is_none_or(|w| !w.running.remove(&key)) {
            // It came again under another id and brought its attempts along.
            workers.values_mut().for_each(|w| {
                w.running.remove(&key);
            });
        }
    }

    /// The worker stops; its attempts go back. `None`: nobody knows it.
    pub fn end(&self, namespace: &Namespace, id: &str, now: Timestamp) -> Option<Vec<Lost>> {
        let mut workers = self.workers.lock();
        let worker = workers.get_mut(id).filter(|w| w.namespace == *namespace && w.ended.is_none())?;
        Some(worker.end("stopped", now))
    }

    /// Workers that were not heard of for three beats: lost. What they had goes back. Forgets the long ended.
    pub fn reap(&self, now: Timestamp) -> Vec<(String, Vec<Lost>)> {
        let mut workers = self.workers.lock();
        workers.retain(|_, w| w.ended.is_none() || now.since(w.last_seen) < SHOW_ENDED_NANOS);
        let silent =
            workers.iter_mut().filter(|(_, w)| w.ended.is_none() && now.since(w.last_seen) > MISSED * BEAT_EVERY_NANOS);
        silent
            .map(|(id, worker)| {
                let seen = worker.last_seen;
                (id.to_string(), worker.end("lost", seen))
            })
            .collect()
    }

    /// How every worker stands, of all namespaces.
    pub fn states(&self) -> Vec<WorkerState> {
        self.workers.lock().values().map(Worker::state).collect()
    }

    /// The workers of a namespace, the newest first.
    pub fn views(&self, namespace: &Namespace) -> Vec<WorkerView> {
        let workers = self.workers.lock();
        let of = workers.iter().filter(|(_, w)| w.namespace == *namespace);
        let mut views: Vec<WorkerView> = of.map(|(id, worker)| worker.view(id)).collect();
        views.sort_unstable_by(|a, b| (b.registered_at, &b.id).cmp(&(a.registered_at, &a.id)));
        views
    }
}

impl Worker {
    fn state(&self) -> WorkerState {
        match (self.ended, self.running.is_empty(), self.polled) {
            (Some(_), ..) => WorkerState::Terminated,
            (None, false, _) => WorkerState::Busy,
            (None, true, true) => WorkerState::Ready,
            (None, true, false) => WorkerState::Creating,
        }
    }

    fn new(namespace: &Namespace, identity: Arc<str>, now: Timestamp) -> Self {
        Self {
            namespace: namespace.clone(),
            identity,
            told: Registration::default(),
            polled: false,
            unheard: false,
            heard: false,
            ended: None,
            heir: None,
            registered_at: now,
            last_seen: now,
            running: BTreeSet::new(),
        }
    }

    /// One that only a claim names.
    fn claiming(namespace: &Namespace, identity: Arc<str>, now: Timestamp) -> Self {
        Self { polled: true, unheard: true, ..Self::new(namespace, identity, now) }
    }

    fn adopt(&mut self, row: &WorkerRow) {
        self.unheard = false;
        self.identity = row.identity.clone();
        self.registered_at = row.registered_at;
        self.last_seen = self.last_seen.max(row.last_seen);
        self.told.task_queues.clone_from(&row.task_queues);
        self.told.activities.clone_from(&row.activities);
        self.told.sdk.clone_from(&row.sdk);
    }

    /// It is no more; what it had goes back, unless it was replaced.
    fn end(&mut self, how: &'static str, now: Timestamp) -> Vec<Lost> {
        self.ended = Some(how);
        self.last_seen = now;
        if how == "replaced" { Vec::new() } else { self.give_back() }
    }

    fn give_back(&mut self) -> Vec<Lost> {
        let running = std::mem::take(&mut self.running);
        running.into_iter().map(|(run, command_no, secret)| Lost { run, command_no, secret }).collect()
    }

    fn view(&self, id: &str) -> WorkerView {
        WorkerView {
            id: id.to_owned(),
            identity: self.identity.to_string(),
            state: self.state(),
            ended: self.ended,
            task_queues: self.told.task_queues.clone(),
            activities: self.told.activities.clone(),
            sdk: self.told.sdk.clone(),
            registered_at: self.registered_at,
            last_seen: self.last_seen,
            running: self.running.len() as u64,
        }
    }
}

impl WorkerView {
    /// As the store has it.
    pub(crate) fn of(row: &WorkerRow, running: u64) -> Self {
        let ended = row.ended.as_ref().map(|ended| match ended {
            WorkerEnd::Stopped => "stopped",
            WorkerEnd::Lost => "lost",
            WorkerEnd::Replaced { .. } => "replaced",
        });
        let state = match (ended, running) {
            (Some(_), _) => WorkerState::Terminated,
            (None, 0) if row.last_seen == row.registered_at => WorkerState::Creating,
            (None, 0) => WorkerState::Ready,
            (None, _) => WorkerState::Busy,
        };
        Self {
            id: row.id.to_string(),
            identity: row.identity.to_string(),
            state,
            ended,
            task_queues: row.task_queues.clone(),
            activities: row.activities.clone(),
            sdk: row.sdk.clone(),
            registered_at: row.registered_at,
            last_seen: row.last_seen,
            running,
        }
    }
}

/// Takes out what is not held, and tells it.
fn keep_held(running: &mut BTreeSet<(RunKey, u64, u64)>, holds: &HashSet<u64>) -> Vec<Lost> {
    let mut never_got = Vec::new();
    running.retain(|(run, command_no, secret)| {
        let held = holds.contains(secret);
        if !held {
            never_got.push(Lost { run: *run, command_no: *command_no, secret: *secret });
        }
        held
    });
    never_got
}

#[cfg(test)]
mod tests;
