//! Workers and the queues that they take tasks from: registering, polling, beating, going.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::future::join_all;
use relive_core::{
    Error, ErrorKind, Namespace, Timestamp,
    ids::check_id,
    ports::{QueueLimits, QueueRow, Replaces, StoreError, WorkerRow, WorkerStore},
};
use tokio::{sync::oneshot, time::Instant};

use super::lookup::store_error;
use crate::{
    context::Context,
    engine::Engine,
    ids,
    message::Message,
    remote::{
        BEAT_EVERY_NANOS, ClaimRequest, ClaimedBy, ClaimedTask, Exchange, Handed, Lost, MAX_WORKERS, MISSED,
        NotClaimed, Pass, PeerError, PeerPoll, Poller, QueueName, QueueView, Recovery, Registration, SHOW_ENDED_NANOS,
        Taken, TaskRef, TaskToken, WorkerView,
    },
    requests::{PollRequest, RegisterRequest},
};

/// The longest that a poll waits: proxies cut off what is silent for longer.
pub const MAX_POLL: Duration = Duration::from_secs(60);
/// Tasks that one poll may take.
pub const MAX_TASKS_A_POLL: usize = 100;
/// How long another host may take to tell of its queues.
const PEER_PATIENCE: Duration = Duration::from_secs(3);
/// A worker that is silent for longer is lost.
const SILENT: Duration = Duration::from_nanos(MISSED * BEAT_EVERY_NANOS);
/// Names of queues and activities that a worker may give.
const MAX_NAMES: usize = 1_000;

type Claimed = Result<Box<ClaimedTask>, NotClaimed>;

impl Engine {
    /// Makes a worker known. What it had under the id that it replaces is its own again. Asks the store where hosts share
    /// workers.
    pub fn register_worker(&self, namespace: &Namespace, request: RegisterRequest) -> Result<WorkerView, Error> {
        self.accepting()?;
        check_id(&request.identity, "worker identity").map_err(|e| invalid(e.to_string()))?;
        let names = request.task_queues.iter().chain(&request.activities);
        if request.task_queues.len() + request.activities.len() > MAX_NAMES {
            return Err(invalid(format!("a worker may name {MAX_NAMES} queues and activities; this one names more")));
        }
        names.into_iter().try_for_each(|n| check_id(n, "name")).map_err(|e| invalid(e.to_string()))?;
        // What is no token names nothing that it could hold.
        let secret = |text: &String| text.parse().ok().map(|token: TaskToken| token.secret);
        let holds = request.holds.map(|tokens| tokens.iter().filter_map(secret).collect());
        let told = Registration {
            identity: request.identity,
            task_queues: request.task_queues,
            activities: request.activities,
            sdk: request.sdk,
            replaces: request.replaces,
            holds,
        };
        let id: Arc<str> = ids::random().into();
        let (workers, now) = (&self.context.remote.workers, self.context.clock.now());
        if let Some(cluster) = &self.context.cluster
            && !put_worker(&*cluster.parts.workers, &id, namespace, &told)?
        {
            return Err(too_many_workers());
        }
        let never_got = workers.register(&id, namespace, told, now).ok_or_else(too_many_workers)?;
        give_back(&self.context, &never_got);
        let view = workers.views(namespace).into_iter().find(|w| w.id == *id);
        view.ok_or_else(|| unknown_worker(&id))
    }

    /// The worker is there.
    pub async fn beat_worker(&self, namespace: &Namespace, id: &str) -> Result<(), Error> {
        self.heard_of(namespace, id, false).await.map(|_| ())
    }

    /// Notes that the worker is there; one that this host does not know may be known to others.
    async fn heard_of(&self, namespace: &Namespace, id: &str, polls: bool) -> Result<ClaimedBy, Error> {
        let context = &self.context;
        let seen = || context.remote.workers.seen(namespace, id, polls, context.clock.now());
        if let Some(worker) = seen() {
            return Ok(worker);
        }
        if let Some(cluster) = &context.cluster {
            let (store, asked) = (cluster.parts.workers.clone(), [Arc::from(id)]);
            let found = self.blocking(move |_| store.workers_by_id(&asked).map_err(store_error)).await?;
            let open = found.iter().filter(|row| row.ended.is_none());
            open.for_each(|row| context.remote.workers.adopt(row, context.clock.now()));
        }
        seen().ok_or_else(|| unknown_worker(id))
    }

    /// The worker stops: what it has goes back at once, of executions of other hosts within seconds. Asks the store where
    /// hosts share workers.
    pub fn end_worker(&self, namespace: &Namespace, id: &str) -> Result<(), Error> {
        let context = &self.context;
        let elsewhere = match &context.cluster {
            Some(cluster) => cluster.parts.workers.end_worker(namespace, id).map_err(store_error)?,
            None => false,
        };
        let here = context.remote.workers.end(namespace, id, context.clock.now());
        give_back(context, here.as_deref().unwrap_or_default());
        if here.is_some() || elsewhere { Ok(()) } else { Err(unknown_worker(id)) }
    }

    /// The workers of a namespace that this host knows, the newest first.
    #[must_use]
    pub fn workers(&self, namespace: &Namespace) -> Vec<WorkerView> {
        self.context.remote.workers.views(namespace)
    }

    /// The workers of a namespace, of all hosts.
    pub async fn all_workers(&self, namespace: &Namespace) -> Result<Vec<WorkerView>, Error> {
        let Some(cluster) = &self.context.cluster else { return Ok(self.workers(namespace)) };
        let (store, namespace) = (cluster.parts.workers.clone(), namespace.clone());
        let rows = self.blocking(move |_| store.workers(&namespace).map_err(store_error)).await?;
        Ok(rows.iter().map(|(row, running)| WorkerView::of(row, *running)).collect())
    }

    /// The task queues of a namespace that have been used lately, as far as this host goes.
    #[must_use]
    pub fn task_queues(&self, namespace: &Namespace) -> Vec<QueueView> {
        self.context.remote.queues.views(namespace, self.context.clock.now())
    }

    /// The same over all hosts. One that does not answer is left out.
    pub async fn all_task_queues(&self, namespace: &Namespace) -> Vec<QueueView> {
        let mut all: BTreeMap<String, QueueView> = BTreeMap::new();
        let own = self.task_queues(namespace);
        for view in own.into_iter().chain(self.foreign_queues(namespace).await) {
            match all.entry(view.name.clone()) {
                Entry::Occupied(mut known) => known.get_mut().add(view),
                Entry::Vacant(place) => drop(place.insert(view)),
            }
        }
        all.into_values().collect()
    }

    /// One queue over all hosts.
    pub async fn whole_task_queue(&self, namespace: &Namespace, name: &str) -> Result<QueueView, Error> {
        let mut view = self.task_queue(namespace, name)?;
        let foreign = self.foreign_queues(namespace).await;
        foreign.into_iter().filter(|other| other.name == name).for_each(|other| view.add(other));
        Ok(view)
    }

    async fn foreign_queues(&self, namespace: &Namespace) -> Vec<QueueView> {
        let (Some(exchange), Some(cluster)) = (&self.context.exchange, &self.context.cluster) else {
            return Vec::new();
        };
        let asked = cluster.others().into_iter().map(|host| exchange.peers.queues(host, namespace.clone()));
        let asked = asked.map(|views| tokio::time::timeout(PEER_PATIENCE, views));
        let answers = join_all(asked).await;
        answers.into_iter().filter_map(|views| views.ok()?.ok()).flatten().collect()
    }

    /// One queue; an empty one if it was never used, for queues need no making.
    pub fn task_queue(&self, namespace: &Namespace, name: &str) -> Result<QueueView, Error> {
        check_id(name, "task queue").map_err(|e| invalid(e.to_string()))?;
        let view = self.context.remote.queues.view(&(namespace.clone(), name.into()), self.context.clock.now());
        Ok(view.unwrap_or_else(|| QueueView { name: name.to_owned(), ..QueueView::default() }))
    }

    /// Puts limits in the place of those that a queue had. Durable when this returns.
    pub async fn limit_task_queue(
        &self,
        namespace: &Namespace,
        name: &str,
        limits: QueueLimits,
    ) -> Result<QueueView, Error> {
        self.accepting()?;
        check_id(name, "task queue").map_err(|e| invalid(e.to_string()))?;
        limits.check().map_err(invalid)?;
        let row = QueueRow { namespace: namespace.clone(), name: name.into(), limits };
        let key = (row.namespace.clone(), row.name.clone());
        self.blocking(move |engine| engine.context.catalog.put_queue(&row).map_err(store_error)).await?;
        self.context.remote.queues.set_limits(&key, limits, self.context.clock.now());
        self.task_queue(namespace, name)
    }

    /// Takes tasks of this host for a worker: those that are ready, else the first that becomes ready while the poll waits.
    /// Each is the worker's when this returns.
    pub async fn poll(&self, request: PollRequest) -> Result<Vec<ClaimedTask>, Error> {
        let handed = self.take_tasks(&request, None).await?;
        let own = |handed| match handed {
            Handed::Own(task) => Some(*task),
            Handed::Foreign(_) => None,
        };
        Ok(handed.into_iter().filter_map(own).collect())
    }

    /// The same, of all hosts.
    pub async fn poll_anywhere(&self, request: PollRequest) -> Result<Vec<Handed>, Error> {
        self.take_tasks(&request, self.context.exchange.as_ref()).await
    }

    async fn take_tasks(&self, request: &PollRequest, exchange: Option<&Exchange>) -> Result<Vec<Handed>, Error> {
        // Rather than nothing at once, which would be asked for again at once.
        self.unless(self.turns_polls_away())?;
        let context = &self.context;
        check_id(&request.task_queue, "task queue").map_err(|e| invalid(e.to_string()))?;
        if request.activities.as_ref().is_some_and(|names| names.len() > MAX_NAMES) {
            return Err(invalid(format!("a poll may name {MAX_NAMES} activities; this one names more")));
        }
        let worker = self.heard_of(&request.namespace, &request.worker, true).await?;
        let name: QueueName = (request.namespace.clone(), Arc::from(request.task_queue.as_str()));
        let activities: Option<Arc<[String]>> = request.activities.as_deref().map(Arc::from);
        let max = request.max_tasks.clamp(1, MAX_TASKS_A_POLL);
        let until = Instant::now() + request.wait.min(MAX_POLL);
        let take = |max| context.remote.queues.take(&name, activities.as_deref(), max, context.clock.now());
        let mut tasks = self.claim_all(take(max), &worker).await;
        while tasks.is_empty() && !self.turns_polls_away() {
            let (reply, mut answer) = oneshot::channel();
            let poller = Poller { worker: worker.clone(), activities: activities.clone(), reply };
            let waiting = match context.remote.queues.wait(&name, poller, context.clock.now()) {
                Ok(waiting) => Some(waiting),
                Err(ready) => {
                    let (Taken { task, pass }, poller) = *ready;
                    self.claim(task, pass, poller.worker, poller.reply);
                    None
                }
            };
            if let Some(exchange) = exchange {
                exchange.listen(context, &name);
            }
            let Ok(answered) = tokio::time::timeout_at(until, &mut answer).await else {
                drop(waiting);
                // An owner may have taken this poll in the last moment.
                tasks.extend(answer.try_recv().ok().and_then(Result::ok).map(Handed::Own));
                break;
            };
            match (answered, exchange) {
                (Ok(Ok(task)), _) => {
                    tasks.push(Handed::Own(task));
                    tasks.extend(self.claim_all(take(max - 1), &worker).await);
                }
                (Ok(Err(NotClaimed::Elsewhere(host))), Some(exchange)) => {
                    let poll = PeerPoll {
                        namespace: name.0.clone(),
                        task_queue: name.1.clone(),
                        worker: worker.id.clone(),
                        activities: activities.clone(),
                        max_tasks: max,
                    };
                    tasks.extend(ask_peer(exchange, host, poll).await?);
                }
                _ => {}
            }
        }
        context.remote.workers.seen(&request.namespace, &request.worker, true, context.clock.now());
        Ok(tasks)
    }

    /// Whether polls that wait end now.
    fn turns_polls_away(&self) -> bool {
        let context = &self.context;
        let leaves = context.cluster.as_ref().is_some_and(|cluster| cluster.is_draining());
        leaves || context.draining.load(Ordering::Acquire) || context.stopping.load(Ordering::Acquire)
    }

    /// Claims one attempt that the worker learnt of elsewhere, for example from a broker.
    pub async fn claim_task(&self, namespace: &Namespace, worker: &str, task: &str) -> Result<ClaimedTask, Error> {
        self.accepting()?;
        let worker = self.heard_of(namespace, worker, true).await?;
        let task = TaskRef::parse(task).ok_or_else(|| invalid("this is no task id".to_owned()))?;
        self.blocking({
            let namespace = namespace.clone();
            move |engine| {
                let row = engine.context.store.execution(task.run).map_err(super::lookup::store_error)?;
                row.filter(|row| row.execution.namespace == namespace).map(|_| ()).ok_or_else(unknown_task)
            }
        })
        .await?;
        let (reply, answer) = oneshot::channel();
        self.context.remote.queues.remove(task.run, task.command_no);
        self.claim(task, Pass::Wanted, worker, reply);
        match answer.await {
            Ok(Ok(task)) => Ok(*task),
            Ok(Err(NotClaimed::Busy)) => {
                Err(Error::new(ErrorKind::TaskQueue, "busy", "a worker has this attempt; leave it to that one"))
            }
            Ok(Err(NotClaimed::Limited)) => {
                let message = "the task queue lets no more attempts out now, by its limits; try again later";
                Err(Error::new(ErrorKind::TaskQueue, "queue-limited", message))
            }
            _ => {
                let message = "this attempt is not due any more: it was tried again, resolved, or given up";
                Err(Error::new(ErrorKind::TaskQueue, "superseded", message))
            }
        }
    }

    fn claim(&self, task: TaskRef, pass: Pass, worker: ClaimedBy, reply: oneshot::Sender<Claimed>) {
        let request = ClaimRequest { command_no: task.command_no, attempt: task.attempt, worker, pass, reply };
        self.context.registry.post(task.run, Message::Claim(request));
    }

    async fn claim_all(&self, tasks: Vec<Taken>, worker: &ClaimedBy) -> Vec<Handed> {
        let answers = tasks.into_iter().map(|Taken { task, pass }| {
            let (reply, answer) = oneshot::channel();
            self.claim(task, pass, worker.clone(), reply);
            answer
        });
        let answers = join_all(answers).await;
        answers.into_iter().filter_map(|answer| answer.ok()?.ok()).map(Handed::Own).collect()
    }
}

/// Has a poll of this host take what another has.
async fn ask_peer(exchange: &Exchange, host: Arc<str>, poll: PeerPoll) -> Result<Vec<Handed>, Error> {
    match exchange.peers.poll(host, poll).await {
        Ok(tasks) => Ok(tasks.into_iter().map(Handed::Foreign).collect()),
        // The worker finds out what it was given: it registers anew, and says what it really has.
        Err(error @ PeerError::Broken(_)) => Err(Error::new(
            ErrorKind::Concurrency,
            "owner-lost",
            format!("{error}; register again, and say what you hold"),
        )),
        Err(error) => {
            tracing::debug!(%error, "a host had tasks and did not give them");
            Ok(Vec::new())
        }
    }
}

fn put_worker(
    store: &dyn WorkerStore,
    id: &Arc<str>,
    namespace: &Namespace,
    told: &Registration,
) -> Result<bool, Error> {
    let row = WorkerRow {
        id: id.clone(),
        namespace: namespace.clone(),
        identity: told.identity.as_str().into(),
        task_queues: told.task_queues.clone(),
        activities: told.activities.clone(),
        sdk: told.sdk.clone(),
        registered_at: Timestamp(0),
        last_seen: Timestamp(0),
        ended: None,
    };
    let holds: Option<Vec<u64>> = told.holds.as_ref().map(|holds| holds.iter().copied().collect());
    let replaces = told.replaces.as_deref().map(|id| Replaces { id, holds: holds.as_deref() });
    store.put_worker(&row, replaces, MAX_WORKERS).map_err(store_error)
}

fn too_many_workers() -> Error {
    let message = "there are too many workers in this namespace; let those that are not needed end";
    Error::new(ErrorKind::TaskQueue, "too-many-workers", message)
}

/// Tells the owners of attempts that their workers are gone.
pub(crate) fn give_back(context: &Context, lost: &[Lost]) {
    context.stats.attempts_given_back.fetch_add(lost.len() as u64, Ordering::Relaxed);
    for attempt in lost {
        let message = Message::WorkerLost { command_no: attempt.command_no, secret: attempt.secret };
        context.registry.post(attempt.run, message);
    }
}

/// Queues get their limits and a way out, before anybody asks them for anything. What is returned is to be kept until
/// the claims of before the start were found.
pub(crate) fn begin(context: &Arc<Context>) -> Result<Arc<Recovery>, Error> {
    context.remote.queues.attach(Arc::downgrade(context));
    read_limits(context).map_err(store_error)?;
    Ok(context.remote.queues.recovery())
}

/// Reads the queues' limits: at the start, and from time to time, for another host may have changed them.
pub(crate) fn read_limits(context: &Context) -> Result<(), StoreError> {
    let queues = &context.remote.queues;
    let as_of = queues.limits_changed();
    queues.set_all_limits(context.catalog.queues()?, as_of, context.clock.now());
    Ok(())
}

/// Finds workers that are lost, and gives back what they had.
pub(crate) fn reap(context: &Context) {
    let now = context.clock.now();
    if context.cluster.is_none() {
        for (worker, lost) in context.remote.workers.reap(now) {
            context.stats.workers_lost.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(worker, attempts = lost.len(), "a worker was not heard of any more; its attempts go back");
            give_back(context, &lost);
        }
    }
    context.remote.queues.sweep(now);
}

/// Follows the workers that hosts share: tells the store whom this host has heard of, and learns who has ended.
#[derive(Default)]
pub(crate) struct Following {
    /// Since when the store has been told without a failure: nobody is silent who could not be told of.
    well_since: Option<std::time::Instant>,
}

impl Following {
    pub fn look(&mut self, context: &Context) {
        let Some(cluster) = &context.cluster else { return };
        let (workers, store) = (&context.remote.workers, &*cluster.parts.workers);
        let (all, heard) = workers.known();
        match self.ask(context, store, &all, &heard) {
            Ok(lost) => give_back(context, &lost),
            Err(error) => {
                tracing::debug!(%error, "the store could not be asked about workers");
                workers.tell_again(&heard);
                self.well_since = None;
            }
        }
    }

    fn ask(
        &mut self,
        context: &Context,
        store: &dyn WorkerStore,
        all: &[Arc<str>],
        heard: &[Arc<str>],
    ) -> Result<Vec<Lost>, StoreError> {
        if !heard.is_empty() {
            store.workers_seen(heard)?;
        }
        let well_since = *self.well_since.get_or_insert_with(std::time::Instant::now);
        if well_since.elapsed() > SILENT {
            let lost = store.reap_workers(SILENT, Duration::from_nanos(SHOW_ENDED_NANOS))?;
            if lost > 0 {
                context.stats.workers_lost.fetch_add(lost, Ordering::Relaxed);
                tracing::warn!(workers = lost, "workers were not heard of any more; their attempts go back");
            }
        }
        let rows = if all.is_empty() { Vec::new() } else { store.workers_by_id(all)? };
        Ok(context.remote.workers.settle(all, &rows, context.clock.now()))
    }
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::Validation, "invalid-argument", message)
}

fn unknown_task() -> Error {
    Error::new(ErrorKind::TaskQueue, "unknown-task", "there is no such task in this namespace")
}

fn unknown_worker(id: &str) -> Error {
    let message =
        format!("there is no worker {id:?}: it was lost, has ended, or the host started anew; register again");
    Error::new(ErrorKind::TaskQueue, "unknown-worker", message)
}
