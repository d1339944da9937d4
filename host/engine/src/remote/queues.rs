//! Task queues: attempts that are ready, oldest first by activity, and workers' polls that wait for one. Holds
//! references only: what an attempt is about stays with its owner and in the store.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use parking_lot::Mutex;
use relive_core::{Namespace, RunKey, ShardSet, Timestamp};
use serde::Serialize;
use tokio::sync::oneshot;

use super::{ClaimedBy, ClaimedTask, NotClaimed, TaskRef};

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
    /// It waits in its queue.
    Queued,
    /// A poll waited: its owner claims the attempt for it.
    Taken(Poller),
}

/// A poll's place among those that wait; given up when it is dropped.
pub(crate) struct Waiting {
    queues: Arc<Queues>,
    name: QueueName,
    id: u64,
}

/// What is known of a queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
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
}

#[derive(Default)]
pub(crate) struct Queues {
    inner: Mutex<Inner>,
}

impl Queues {
    /// An attempt is ready at `now`: hands it to a poll that waits, else queues it. One that is queued already stays.
    pub fn offer(&self, name: &QueueName, activity: &Arc<str>, task: TaskRef, now: Timestamp) -> Offered {
        let mut inner = self.inner.lock();
        let key = (task.run, task.command_no);
        if inner.places.get(&key).is_some_and(|place| place.attempt == task.attempt) {
            return Offered::Queued;
        }
        inner.forget(&key);
        inner.next += 1;
        let number = inner.next;
        let queue = inner.queues.entry(name.clone()).or_default();
        queue.touched = now;
        queue.added += 1;
        queue.pollers.retain(|(_, poller)| !poller.reply.is_closed());
        if let Some(at) = queue.pollers.iter().position(|(_, poller)| takes(poller.activities.as_deref(), activity))
            && let Some((_, poller)) = queue.pollers.remove(at)
        {
            queue.dispatched += 1;
            return Offered::Taken(poller);
        }
        queue.ready.entry(activity.clone()).or_default().insert(number, (task, now));
        let place = Place { queue: name.clone(), activity: activity.clone(), number, attempt: task.attempt };
        inner.places.insert(key, place);
        Offered::Queued
    }

    /// Takes up to `max` ready attempts of these activities, the oldest first.
    pub fn take(&self, name: &QueueName, activities: Option<&[String]>, max: usize, now: Timestamp) -> Vec<TaskRef> {
        self.inner.lock().take(name, activities, max, now)
    }

    /// Waits for an attempt, unless one is ready.
    pub fn wait(
        self: &Arc<Self>,
        name: &QueueName,
        poller: Poller,
        now: Timestamp,
    ) -> Result<Waiting, (TaskRef, Poller)> {
        let mut inner = self.inner.lock();
        if let Some(task) = inner.take(name, poller.activities.as_deref(), 1, now).pop() {
            return Err((task, poller));
        }
        inner.next += 1;
        let id = inner.next;
        inner.queues.entry(name.clone()).or_default().pollers.push_back((id, poller));
        Ok(Waiting { queues: self.clone(), name: name.clone(), id })
    }

    /// Whether this attempt of the task waits here.
    pub fn holds(&self, run: RunKey, command_no: u64, attempt: u32) -> bool {
        self.inner.lock().places.get(&(run, command_no)).is_some_and(|place| place.attempt == attempt)
    }

    /// Other hosts own these shards now: their attempts are in those hosts' queues.
    pub fn forget(&self, shards: &ShardSet) {
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
    pub fn released(&self, run: RunKey, command_no: u64) {
        let mut inner = self.inner.lock();
        if let Some(name) = inner.claimed.remove(&(run, command_no))
            && let Some(queue) = inner.queues.get_mut(&name)
        {
            queue.claimed = queue.claimed.saturating_sub(1);
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
    pub fn views(&self, namespace: &Namespace) -> Vec<QueueView> {
        let inner = self.inner.lock();
        let of = inner.queues.iter().filter(|((of, _), _)| of == namespace);
        let mut views: Vec<QueueView> = of.map(|((_, name), queue)| queue.view(name)).collect();
        views.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        views
    }

    /// All queues of all namespaces.
    pub fn all(&self) -> Vec<(Namespace, QueueView)> {
        let inner = self.inner.lock();
        inner.queues.iter().map(|((namespace, name), queue)| (namespace.clone(), queue.view(name))).collect()
    }

    pub fn view(&self, name: &QueueName) -> Option<QueueView> {
        self.inner.lock().queues.get(name).map(|queue| queue.view(&name.1))
    }

    /// Forgets queues that nobody has used for long.
    pub fn sweep(&self, now: Timestamp) {
        self.inner.lock().queues.retain(|_, queue| {
            let used = !queue.ready.is_empty() || !queue.pollers.is_empty() || queue.claimed > 0;
            used || now.since(queue.touched) < FORGET_AFTER_NANOS
        });
    }
}

impl Inner {
    fn take(&mut self, name: &QueueName, activities: Option<&[String]>, max: usize, now: Timestamp) -> Vec<TaskRef> {
        let queue = self.queues.entry(name.clone()).or_default();
        queue.last_poll = Some(now);
        queue.touched = now;
        let mut taken = Vec::new();
        while taken.len() < max {
            let fronts = queue.ready.iter().filter(|(activity, _)| takes(activities, activity));
            let oldest = fronts.filter_map(|(activity, tasks)| Some((*tasks.first_key_value()?.0, activity))).min();
            let Some((number, activity)) = oldest.map(|(number, activity)| (number, activity.clone())) else { break };
            if let Some((task, _)) = queue.remove(&activity, number) {
                queue.dispatched += 1;
                taken.push(task);
            }
        }
        for task in &taken {
            self.places.remove(&(task.run, task.command_no));
        }
        taken
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
    fn remove(&mut self, activity: &Arc<str>, number: u64) -> Option<(TaskRef, Timestamp)> {
        let tasks = self.ready.get_mut(activity)?;
        let task = tasks.remove(&number);
        if tasks.is_empty() {
            self.ready.remove(activity);
        }
        task
    }

    fn view(&self, name: &str) -> QueueView {
        let activities: BTreeMap<String, u64> =
            self.ready.iter().map(|(activity, tasks)| (activity.to_string(), tasks.len() as u64)).collect();
        let open = self.pollers.iter().filter(|(_, poller)| !poller.reply.is_closed());
        QueueView {
            name: name.to_owned(),
            backlog: activities.values().sum(),
            oldest: self.ready.values().filter_map(|tasks| Some(tasks.first_key_value()?.1.1)).min(),
            claimed: self.claimed,
            pollers: open.count() as u64,
            last_poll: self.last_poll,
            added: self.added,
            dispatched: self.dispatched,
            activities,
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
mod tests {
    use super::*;

    fn name() -> QueueName {
        (Namespace::default(), "q".into())
    }

    fn task(run: u64) -> TaskRef {
        TaskRef { run: RunKey(run), command_no: 1, attempt: 1 }
    }

    fn offer(queues: &Queues, activity: &str, run: u64) -> Offered {
        queues.offer(&name(), &activity.into(), task(run), Timestamp(run))
    }

    type Rx = oneshot::Receiver<Result<Box<ClaimedTask>, NotClaimed>>;

    fn poller(activities: Option<&[&str]>) -> (Poller, Rx) {
        let (reply, answer) = oneshot::channel();
        let worker = ClaimedBy { id: "w".into(), identity: "w".into() };
        let activities = activities.map(|names| names.iter().map(|n| (*n).to_owned()).collect());
        (Poller { worker, activities, reply }, answer)
    }

    #[test]
    fn the_oldest_of_what_a_worker_takes_comes_first() {
        let queues = Queues::default();
        for (run, activity) in [(1, "mail"), (2, "charge"), (3, "mail"), (4, "ship")] {
            assert!(matches!(offer(&queues, activity, run), Offered::Queued));
        }
        // Once more: it is there already.
        offer(&queues, "mail", 1);
        let names = ["mail".to_owned(), "ship".to_owned()];
        assert_eq!(queues.take(&name(), Some(&names), 2, Timestamp(9)), [task(1), task(3)]);
        let view = queues.view(&name()).expect("a queue");
        assert_eq!((view.backlog, view.oldest, view.added, view.dispatched), (2, Some(Timestamp(2)), 4, 2));
        assert_eq!(queues.take(&name(), None, 9, Timestamp(9)), [task(2), task(4)]);
        assert!(queues.take(&name(), None, 9, Timestamp(9)).is_empty());
    }

    #[test]
    fn a_poll_that_waits_is_handed_what_it_takes() {
        let queues = Arc::new(Queues::default());
        let (ship, _ship) = poller(Some(&["ship"]));
        let (any, mut any_answer) = poller(None);
        let (gone, answer) = poller(None);
        let _places = [gone, ship, any].map(|p| queues.wait(&name(), p, Timestamp(1)).ok().expect("nothing is ready"));
        drop(answer);
        let Offered::Taken(taken) = offer(&queues, "mail", 1) else { panic!("a poll waits") };
        assert!(taken.activities.is_none());
        assert!(any_answer.try_recv().is_err());
        assert!(matches!(offer(&queues, "mail", 2), Offered::Queued), "the one that is left takes something else");
        assert!(matches!(offer(&queues, "ship", 3), Offered::Taken(_)));
    }

    #[test]
    fn a_place_is_given_up_and_a_ready_task_is_taken_at_once() {
        let queues = Arc::new(Queues::default());
        let (first, _first) = poller(None);
        drop(queues.wait(&name(), first, Timestamp(1)));
        assert_eq!(queues.view(&name()).expect("a queue").pollers, 0);
        offer(&queues, "mail", 1);
        let (second, _second) = poller(None);
        let (found, _) = queues.wait(&name(), second, Timestamp(1)).err().expect("one is ready");
        assert_eq!(found, task(1));
        offer(&queues, "mail", 2);
        queues.remove(RunKey(2), 1);
        assert_eq!(queues.view(&name()).expect("a queue").backlog, 0);
        queues.sweep(Timestamp(FORGET_AFTER_NANOS * 2));
        assert!(queues.views(&Namespace::default()).is_empty());
    }

    #[test]
    fn another_attempt_takes_the_place_of_the_one_before() {
        let queues = Queues::default();
        offer(&queues, "mail", 1);
        let again = TaskRef { attempt: 2, ..task(1) };
        queues.offer(&name(), &"mail".into(), again, Timestamp(5));
        assert_eq!(queues.take(&name(), None, 9, Timestamp(9)), [again]);
        queues.claimed(&name(), RunKey(1), 1);
        queues.claimed(&name(), RunKey(1), 1);
        assert_eq!(queues.view(&name()).expect("a queue").claimed, 1);
        queues.released(RunKey(1), 1);
        queues.released(RunKey(1), 1);
        assert_eq!(queues.view(&name()).expect("a queue").claimed, 0);
    }
}
