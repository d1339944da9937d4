//! Workers and the queues that they take tasks from: registering, polling, beating, going.

use std::{sync::Arc, sync::atomic::Ordering, time::Duration};

use futures_util::future::join_all;
use relive_core::{
    Error, ErrorKind, Namespace,
    ids::check_id,
    ports::{QueueLimits, QueueRow, StoreError},
};
use tokio::{sync::oneshot, time::Instant};

use super::lookup::store_error;
use crate::{
    context::Context,
    engine::Engine,
    message::Message,
    remote::{
        ClaimRequest, ClaimedBy, ClaimedTask, Lost, NotClaimed, Pass, Poller, QueueView, Recovery, Registration, Taken,
        TaskRef, TaskToken, WorkerView,
    },
    requests::{PollRequest, RegisterRequest},
};

/// The longest that a poll waits: proxies cut off what is silent for longer.
pub const MAX_POLL: Duration = Duration::from_secs(60);
/// Tasks that one poll may take.
pub const MAX_TASKS_A_POLL: usize = 100;
/// Names of queues and activities that a worker may give.
const MAX_NAMES: usize = 1_000;

type Claimed = Result<Box<ClaimedTask>, NotClaimed>;

impl Engine {
    /// Makes a worker known. What it had under the id that it replaces is its own again.
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
        let (workers, now) = (&self.context.remote.workers, self.context.clock.now());
        let (id, never_got) = workers.register(namespace, told, now).ok_or_else(|| {
            let message = "there are too many workers in this namespace; let those that are not needed end";
            Error::new(ErrorKind::TaskQueue, "too-many-workers", message)
        })?;
        give_back(&self.context, &never_got);
        let view = workers.views(namespace).into_iter().find(|w| w.id == *id);
        view.ok_or_else(|| unknown_worker(&id))
    }

    /// The worker is there.
    pub fn beat_worker(&self, namespace: &Namespace, id: &str) -> Result<(), Error> {
        let now = self.context.clock.now();
        self.context.remote.workers.seen(namespace, id, false, now).map(|_| ()).ok_or_else(|| unknown_worker(id))
    }

    /// The worker stops: what it has goes back at once.
    pub fn end_worker(&self, namespace: &Namespace, id: &str) -> Result<(), Error> {
        let context = &self.context;
        let lost = context.remote.workers.end(namespace, id, context.clock.now()).ok_or_else(|| unknown_worker(id))?;
        give_back(context, &lost);
        Ok(())
    }

    /// The workers of a namespace, the newest first.
    #[must_use]
    pub fn workers(&self, namespace: &Namespace) -> Vec<WorkerView> {
        self.context.remote.workers.views(namespace)
    }

    /// The task queues of a namespace that have been used lately.
    #[must_use]
    pub fn task_queues(&self, namespace: &Namespace) -> Vec<QueueView> {
        self.context.remote.queues.views(namespace, self.context.clock.now())
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

    /// Takes tasks for a worker: those that are ready, else the first that becomes ready while the poll waits. Each is
    /// the worker's when this returns.
    pub async fn poll(&self, request: PollRequest) -> Result<Vec<ClaimedTask>, Error> {
        self.accepting()?;
        let context = &self.context;
        check_id(&request.task_queue, "task queue").map_err(|e| invalid(e.to_string()))?;
        if request.activities.as_ref().is_some_and(|names| names.len() > MAX_NAMES) {
            return Err(invalid(format!("a poll may name {MAX_NAMES} activities; this one names more")));
        }
        let seen = || context.remote.workers.seen(&request.namespace, &request.worker, true, context.clock.now());
        let worker = seen().ok_or_else(|| unknown_worker(&request.worker))?;
        let name = (request.namespace.clone(), Arc::from(request.task_queue.as_str()));
        let activities: Option<Arc<[String]>> = request.activities.as_deref().map(Arc::from);
        let max = request.max_tasks.clamp(1, MAX_TASKS_A_POLL);
        let until = Instant::now() + request.wait.min(MAX_POLL);
        let take = |max| context.remote.queues.take(&name, activities.as_deref(), max, context.clock.now());
        let mut tasks = self.claim_all(take(max), &worker).await;
        while tasks.is_empty() && !context.draining.load(Ordering::Acquire) && !context.stopping.load(Ordering::Acquire)
        {
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
            let Ok(answered) = tokio::time::timeout_at(until, &mut answer).await else {
                drop(waiting);
                // An owner may have taken this poll in the last moment.
                tasks.extend(answer.try_recv().ok().and_then(Result::ok).map(|task| *task));
                break;
            };
            if let Ok(Ok(task)) = answered {
                tasks.push(*task);
                tasks.extend(self.claim_all(take(max - 1), &worker).await);
            }
        }
        seen();
        Ok(tasks)
    }

    /// Claims one attempt that the worker learnt of elsewhere, for example from a broker.
    pub async fn claim_task(&self, namespace: &Namespace, worker: &str, task: &str) -> Result<ClaimedTask, Error> {
        self.accepting()?;
        let now = self.context.clock.now();
        let unknown = || unknown_worker(worker);
        let worker = self.context.remote.workers.seen(namespace, worker, true, now).ok_or_else(unknown)?;
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

    async fn claim_all(&self, tasks: Vec<Taken>, worker: &ClaimedBy) -> Vec<ClaimedTask> {
        let answers = tasks.into_iter().map(|Taken { task, pass }| {
            let (reply, answer) = oneshot::channel();
            self.claim(task, pass, worker.clone(), reply);
            answer
        });
        let answers = join_all(answers).await;
        answers.into_iter().filter_map(|answer| answer.ok()?.ok()).map(|task| *task).collect()
    }
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
    for (worker, lost) in context.remote.workers.reap(now) {
        context.stats.workers_lost.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(worker, attempts = lost.len(), "a worker was not heard of any more; its attempts go back");
        give_back(context, &lost);
    }
    context.remote.queues.sweep(now);
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
