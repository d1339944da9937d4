//! The worker: registers, polls while it has room, runs what it gets, beats, and goes in good order.

use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use parking_lot::RwLock;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    task::JoinSet,
};

use crate::{
    client::Client,
    failure::{Failure, WorkerError},
    report::{self, Held},
    task::Task,
    wire::{Answer, Poll, Polled, Register, Registered, TaskForm},
};

/// Polls at once: one waits while the tasks of another are on their way.
const POLLERS: usize = 2;
/// Requests with answers at once.
const REPORTERS: usize = 2;
/// Tasks that a poll takes at most.
const MOST_A_POLL: usize = 100;
/// Waits while the host cannot be reached, doubled from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// How long running activities have when the worker stops.
const GRACE: Duration = Duration::from_secs(30);
const DEFAULT_CONCURRENCY: usize = 100;
const SDK: &str = concat!("relive-worker-rust/", env!("CARGO_PKG_VERSION"));

type Outcome = Result<Box<RawValue>, Failure>;
type Activity = Arc<dyn Fn(Task) -> BoxFuture<'static, Outcome> + Send + Sync>;

/// Collects what a worker is.
pub struct Builder {
    server: String,
    namespace: String,
    task_queue: String,
    identity: String,
    concurrency: usize,
    ca: Option<PathBuf>,
    activities: HashMap<String, Activity>,
}

impl Builder {
    /// `default` if it is not said.
    #[must_use]
    pub fn namespace(mut self, namespace: &str) -> Self {
        namespace.clone_into(&mut self.namespace);
        self
    }

    /// `default` if it is not said.
    #[must_use]
    pub fn task_queue(mut self, task_queue: &str) -> Self {
        task_queue.clone_into(&mut self.task_queue);
        self
    }

    /// What operators see: machine and process if it is not said.
    #[must_use]
    pub fn identity(mut self, identity: &str) -> Self {
        identity.clone_into(&mut self.identity);
        self
    }

    /// A PEM file with authorities to trust beside the well-known ones, for a server with `https://`.
    #[must_use]
    pub fn ca(mut self, file: &Path) -> Self {
        self.ca = Some(file.to_owned());
        self
    }

    /// Attempts at once; 100 if it is not said.
    #[must_use]
    pub fn concurrency(mut self, attempts: usize) -> Self {
        self.concurrency = attempts.clamp(1, Semaphore::MAX_PERMITS);
        self
    }

    /// An activity with typed input and output. Input that does not fit is a permanent failure.
    #[must_use]
    pub fn activity<F, Fut, I, O>(self, name: &str, function: F) -> Self
    where
        F: Fn(Task, I) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<O, Failure>> + Send + 'static,
        I: DeserializeOwned + Send + 'static,
        O: Serialize + Send + 'static,
    {
        let function = Arc::new(function);
        self.raw(name, move |task| {
            let function = function.clone();
            async move {
                let input = serde_json::from_str(task.input().get())
                    .map_err(|e| Failure::new("decode-error", format!("the input: {e}")).permanent())?;
                let output = function(task, input).await?;
                serde_json::value::to_raw_value(&output)
                    .map_err(|e| Failure::new("encode-error", format!("the result: {e}")).permanent())
            }
        })
    }

    /// An activity that takes and gives JSON as it is.
    #[must_use]
    pub fn raw<F, Fut>(mut self, name: &str, function: F) -> Self
    where
        F: Fn(Task) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Outcome> + Send + 'static,
    {
        self.activities.insert(name.to_owned(), Arc::new(move |task| function(task).boxed()));
        self
    }

    pub fn build(self) -> Result<Worker, WorkerError> {
        let client = Client::trusting(&self.server, &self.namespace, self.ca.as_deref())?;
        Ok(Worker {
            client,
            told: self,
            id: RwLock::default(),
            in_doubt: AtomicBool::new(false),
            held: Arc::default(),
            registering: tokio::sync::Mutex::new(()),
        })
    }
}

/// A worker of one task queue. Made by [`Worker::builder`].
pub struct Worker {
    client: Client,
    told: Builder,
    /// What the host calls it; empty before it has registered.
    id: RwLock<Arc<str>>,
    /// A poll's answer may have been lost: what the host gave with it has to go back.
    in_doubt: AtomicBool,
    /// Tokens of the attempts that it has, until their answers are taken.
    held: Arc<Held>,
    registering: tokio::sync::Mutex<()>,
}

impl Worker {
    /// A worker for the host at `server`, such as `http://127.0.0.1:7474`, or for the hosts behind a NATS server,
    /// `nats://127.0.0.1:4222`.
    #[must_use]
    pub fn builder(server: &str) -> Builder {
        let name = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
        Builder {
            server: server.to_owned(),
            namespace: "default".to_owned(),
            task_queue: "default".to_owned(),
            identity: format!("{}:{}", name.trim(), std::process::id()),
            concurrency: DEFAULT_CONCURRENCY,
            ca: None,
            activities: HashMap::new(),
        }
    }

    /// Works until `shutdown` is ready; then what runs may end, for half a minute. A host that cannot be reached is
    /// waited for. An error is a refusal that waiting does not mend.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), WorkerError> {
        let worker = Arc::new(self);
        let (stop, stopping) = watch::channel(false);
        let (answers, sent) = reporters(&worker.client, &worker.held);
        let beating = tokio::spawn(worker.clone().beat());
        let slots = Arc::new(Semaphore::new(worker.told.concurrency));
        let mut pollers = JoinSet::new();
        for _ in 0..POLLERS {
            let (worker, slots, answers) = (worker.clone(), slots.clone(), answers.clone());
            let mut stopping = stopping.clone();
            pollers.spawn(async move {
                tokio::select! {
                    ended = worker.poll(slots, answers) => ended,
                    _ = stopping.wait_for(|stop| *stop) => Ok(()),
                }
            });
        }
        let mut shutdown = pin!(shutdown);
        let ended = tokio::select! {
            () = &mut shutdown => Ok(()),
            Some(ended) = pollers.join_next() => ended.unwrap_or(Ok(())),
        };
        stop.send_replace(true);
        pollers.shutdown().await;
        drop(answers);
        let running = u32::try_from(worker.told.concurrency).unwrap_or(u32::MAX);
        if tokio::time::timeout(GRACE, slots.acquire_many(running)).await.is_err() {
            tracing::warn!("activities that did not end in time go to other workers");
        }
        let _ = tokio::time::timeout(GRACE, futures_util::future::join_all(sent)).await;
        beating.abort();
        let id = worker.id.read().clone();
        if !id.is_empty()
            && let Err(error) = worker.client.delete(&["workers", &id]).await
        {
            tracing::debug!(%error, "failed to say good-bye");
        }
        ended
    }

    /// Polls and spawns until the host refuses for good.
    async fn poll(
        self: Arc<Self>,
        slots: Arc<Semaphore>,
        answers: mpsc::UnboundedSender<Answer>,
    ) -> Result<(), WorkerError> {
        let mut pause = FIRST_PAUSE;
        loop {
            // A slot, and a fair part of what is free beside it: what comes can begin at once.
            let Ok(mut held) = slots.clone().acquire_owned().await else { return Ok(()) };
            let beside = (slots.available_permits() / POLLERS).min(MOST_A_POLL - 1);
            if let Ok(more) = slots.clone().try_acquire_many_owned(u32::try_from(beside).unwrap_or(0)) {
                held.merge(more);
            }
            match self.poll_once(held.num_permits()).await {
                Ok(tasks) => {
                    pause = FIRST_PAUSE;
                    for form in tasks {
                        let Some(slot) = held.split(1) else { break };
                        self.spawn(form, slot, answers.clone());
                    }
                }
                Err(error) if error.code() == Some("unknown-worker") => self.register_anew().await,
                Err(error) if error.may_pass() => {
                    // A host that was asked on this one's behalf may have given tasks, too.
                    let cut = matches!(error, WorkerError::Connection(_)) || error.code() == Some("owner-lost");
                    let lost = cut && !self.id.read().is_empty();
                    self.in_doubt.fetch_or(lost, Ordering::AcqRel);
                    tracing::warn!(%error, "the host cannot be asked for tasks; trying again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LAST_PAUSE);
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn poll_once(&self, max_tasks: usize) -> Result<Vec<TaskForm>, WorkerError> {
        if self.in_doubt.swap(false, Ordering::AcqRel) {
            self.register_anew().await;
        }
        let worker_id = self.registered().await?;
        let activities = self.told.activities.keys().map(String::as_str).collect();
        let wait = self.client.longest_wait();
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let poll = Poll { worker_id: &worker_id, max_tasks, wait_ms, activities };
        let polled: Polled = self.client.post(&["task-queues", &self.told.task_queue, "poll"], &poll, wait).await?;
        Ok(polled.tasks)
    }

    /// Runs one attempt in a task of its own.
    fn spawn(&self, form: TaskForm, slot: OwnedSemaphorePermit, answers: mpsc::UnboundedSender<Answer>) {
        let activity = self.told.activities.get(&form.activity).cloned();
        self.held.lock().insert(form.token.clone());
        let held = self.held.clone();
        let task = Task::new(form, self.client.clone());
        tokio::spawn(async move {
            let token = task.token().to_owned();
            match attempt(activity, task).await {
                // Nobody receives once the worker has stopped: the host gives the attempt to another.
                Some(answer) => drop(answers.send(answer)),
                None => {
                    held.lock().remove(&token);
                }
            }
            drop(slot);
        });
    }

    /// The worker's id; registers if it has none.
    async fn registered(&self) -> Result<Arc<str>, WorkerError> {
        let id = self.id.read().clone();
        if !id.is_empty() {
            return Ok(id);
        }
        let _turn = self.registering.lock().await;
        let id = self.id.read().clone();
        if id.is_empty() { self.register(None).await } else { Ok(id) }
    }

    /// The host does not know the worker any more.
    async fn register_anew(&self) {
        let before = self.id.read().clone();
        let _turn = self.registering.lock().await;
        if *self.id.read() == before
            && let Err(error) = self.register(Some(&before)).await
        {
            tracing::warn!(%error, "failed to register again");
            tokio::time::sleep(FIRST_PAUSE).await;
        }
    }

    async fn register(&self, replaces: Option<&str>) -> Result<Arc<str>, WorkerError> {
        let told = &self.told;
        let register = Register {
            identity: &told.identity,
            task_queues: [&told.task_queue],
            activities: told.activities.keys().map(String::as_str).collect(),
            sdk: SDK,
            replaces,
            holds: replaces.map(|_| self.held.lock().iter().cloned().collect()),
        };
        let registered: Registered = self.client.post(&["workers"], &register, Duration::ZERO).await?;
        let id: Arc<str> = registered.worker_id.into();
        tracing::info!(worker = &*id, every_ms = registered.beat_every_ms, "registered");
        *self.id.write() = id.clone();
        Ok(id)
    }

    /// Lets the host hear of the worker also while it has no room to poll.
    async fn beat(self: Arc<Self>) {
        loop {
            tokio::time::sleep(BEAT).await;
            let id = self.id.read().clone();
            if id.is_empty() {
                continue;
            }
            let beaten = self.client.post(&["workers", &id, "beat"], &(), Duration::ZERO).await;
            match beaten.map(|_: serde::de::IgnoredAny| ()) {
                Err(error) if error.code() == Some("unknown-worker") => self.register_anew().await,
                Err(error) => tracing::debug!(%error, "a beat was not heard"),
                Ok(()) => {}
            }
        }
    }
}

/// Twice as often as the host asks for.
const BEAT: Duration = Duration::from_secs(15);

fn reporters(client: &Client, held: &Arc<Held>) -> (mpsc::UnboundedSender<Answer>, Vec<tokio::task::JoinHandle<()>>) {
    let (answers, mut all) = mpsc::unbounded_channel::<Answer>();
    let mut sent = Vec::new();
    let mut senders = Vec::new();
    for _ in 0..REPORTERS {
        let (sender, receiver) = mpsc::unbounded_channel();
        senders.push(sender);
        sent.push(tokio::spawn(report::send_all(client.clone(), receiver, held.clone())));
    }
    sent.push(tokio::spawn(async move {
        let mut next = 0;
        while let Some(answer) = all.recv().await {
            next = (next + 1) % REPORTERS;
            let _ = senders[next].send(answer);
        }
    }));
    (answers, sent)
}

/// One attempt, from its input to its answer. `None`: nobody waits for one.
async fn attempt(activity: Option<Activity>, task: Task) -> Option<Answer> {
    let token = task.token().to_owned();
    let outcome = match activity {
        None => {
            let message = format!("this worker has no activity {:?}", task.activity());
            Err(Failure::new("unknown-activity", message))
        }
        Some(activity) => {
            let running = AssertUnwindSafe(activity(task.clone())).catch_unwind();
            tokio::select! {
                outcome = running => outcome.unwrap_or_else(|panic| Err(panicked(&*panic))),
                () = task.gone() => return None,
            }
        }
    };
    Some(match outcome {
        Ok(result) => Answer { token, result: Some(result), failure: None, canceled: false },
        Err(failure) if failure.canceled => Answer { token, result: None, failure: None, canceled: true },
        Err(failure) => Answer { token, result: None, failure: Some(failure), canceled: false },
    })
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Failure {
    let text = panic.downcast_ref::<&str>().map(|t| (*t).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    Failure::new("panicked", text.unwrap_or_else(|| "the activity panicked".to_owned()))
}
