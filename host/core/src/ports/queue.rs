//! The ports through which hosts and workers tell each other of work: task queues, signals, and the event feed.
//!
//! All of it is hints. **No call here has a durability point that anything may rest on**: the rows of tasks in the store
//! are the truth, and a broker that was wiped costs a look at the store and nothing else. These calls wait for the
//! network without holding anything, so they give futures ([`ActivityRunner`](super::ActivityRunner) does, too).

use std::{fmt, sync::Arc, time::Duration};

use futures_util::{future::BoxFuture, stream::BoxStream};

use crate::{
    ids::{Namespace, RunId, RunKey, WorkflowId},
    json::Json,
    shard::Shard,
};

/// A task queue's full name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueName {
    pub namespace: Namespace,
    pub queue: Arc<str>,
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.queue)
    }
}

/// An attempt that is ready. A reference: what it is about stands in the task's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskMessage {
    pub queue: QueueName,
    pub run: RunKey,
    pub command_no: u64,
    /// From 1.
    pub attempt: u32,
    /// 0 for what the committing host sends, and one more each time that a sweep sends it again.
    pub republish: u32,
    /// The activity's name.
    pub activity: Arc<str>,
    pub correlation_id: Option<Arc<str>>,
    pub trace_id: Option<Arc<str>>,
}

impl TaskMessage {
    /// What duplicates are told by: the task, its attempt, and the republish number, without which a message that was
    /// lost could not be sent again before the broker forgot it.
    #[must_use]
    pub fn message_id(&self) -> String {
        format!("{}-{}:{}:{}", self.run.0, self.command_no, self.attempt, self.republish)
    }
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublishCount {
    /// Messages that the queue took.
    pub accepted: u64,
    /// Messages that it had already, by their ids.
    pub duplicates: u64,
}

/// The right to answer for a delivery, as the adapter made it. Good for this adapter's queues only.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Receipt(pub Arc<str>);

/// A message that was handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub task: TaskMessage,
    pub receipt: Receipt,
    /// How often this message was handed out, this time included.
    pub number: u32,
}

/// What a fetch brings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// To be looked at, and answered for within the queue's time for acknowledgements.
    pub ready: Vec<Delivery>,
    /// Messages that were handed out as often as they may be, and that nobody answered for: whoever had them died, or
    /// they kill. **Not to be run.** The caller records a failed attempt, and only then [`TaskQueue::term`]s: until it
    /// does, they come again.
    pub exhausted: Vec<Delivery>,
}

impl Fetched {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.exhausted.is_empty()
    }
}

/// What a queue holds, for operators and for a sweep: while `waiting` is not zero, nothing needs to be sent again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueDepth {
    /// Messages that nobody was handed yet.
    pub waiting: u64,
    /// Messages that were handed out and not answered for.
    pub unanswered: u64,
}

/// What kind of trouble a queue, a signal or a feed has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QueueErrorKind {
    /// The broker is not reached, or did not answer in time.
    Unavailable,
    /// The broker has no room for more.
    Full,
    /// The broker does not accept this host's credentials.
    Refused,
    /// The broker cannot keep messages: NATS without JetStream.
    NoStreaming,
    /// What stands on the broker is configured otherwise than this host needs it.
    Mismatch,
    /// The message or a setting cannot be sent as it is.
    Invalid,
}

impl QueueErrorKind {
    /// Whether another try may go well without anybody doing something about it.
    #[must_use]
    pub fn is_transient(self) -> bool {
        matches!(self, Self::Unavailable | Self::Full)
    }
}

/// Why a call did nothing, or nothing that is known of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct QueueError {
    pub kind: QueueErrorKind,
    pub message: String,
}

impl QueueError {
    #[must_use]
    pub fn new(kind: QueueErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

/// Task queues that hand out each message until somebody answers for it.
///
/// Errors are nobody's loss: the caller reports them and goes on. Nothing is tried again in here, but what an adapter
/// must make anew after its broker was wiped (streams, consumers). Who retries: of publishing, the owner's sweep, which
/// finds tasks that nobody took in the store; of fetching, whoever polls, after a pause if the error is transient. A
/// future that is dropped may have had its effect or not; messages that were on their way to a dropped fetch come again
/// as if their receiver had died.
pub trait TaskQueue: Send + Sync {
    /// Sends messages, of any queues. Ok: all of them are with the broker, or were before. On an error any of them may
    /// be; sending the batch again is safe, because duplicates are swallowed by [`TaskMessage::message_id`] for as long
    /// as the broker remembers (minutes).
    fn publish<'a>(&'a self, batch: &'a [TaskMessage]) -> BoxFuture<'a, Result<PublishCount, QueueError>>;

    /// Makes what the broker needs before anybody can fetch. Fetching does it by itself; a host calls this at its start
    /// to hear of trouble early.
    fn ensure_consumer<'a>(&'a self, queue: &'a QueueName) -> BoxFuture<'a, Result<(), QueueError>>;

    /// Takes up to `max` messages: those that are there, else waits for the first, `wait` at most. Nothing came: empty.
    /// Each message is handed to one caller at a time, over all hosts. An error comes as soon as the broker is lost.
    fn fetch<'a>(
        &'a self,
        queue: &'a QueueName,
        max: usize,
        wait: Duration,
    ) -> BoxFuture<'a, Result<Fetched, QueueError>>;

    /// Done with the message: it is deleted. Also for one whose task turned out to be taken or over. Ok for one that is
    /// gone already, and for one that was handed to somebody else meanwhile: they find the truth in the store.
    fn ack<'a>(&'a self, receipt: &'a Receipt) -> BoxFuture<'a, Result<(), QueueError>>;

    /// Not this caller, not now: it is handed out again after `delay`. It counts as handed out.
    fn nak<'a>(&'a self, receipt: &'a Receipt, delay: Duration) -> BoxFuture<'a, Result<(), QueueError>>;

    /// Still at it: the time for the acknowledgement begins anew.
    fn in_progress<'a>(&'a self, receipt: &'a Receipt) -> BoxFuture<'a, Result<(), QueueError>>;

    /// Never again: it is deleted without having been done.
    fn term<'a>(&'a self, receipt: &'a Receipt) -> BoxFuture<'a, Result<(), QueueError>>;

    /// What the queue holds right now. Zero of a queue that nobody ever used.
    fn depth<'a>(&'a self, queue: &'a QueueName) -> BoxFuture<'a, Result<QueueDepth, QueueError>>;
}

/// What a listener hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// Something happened in the shard: look.
    Happened(Shard),
    /// Signals may have been lost, because the broker was away or the listener too slow: look everywhere.
    Missed,
}

/// Nudges between hosts. At most once, to those who listen right now; whoever needs more looks at the store from time to
/// time.
pub trait Signals: Send + Sync {
    /// Tells all hosts that something happened in the shard; the sender hears it, too, if it listens. An error is to be
    /// reported and forgotten: the owner's polling finds what happened.
    fn notify(&self, shard: Shard) -> BoxFuture<'_, Result<(), QueueError>>;

    /// Everything from now on: what is sent after this returned is heard, or [`Signal::Missed`] is. The stream does not
    /// end while the adapter lives. Reading it seldom costs signals and never memory.
    fn subscribe(&self) -> BoxFuture<'_, Result<BoxStream<'static, Signal>, QueueError>>;
}

/// An event of a history on its way to other systems.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedEvent {
    pub namespace: Namespace,
    pub workflow: Arc<str>,
    pub workflow_id: WorkflowId,
    pub run: RunId,
    pub event_id: u64,
    /// The event's type, as the API names it.
    pub event_type: Arc<str>,
    /// The event, as the API shows it.
    pub body: Json,
    pub correlation_id: Option<Arc<str>>,
    pub trace_id: Option<Arc<str>>,
}

impl FeedEvent {
    /// What receivers tell duplicates by, for ever: the same event always has the same.
    #[must_use]
    pub fn message_id(&self) -> String {
        format!("{}:{}", self.run, self.event_id)
    }
}

/// Publishes events of histories for other systems, at least once.
pub trait EventFeed: Send + Sync {
    /// Publishes a batch. Ok: the broker acknowledged all of it, and the caller may forget the batch in its outbox. On
    /// an error any part may have been published: the caller publishes the same batch again, as often as it takes, and
    /// receivers see some events twice. Events of a run are published in their order if batches are.
    fn publish_events<'a>(&'a self, batch: &'a [FeedEvent]) -> BoxFuture<'a, Result<PublishCount, QueueError>>;
}
