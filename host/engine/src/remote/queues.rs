//! Task queues: attempts that are ready, oldest first by activity, and workers' polls that wait for one. Holds
//! references only: what an attempt is about stays with its owner and in the store. A queue with limits has a gate, and
//! polls that wait although something is ready are served when it opens.

mod limits;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, OnceLock},
};

use parking_lot::Mutex;
use relive_core::{Namespace, RunKey, ShardSet, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::{
    ClaimedBy, ClaimedTask, NotClaimed, TaskRef,
    gate::{Claims, Gate, HeldBack, Shut},
    permit::{Outlet, Pass},
};

/// Queues that hold nothing and were not polled for this long are forgotten.
const FORGET_AFTER_NANOS: u64 = 3_600 * 1_000_000_000;

/// A queue's full name.
pub(crate) type QueueName = (Namespace, Arc<str>);
type Reply = oneshot::Sender<Result<Box<ClaimedTask>, NotClaimed>>;

/// A poll that waits.
pub(crate) struct Poller {
    pub worker: ClaimedBy,
    /// The activities that it takes; none: all.
    pub activities: Option<Arc<[String]>>,
    pub reply: Reply,
}

/// Where an attempt that became ready went.
pub(crate) enum Offered {
    /// It waits in its queue, with as many others as that, or is on its way to a poll.
    Queued(u64),
    /// It was there already.
    Known,
    /// A poll waited: its owner claims the attempt for it.
    Taken(Poller),
}

/// An attempt that a poll may claim.
pub(crate) struct Taken {
    pub task: TaskRef,
    pub pass: Pass,
}

/// A poll's place among those that wait; given up when it is dropped.
pub(crate) struct Waiting {
    queues: Arc<Queues>,
    name: QueueName,
    id: u64,
}

/// What is known of a queue.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct QueueView {
    pub name: String,
    /// Attempts that are ready and wait for a worker.
    pub backlog: u64,
    /// When the oldest of them became ready.
    #[schema(value_type = Option<crate::schema::Timestamp>)]
    pub oldest: Option<Timestamp>,
    /// Attempts that workers have.
    pub claimed: u64,
    /// Polls that wait.
    pub pollers: u64,
    /// When a worker last asked for work.
    #[schema(value_type = Option<crate::schema::Timestamp>)]
    pub last_poll: Option<Timestamp>,
    /// Attempts that became ready, and that were handed to a poll, since the host started.
    pub added: u64,
    pub dispatched: u64,
    /// The backlog by activity.
    pub activities: BTreeMap<String, u64>,
    /// Attempts per second that are handed out at most; none: no limit.
    pub rate: Option<f64>,
    /// As many may go out at once after a pause.
    pub burst: Option<u32>,
    /// Attempts that workers have at once at most; none: no limit.
    pub concurrency: Option<u32>,
    /// What keeps the backlog from workers that ask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_back: Option<HeldBack>,
}

impl QueueView {
    /// Adds what another host has of the queue. The limits are the same everywhere.
    pub(crate) fn add(&mut self, other: Self) {
        self.backlog += other.backlog;
        self.oldest = self.oldest.into_iter().chain(other.oldest).min();
        self.claimed += other.claimed;
        self.pollers += other.pollers;
        self.last_poll = self.last_poll.max(other.last_poll);
        self.added += other.added;
        self.dispatched += other.dispatched;
        for (activity, ready) in other.activities {
            *self.activities.entry(activity).or_default() += ready;
        }
        self.held_back = self.held_back.or(other.held_back);
    }
}

#[derive(Default)]
struct Queue {
    ready: HashMap<Arc<str>, BTreeMap<u64, (TaskRef, Timestamp)>>,
    pollers: VecDeque<(u64, Poller)>,
    claimed: u64,
    added: u64,
    dispatched: u64,
    last_poll: Option<Timestamp>,
    touched: Timestamp,
    gate: Option<Gate>,
    /// With a gate: something came since no poll was found for anything that is ready.
    unmatched: bool,
    /// When the gate will be looked at.
    look_at: Option<Timestamp>,
}

/// Where a task stands in its queue.
struct Place {
    queue: QueueName,
    activity: Arc<str>,
    number: u64,
    attempt: u32,
}

#[derive(Default)]
struct Inner {
    queues: HashMap<QueueName, Queue>,
    places: HashMap<(RunKey, u64), Place>,
    /// Tasks that are claimed, with their queue.
    claimed: HashMap<(RunKey, u64), QueueName>,
    /// The next number of a ready attempt, and of a poll.
    next: u64,
    /// Searches for claims that go on.
    recovering: u32,
    /// Grows with each change of limits.
    limits_changed: u64,
}

#[derive(Default)]
pub(crate) struct Queues {
    inner: Mutex<Inner>,
    outlet: OnceLock<Box<dyn Outlet>>,
}

impl Queues {
    /// Where polls that waited go.
    pub fn attach(&self, outlet: impl Outlet + 'static) {
        let _ = self.outlet.set(Box::new(outlet));
    }

    /// An attempt is ready at `now`: hands it to a poll that waits, else queues it. One that is queued already stays.
    pub fn offer(self: &Arc<Self>, name: &QueueName, activity: &Arc<str>, task: TaskRef, now: Timestamp) -> Offered {
        let mut inner = self.inner.lock();
        let key = (task.run, task.command_no);
        if inner.places.get(&key).is_some_and(|place| place.attempt == task.attempt) {
            return Offered::Known;
        }
        inner.forget(&key);
        inner.next += 1;
        let number = inner.next;
        let queue = inner.queues.entry(name.clone()).or_default();
        queue.touched = now;
        queue.added += 1;
        queue.pollers.retain(|(_, poller)| !poller.reply.is_closed());
        let gated = queue.gate.is_some();
        if !gated
            && let Some(at) = queue.pollers.iter().position(|(_, poller)| takes(poller.activities.as_deref(), activity))
            && let Some((_, poller)) = queue.pollers.remove(at)
        {
            queue.dispatched += 1;
            return Offered::Taken(poller);
        }
        queue.ready.entry(activity.clone()).or_default().insert(number, (task, now));
        queue.unmatched = true;
        let backlog = queue.backlog();
        let place = Place { queue: name.clone(), activity: activity.clone(), number, attempt: task.attempt };
        inner.places.insert(key, place);
        drop(inner);
        if gated {
            self.serve(name);
        }
        Offered::Queued(backlog)
    }

    /// Takes up to `max` ready attempts of these activities, the oldest first, as far as the queue's limits go.
    pub fn take(
        self: &Arc<Self>,
        name: &QueueName,
        activities: Option<&[String]>,
        max: usize,
        now: Timestamp,
    ) -> Vec<Taken> {
        let (tasks, gated) = self.inner.lock().take(name, activities, max, now);
        tasks.into_iter().map(|task| Taken { task, pass: self.pass(name, gated) }).collect()
    }

    /// Waits for an attempt, unless one is ready.
    pub fn wait(
        self: &Arc<Self>,
        name: &QueueName,
        poller: Poller,
        now: Timestamp,
    ) -> Result<Waiting, Box<(Taken, Poller)>> {
        let mut inner = self.inner.lock();
        let (mut tasks, gated) = inner.take(name, poller.activities.as_deref(), 1, now);
        if let Some(task) = tasks.pop() {
            drop(inner);
            return Err(Box::new((Taken { task, pass: self.pass(name, gated) }, poller)));
        }
        inner.next += 1;
        let id = inner.next;
        let queue = inner.queues.entry(name.clone()).or_default();
        queue.pollers.push_back((id, poller));
        queue.unmatched = true;
        drop(inner);
        if gated {
            self.serve(name);
        }
        Ok(Waiting { queues: self.clone(), name: name.clone(), id })
    }

    /// Sends a poll that waits for the activity to another host; false: none does.
    pub fn point(&self, name: &QueueName, activity: &str, address: &Arc<str>) -> bool {
        let mut inner = self.inner.lock();
        let Some(queue) = inner.queues.get_mut(name) else { return false };
        queue.pollers.retain(|(_, poller)| !poller.reply.is_closed());
        let found = queue.pollers.iter().position(|(_, poller)| takes(poller.activities.as_deref(), activity));
        let Some((_, poller)) = found.and_then(|at| queue.pollers.remove(at)) else { return false };
        poller.reply.send(Err(NotClaimed::Elsewhere(address.clone()))).is_ok()
    }

    /// Polls that wait at the queue.
    pub fn waiting(&self, name: &QueueName) -> usize {
        self.inner.lock().queues.get(name).map_or(0, Queue::waiting)
    }

    /// The queues at which polls wait.
    pub fn all_waiting(&self) -> Vec<QueueName> {
        let inner = self.inner.lock();
        inner.queues.iter().filter(|(_, queue)| queue.waiting() > 0).map(|(name, _)| name.clone()).collect()
    }

    /// Whether this attempt of the task waits here.
    pub fn holds(&self, run: RunKey, command_no: u64, attempt: u32) -> bool {
        self.inner.lock().places.get(&(run, command_no)).is_some_and(|place| place.attempt == attempt)
    }

    /// Other hosts own these shards now: their attempts are in those hosts' queues.
    pub fn forget(self: &Arc<Self>, shards: &ShardSet) {
        let inner = self.inner.lock();
        let gone = |key: &&(RunKey, u64)| shards.contains(key.0.shard());
        let ready: Vec<_> = inner.places.keys().filter(gone).copied().collect();
        let claimed: Vec<_> = inner.claimed.keys().filter(gone).copied().collect();
        drop(inner);
        ready.into_iter().for_each(|(run, no)| self.remove(run, no));
        claimed.into_iter().for_each(|(run, no)| self.released(run, no));
    }

    /// The attempt of the task that waits here.
    pub fn attempt_of(&self, run: RunKey, command_no: u64) -> Option<u32> {
        self.inner.lock().places.get(&(run, command_no)).map(|place| place.attempt)
    }

    /// All tasks that wait here.
    pub fn places(&self) -> Vec<(RunKey, u64)> {
        self.inner.lock().places.keys().copied().collect()
    }

    /// The polls that wait end with nothing.
    pub fn close(&self) {
        self.inner.lock().queues.values_mut().for_each(|queue| queue.pollers.clear());
    }

    /// The task is not ready any more: resolved, given up, paused, or somebody's.
    pub fn remove(&self, run: RunKey, command_no: u64) {
        self.inner.lock().forget(&(run, command_no));
    }

    /// A worker has the task.
    pub fn claimed(&self, name: &QueueName, run: RunKey, command_no: u64) {
        let mut inner = self.inner.lock();
        inner.forget(&(run, command_no));
        if inner.claimed.insert((run, command_no), name.clone()).is_none() {
            inner.queues.entry(name.clone()).or_default().claimed += 1;
        }
    }

    /// No worker has the task any more.
    pub fn released(self: &Arc<Self>, run: RunKey, command_no: u64) {
        let mut inner = self.inner.lock();
        let Some(name) = inner.claimed.remove(&(run, command_no)) else { return };
        let Some(queue) = inner.queues.get_mut(&name) else { return };
        queue.claimed = queue.claimed.saturating_sub(1);
        let gated = queue.gate.is_some();
        drop(inner);
        if gated {
            self.serve(&name);
        }
    }

    /// Ready attempts of an activity, wherever they wait.
    pub fn ready_of(&self, namespace: &Namespace, activity: &str) -> Vec<TaskRef> {
        let inner = self.inner.lock();
        let queues = inner.queues.iter().filter(|((of, _), _)| of == namespace);
        let ready = queues.filter_map(|(_, queue)| queue.ready.get(activity));
        ready.flat_map(|tasks| tasks.values().map(|(task, _)| *task)).collect()
    }

    /// All queues of a namespace, by name.
    pub fn views(&self, namespace: &Namespace, now: Timestamp) -> Vec<QueueView> {
        let inner = self.inner.lock();
        let of = inner.queues.iter().filter(|((of, _), _)| of == namespace);
        let mut views: Vec<QueueView> = of.map(|(name, queue)| queue.view(&name.1, inner.claims(name), now)).collect();
        views.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        views
    }

    /// All queues of all namespaces.
    pub fn all(&self, now: Timestamp) -> Vec<(Namespace, QueueView)> {
        let inner = self.inner.lock();
        let view = |(name, queue): (&QueueName, &Queue)| (name.0.clone(), queue.view(&name.1, inner.claims(name), now));
        inner.queues.iter().map(view).collect()
    }

    pub fn view(&self, name: &QueueName, now: Timestamp) -> Option<QueueView> {
        let inner = self.inner.lock();
        inner.queues.get(name).map(|queue| queue.view(&name.1, inner.claims(name), now))
    }

    /// Forgets queues that nobody has used for long, and gates that hold nothing back.
    pub fn sweep(&self, now: Timestamp) {
        self.inner.lock().queues.retain(|_, queue| {
            queue.gate.take_if(|gate| gate.is_idle());
            let used =
                !queue.ready.is_empty() || !queue.pollers.is_empty() || queue.claimed > 0 || queue.gate.is_some();
            used || now.since(queue.touched) < FORGET_AFTER_NANOS
        });
    }
}

impl Inner {
    /// Takes what is ready, and says whether the queue has a gate that it went through.
    fn take(
        &mut self,
        name: &QueueName,
        activities: Option<&[String]>,
        max: usize,
        now: Timestamp,
    ) -> (Vec<TaskRef>, bool) {
        let recovering = self.recovering > 0;
        let queue = self.queues.entry(name.clone()).or_default();
        queue.last_poll = Some(now);
        queue.touched = now;
        let mut taken = Vec::new();
        while taken.len() < max {
            let Some((number, activity)) = queue.oldest(activities) else { break };
            if queue.admit(recovering, now).is_err() {
                break;
            }
            if let Some((task, _)) = queue.remove(&activity, number) {
                queue.dispatched += 1;
                taken.push(task);
            }
        }
        let gated = queue.gate.is_some();
        for task in &taken {
            self.places.remove(&(task.run, task.command_no));
        }
        (taken, gated)
    }

    fn claims(&self, name: &QueueName) -> Claims {
        self.queues.get(name).filter(|_| self.recovering == 0).map(|queue| queue.claimed)
    }

    fn forget(&mut self, key: &(RunKey, u64)) {
        if let Some(place) = self.places.remove(key)
            && let Some(queue) = self.queues.get_mut(&place.queue)
        {
            queue.remove(&place.activity, place.number);
        }
    }
}

impl Queue {
    /// Lets one attempt out, if the limits allow it.
    fn admit(&mut self, recovering: bool, now: Timestamp) -> Result<(), Shut> {
        let claims = (!recovering).then_some(self.claimed);
        self.gate.as_mut().map_or(Ok(()), |gate| gate.admit(claims, now))
    }

    /// The oldest ready attempt of these activities.
    fn oldest(&self, activities: Option<&[String]>) -> Option<(u64, Arc<str>)> {
        let fronts = self.ready.iter().filter(|(activity, _)| takes(activities, activity));
        let oldest = fronts.filter_map(|(activity, tasks)| Some((*tasks.first_key_value()?.0, activity))).min();
        oldest.map(|(number, activity)| (number, activity.clone()))
    }

    fn remove(&mut self, activity: &Arc<str>, number: u64) -> Option<(TaskRef, Timestamp)> {
        let tasks = self.ready.get_mut(activity)?;
        let task = tasks.remove(&number);
        if tasks.is_empty() {
            self.ready.remove(activity);
        }
        task
    }

    fn waiting(&self) -> usize {
        self.pollers.iter().filter(|(_, poller)| !poller.reply.is_closed()).count()
    }

    /// Ready attempts, of all activities.
    fn backlog(&self) -> u64 {
        self.ready.values().map(|tasks| tasks.len() as u64).sum()
    }

    fn view(&self, name: &str, claims: Claims, now: Timestamp) -> QueueView {
        let activities: BTreeMap<String, u64> =
            self.ready.iter().map(|(activity, tasks)| (activity.to_string(), tasks.len() as u64)).collect();
        let limits = self.gate.as_ref().map(Gate::limits).unwrap_or_default();
        let shut = self.gate.as_ref().filter(|_| !self.ready.is_empty()).and_then(|gate| gate.shut(claims, now));
        QueueView {
            name: name.to_owned(),
            backlog: self.backlog(),
            oldest: self.ready.values().filter_map(|tasks| Some(tasks.first_key_value()?.1.1)).min(),
            claimed: self.claimed,
            pollers: self.waiting() as u64,
            last_poll: self.last_poll,
            added: self.added,
            dispatched: self.dispatched,
            activities,
            rate: limits.rate.map(|rate| rate.per_second),
            burst: limits.rate.map(|rate| rate.burst),
            concurrency: limits.concurrency,
            held_back: shut.map(Shut::by),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(queue) = self.queues.inner.lock().queues.get_mut(&self.name) {
            queue.pollers.retain(|(id, _)| *id != self.id);
        }
    }
}

/// Whether a poll for these activities takes this one.
fn takes(activities: Option<&[String]>, activity: &str) -> bool {
    activities.is_none_or(|names| names.iter().any(|name| name == activity))
}

#[cfg(test)]
mod tests;
