//! The registry of workers: who there is, when each was last heard of, and which attempts it has. A worker that misses
//! three beats is lost, and its attempts go back; if it comes again it is another worker. In memory: after a host's
//! restart, claims in the store name workers that nobody knows yet, and these get the same time to come forward.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use parking_lot::Mutex;
use relive_core::{Namespace, RunKey, Timestamp};
use serde::Serialize;

use super::ClaimedBy;

/// How often a worker that does nothing else lets the host hear of it.
pub(crate) const BEAT_EVERY_NANOS: u64 = 30 * 1_000_000_000;
/// Beats in a row that a worker may miss.
const MISSED: u64 = 3;
/// Workers that have ended are shown for this long.
const SHOW_ENDED_NANOS: u64 = 3_600 * 1_000_000_000;
/// Workers of a namespace at once: more is a client that registers in a loop.
const MAX_WORKERS: usize = 20_000;

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
    ended: Option<&'static str>,
    registered_at: Timestamp,
    last_seen: Timestamp,
    running: BTreeSet<(RunKey, u64, u64)>,
}

#[derive(Default)]
pub(crate) struct Workers {
    workers: Mutex<HashMap<Arc<str>, Worker>>,
}

impl Workers {
    /// A new worker; its id, and the attempts that it was given and never got. `None`: there are too many workers.
    pub fn register(
        &self,
        namespace: &Namespace,
        mut told: Registration,
        now: Timestamp,
    ) -> Option<(Arc<str>, Vec<Lost>)> {
        let mut workers = self.workers.lock();
        if workers.values().filter(|w| w.namespace == *namespace && w.ended.is_none()).count() >= MAX_WORKERS {
            return None;
        }
        let before = told.replaces.as_deref().and_then(|id| workers.get_mut(id));
        let mut running = match before.filter(|w| w.namespace == *namespace && w.ended.is_none()) {
            Some(before) => {
                before.ended = Some("replaced");
                before.last_seen = now;
                std::mem::take(&mut before.running)
            }
            None => BTreeSet::new(),
        };
        let mut never_got = Vec::new();
        if let Some(holds) = told.holds.take() {
            running.retain(|(run, command_no, secret)| {
                let held = holds.contains(secret);
                if !held {
                    never_got.push(Lost { run: *run, command_no: *command_no, secret: *secret });
                }
                held
            });
        }
        let id: Arc<str> = crate::ids::random().into();
        let worker = Worker {
            namespace: namespace.clone(),
            identity: told.identity.as_str().into(),
            told,
            polled: false,
            unheard: false,
            ended: None,
            registered_at: now,
            last_seen: now,
            running,
        };
        workers.insert(id.clone(), worker);
        Some((id, never_got))
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
        worker.polled |= polls;
        Some(ClaimedBy { id: key, identity })
    }

    /// The worker has an attempt. One that nobody knows claimed it from this host before a restart.
    pub fn claimed(&self, namespace: &Namespace, id: &Arc<str>, attempt: Lost, now: Timestamp) {
        let mut workers = self.workers.lock();
        let worker = workers.entry(id.clone()).or_insert_with(|| Worker {
            namespace: namespace.clone(),
            identity: "not heard of since the host started".into(),
            told: Registration::default(),
            polled: true,
            unheard: true,
            ended: None,
            registered_at: now,
            last_seen: now,
            running: BTreeSet::new(),
        });
        worker.running.insert((attempt.run, attempt.command_no, attempt.secret));
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
        worker.ended = Some("stopped");
        worker.last_seen = now;
        Some(worker.give_back())
    }

    /// Workers that were not heard of for three beats: lost. What they had goes back. Forgets the long ended.
    pub fn reap(&self, now: Timestamp) -> Vec<(String, Vec<Lost>)> {
        let mut workers = self.workers.lock();
        workers.retain(|_, w| w.ended.is_none() || now.since(w.last_seen) < SHOW_ENDED_NANOS);
        let silent =
            workers.iter_mut().filter(|(_, w)| w.ended.is_none() && now.since(w.last_seen) > MISSED * BEAT_EVERY_NANOS);
        silent
            .map(|(id, worker)| {
                worker.ended = Some("lost");
                (id.to_string(), worker.give_back())
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

#[cfg(test)]
mod tests {
    use super::*;

    const BEAT: u64 = BEAT_EVERY_NANOS;

    fn told(replaces: Option<&str>) -> Registration {
        Registration { identity: "me".into(), replaces: replaces.map(str::to_owned), ..Registration::default() }
    }

    fn attempt(run: u64) -> Lost {
        Lost { run: RunKey(run), command_no: 1, secret: 9 }
    }

    #[test]
    fn three_missed_beats_lose_a_worker_and_give_its_attempts_back() {
        let (workers, namespace) = (Workers::default(), Namespace::default());
        let id = workers.register(&namespace, told(None), Timestamp(0)).expect("an id").0;
        assert_eq!(workers.views(&namespace)[0].state, WorkerState::Creating);
        workers.seen(&namespace, &id, true, Timestamp(BEAT)).expect("known");
        assert_eq!(workers.views(&namespace)[0].state, WorkerState::Ready);
        workers.claimed(&namespace, &id, attempt(1), Timestamp(BEAT));
        workers.claimed(&namespace, &id, attempt(2), Timestamp(BEAT));
        workers.released(&id, attempt(1));
        assert_eq!(workers.views(&namespace)[0].state, WorkerState::Busy);
        assert!(workers.reap(Timestamp(4 * BEAT)).is_empty());
        assert_eq!(workers.reap(Timestamp(4 * BEAT + 1)), [(id.to_string(), vec![attempt(2)])]);
        assert!(workers.seen(&namespace, &id, true, Timestamp(5 * BEAT)).is_none(), "it has to register");
        assert_eq!(workers.views(&namespace)[0].ended, Some("lost"));
        assert!(workers.reap(Timestamp(5 * BEAT)).is_empty());
        workers.reap(Timestamp(SHOW_ENDED_NANOS + 9 * BEAT));
        assert!(workers.views(&namespace).is_empty());
    }

    #[test]
    fn claims_of_before_a_restart_go_along_with_the_worker_or_back() {
        let (workers, namespace) = (Workers::default(), Namespace::default());
        let (kept, silent): (Arc<str>, Arc<str>) = ("kept".into(), "silent".into());
        workers.claimed(&namespace, &kept, attempt(1), Timestamp(0));
        workers.claimed(&namespace, &silent, attempt(2), Timestamp(0));
        let id = workers.register(&namespace, told(Some("kept")), Timestamp(BEAT)).expect("an id").0;
        assert_eq!(workers.reap(Timestamp(3 * BEAT + 1)), [("silent".to_owned(), vec![attempt(2)])]);
        // It answers for what it claimed under its former id.
        workers.released(&kept, attempt(1));
        assert_eq!(workers.end(&namespace, &id, Timestamp(4 * BEAT)), Some(Vec::new()));
        assert_eq!(workers.end(&namespace, &id, Timestamp(4 * BEAT)), None);
    }

    #[test]
    fn a_worker_is_of_one_namespace() {
        let workers = Workers::default();
        let other = Namespace::new("other").expect("a name");
        let id = workers.register(&Namespace::default(), told(None), Timestamp(0)).expect("an id").0;
        assert!(workers.seen(&other, &id, true, Timestamp(0)).is_none());
        assert!(workers.end(&other, &id, Timestamp(0)).is_none());
        assert!(workers.views(&other).is_empty());
    }

    #[test]
    fn what_a_worker_never_got_goes_back_when_it_registers_again() {
        let (workers, namespace) = (Workers::default(), Namespace::default());
        let id = workers.register(&namespace, told(None), Timestamp(0)).expect("an id").0;
        let ghost = Lost { secret: 8, ..attempt(2) };
        workers.claimed(&namespace, &id, attempt(1), Timestamp(0));
        workers.claimed(&namespace, &id, ghost, Timestamp(0));
        let again = Registration { holds: Some([9].into()), ..told(Some(&id)) };
        let (again, never_got) = workers.register(&namespace, again, Timestamp(1)).expect("an id");
        assert_eq!(never_got, [ghost]);
        assert_eq!(workers.end(&namespace, &again, Timestamp(2)), Some(vec![attempt(1)]));
    }
}
