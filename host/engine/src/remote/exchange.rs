//! Tasks of other hosts for the polls that wait here. An owner that finds no poll of its own for a task tells the broker;
//! a host with polls that wait hears of it there, and has them ask the owner. The broker carries hints and nothing else:
//! the scout asks the other hosts from time to time what waits in their queues, seldom where there is a broker, often
//! where there is none, so a broker that was wiped costs a few seconds (ADR 019).
//!
//! ```text
//! owner: queued, no poll --announce--> broker --fetch--> a host with polls --Elsewhere--> its poll --HTTP--> owner: take
//!                        <-------------------- scout: what waits? -------
//! ```

use std::{
    collections::{BTreeSet, HashSet},
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use futures_util::{
    StreamExt,
    future::{BoxFuture, join_all},
};
use parking_lot::Mutex;
use relive_core::{
    Namespace, Shard,
    ports::{self, Delivery, Fetched, QueueError, Signals, TaskMessage, TaskQueue},
};
use serde_json::value::RawValue;
use tokio::{runtime::Handle, sync::mpsc};

use super::{QueueName, QueueView, TaskRef};
use crate::{Place, cluster::Cluster, context::Context};

/// Tasks that wait to be announced. What does not fit is found by the scouts of others.
const ANNOUNCING: usize = 10_000;
/// Tasks of one message to the broker.
const BATCH: usize = 500;
/// A queue with more than this waiting is known to have work: more announcements would only fill the broker.
const ANNOUNCED_BACKLOG: u64 = 1_000;
/// How long a fetch waits; afterwards it is looked whether anybody still does.
const FETCH_WAIT: Duration = Duration::from_secs(2);
/// Messages of one fetch.
const MOST_A_FETCH: usize = 100;
/// Between two tries while the broker is away.
const PAUSE: Duration = Duration::from_secs(1);
/// A message whose activity nobody here takes is offered to others after this.
const NOT_MINE: Duration = Duration::from_millis(500);
/// How often other hosts are asked what waits, while polls wait here: without a broker, and beside one.
const SCOUT: Duration = Duration::from_millis(500);
const SCOUT_BESIDE_BROKER: Duration = Duration::from_secs(3);
/// How long another host may take to say what waits.
const SCOUT_PATIENCE: Duration = Duration::from_secs(2);

/// Why another host did not help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// Nothing was done.
    #[error("the host at {0} takes no requests")]
    Unreached(Arc<str>),
    /// It may have given tasks that never arrived.
    #[error("the host at {0} was lost in the middle of a request")]
    Broken(Arc<str>),
    /// It refused.
    #[error("{0}")]
    Refused(String),
}

/// A poll on its way to another host.
#[derive(Clone, Debug)]
pub struct PeerPoll {
    pub namespace: Namespace,
    pub task_queue: Arc<str>,
    pub worker: Arc<str>,
    pub activities: Option<Arc<[String]>>,
    pub max_tasks: usize,
}

/// The other hosts, by their addresses.
pub trait Peers: Send + Sync {
    /// What waits in another host's memory. Reads only.
    fn queues(&self, address: Arc<str>, namespace: Namespace) -> BoxFuture<'static, Result<Vec<QueueView>, PeerError>>;

    /// Takes tasks that another host owns, without waiting: each as that host's API tells it to a worker, whose it is when
    /// this returns.
    fn poll(&self, address: Arc<str>, poll: PeerPoll) -> BoxFuture<'static, Result<Vec<Box<RawValue>>, PeerError>>;
}

pub(crate) struct Exchange {
    pub peers: Arc<dyn Peers>,
    signals: Option<Arc<dyn Signals>>,
    broker: Option<Arc<dyn TaskQueue>>,
    announcing: mpsc::Sender<TaskMessage>,
    /// Queues that somebody fetches for.
    fetched: Mutex<HashSet<QueueName>>,
    runtime: Handle,
}

/// Reports trouble once, and its end.
#[derive(Default)]
struct Trouble(bool);

impl Trouble {
    fn tell(&mut self, what: &str, outcome: Result<(), &QueueError>) {
        match outcome {
            Ok(()) => {
                if std::mem::take(&mut self.0) {
                    tracing::info!(what, "the broker is there again");
                }
            }
            Err(error) if !self.0 => {
                tracing::warn!(%error, what, "the broker is in trouble; hosts ask each other meanwhile");
                self.0 = true;
            }
            Err(_) => {}
        }
    }
}

impl Exchange {
    pub fn new(
        peers: Arc<dyn Peers>,
        broker: Option<Arc<dyn TaskQueue>>,
        signals: Option<Arc<dyn Signals>>,
        runtime: Handle,
    ) -> Self {
        let (announcing, messages) = mpsc::channel(ANNOUNCING);
        if let Some(broker) = broker.clone() {
            runtime.spawn(announce(broker, messages));
        }
        Self { peers, signals, broker, announcing, fetched: Mutex::default(), runtime }
    }

    /// Begins to ask other hosts what waits.
    pub fn start(context: &Arc<Context>) {
        if let Some(exchange) = &context.exchange {
            exchange.runtime.spawn(scout(Arc::downgrade(context)));
            if let Some(signals) = exchange.signals.clone() {
                exchange.runtime.spawn(heed(Arc::downgrade(context), signals));
            }
        }
    }

    /// Shards are free: whoever wants them may look.
    pub fn nudge(&self, shard: Shard) {
        let Some(signals) = self.signals.clone() else { return };
        self.runtime.spawn(async move {
            if let Err(error) = signals.notify(shard).await {
                tracing::debug!(%error, "the other hosts look with their next beat");
            }
        });
    }

    /// A task waits in its owner's queue, and no poll of the owner's host takes it.
    pub fn announce(&self, message: TaskMessage, backlog: u64) {
        if self.broker.is_some() && backlog <= ANNOUNCED_BACKLOG {
            // What does not fit, the scouts find.
            let _ = self.announcing.try_send(message);
        }
    }

    /// A poll waits at this queue: hears of what other hosts have for it.
    pub fn listen(&self, context: &Arc<Context>, name: &QueueName) {
        let Some(broker) = &self.broker else { return };
        if self.fetched.lock().insert(name.clone()) {
            self.runtime.spawn(fetch(Arc::downgrade(context), broker.clone(), name.clone()));
        }
    }

    /// Nobody fetches for the queue any more, unless somebody has come to wait.
    fn leave(&self, context: &Context, name: &QueueName) -> bool {
        let mut fetched = self.fetched.lock();
        let over = context.remote.queues.waiting(name) == 0;
        if over {
            fetched.remove(name);
        }
        over
    }
}

/// Looks around whenever another host says that something happened.
async fn heed(context: Weak<Context>, signals: Arc<dyn Signals>) {
    loop {
        match signals.subscribe().await {
            Ok(mut heard) => {
                while heard.next().await.is_some() {
                    let Some(context) = context.upgrade() else { return };
                    if context.stopping.load(Ordering::Acquire) {
                        return;
                    }
                    context.cluster.iter().for_each(|cluster| cluster.poke());
                }
            }
            Err(error) => tracing::debug!(%error, "other hosts are not heard; beats go on"),
        }
        if context.upgrade().is_none_or(|context| context.stopping.load(Ordering::Acquire)) {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Tells the broker of tasks, as many at once as there are.
async fn announce(broker: Arc<dyn TaskQueue>, mut messages: mpsc::Receiver<TaskMessage>) {
    let mut batch = Vec::with_capacity(BATCH);
    let mut trouble = Trouble::default();
    while messages.recv_many(&mut batch, BATCH).await > 0 {
        let published = broker.publish(&batch).await;
        trouble.tell("announcing tasks", published.as_ref().map(|_| ()));
        batch.clear();
    }
}

/// Fetches for as long as polls wait at the queue.
async fn fetch(context: Weak<Context>, broker: Arc<dyn TaskQueue>, name: QueueName) {
    let queue = ports::QueueName { namespace: name.0.clone(), queue: name.1.clone() };
    let mut trouble = Trouble::default();
    loop {
        let waiting = {
            let Some(context) = context.upgrade() else { return };
            let Some(exchange) = &context.exchange else { return };
            if context.stopping.load(Ordering::Acquire) || exchange.leave(&context, &name) {
                return;
            }
            context.remote.queues.waiting(&name)
        };
        let fetched = broker.fetch(&queue, waiting.clamp(1, MOST_A_FETCH), FETCH_WAIT).await;
        trouble.tell("fetching tasks", fetched.as_ref().map(|_| ()));
        match (fetched, context.upgrade()) {
            (Ok(fetched), Some(context)) => hand_on(&context, &*broker, &name, fetched).await,
            (Ok(_), None) => return,
            (Err(_), _) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// What became of a message.
enum Heard {
    /// Somebody asks the owner, or there is nothing to ask for.
    Done,
    /// Nobody here takes it.
    NotMine,
}

async fn hand_on(context: &Context, broker: &dyn TaskQueue, name: &QueueName, fetched: Fetched) {
    let answers = fetched.ready.iter().map(|delivery| async {
        match hear(context, name, delivery) {
            Heard::Done => broker.ack(&delivery.receipt).await,
            Heard::NotMine => broker.nak(&delivery.receipt, NOT_MINE).await,
        }
    });
    // Nobody took these for as often as a message is handed out. Nothing was run for it: a claim would stand in the store.
    let given_up = fetched.exhausted.iter().map(|delivery| broker.term(&delivery.receipt));
    let (answered, ended) = tokio::join!(join_all(answers), join_all(given_up));
    for error in answered.into_iter().chain(ended).filter_map(Result::err) {
        tracing::debug!(%error, "a message was not answered for; it comes again");
    }
}

fn hear(context: &Context, name: &QueueName, delivery: &Delivery) -> Heard {
    let Some(cluster) = &context.cluster else { return Heard::Done };
    let run = delivery.task.run;
    if context.ownership.epoch_of(run).is_some() {
        // It waits in this host's own queue, and was given to a poll if one wants it.
        return Heard::Done;
    }
    match cluster.other_owner(run.shard()) {
        Place::At(address) if context.remote.queues.point(name, &delivery.task.activity, &address) => Heard::Done,
        Place::At(_) => Heard::NotMine,
        // It has no owner right now. Whoever takes the run up announces it again.
        Place::Here | Place::Nobody => Heard::Done,
    }
}

/// Asks the other hosts what waits, for as long as polls wait here.
async fn scout(context: Weak<Context>) {
    loop {
        let period = {
            let Some(context) = context.upgrade() else { return };
            if context.stopping.load(Ordering::Acquire) {
                return;
            }
            if let (Some(exchange), Some(cluster)) = (&context.exchange, &context.cluster) {
                look(&context, exchange, cluster).await;
            }
            let beside = context.exchange.as_ref().is_some_and(|exchange| exchange.broker.is_some());
            if beside { SCOUT_BESIDE_BROKER } else { SCOUT }
        };
        tokio::time::sleep(period).await;
    }
}

async fn look(context: &Context, exchange: &Exchange, cluster: &Cluster) {
    let waiting = context.remote.queues.all_waiting();
    let namespaces: BTreeSet<Namespace> = waiting.iter().map(|name| name.0.clone()).collect();
    let hosts = cluster.others();
    let asked = namespaces.iter().flat_map(|namespace| hosts.iter().map(move |address| (namespace, address)));
    let answers = asked.map(|(namespace, address)| async move {
        let views = exchange.peers.queues(address.clone(), namespace.clone());
        (namespace, address, tokio::time::timeout(SCOUT_PATIENCE, views).await)
    });
    for (namespace, address, views) in join_all(answers).await {
        let views = match views {
            Ok(Ok(views)) => views,
            Ok(Err(error)) => {
                tracing::debug!(%error, "a host did not say what waits there");
                continue;
            }
            Err(_) => continue,
        };
        for view in views.into_iter().filter(|view| view.backlog > 0 && view.held_back.is_none()) {
            let name = (namespace.clone(), Arc::from(view.name.as_str()));
            for (activity, ready) in &view.activities {
                let polls = (0..*ready).take_while(|_| context.remote.queues.point(&name, activity, address));
                polls.for_each(drop);
            }
        }
    }
}

/// What the broker is told of an attempt.
pub(crate) fn message(
    name: &QueueName,
    task: TaskRef,
    activity: &Arc<str>,
    (correlation_id, trace_id): (Option<Arc<str>>, Option<Arc<str>>),
) -> TaskMessage {
    TaskMessage {
        queue: ports::QueueName { namespace: name.0.clone(), queue: name.1.clone() },
        run: task.run,
        command_no: task.command_no,
        attempt: task.attempt,
        republish: 0,
        activity: activity.clone(),
        correlation_id,
        trace_id,
    }
}
