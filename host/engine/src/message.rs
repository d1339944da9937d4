//! What an execution's owner can be told: a closed set.

use std::sync::Arc;

use relive_core::{
    Error, Json, Timestamp,
    event::{EventBody, TimeoutType},
    failure::Failure,
    options::ActivityOptions,
    ports::{AppendError, AppendItem, Appended, NewExecution, StoredImage, VersionRow},
};
use tokio::sync::oneshot;

use crate::{
    loader::Loaded,
    owner::{Beaten, Decision, Reported},
    reconcile::Reconciled,
    remote::{Beat, ClaimRequest, Recovery},
};

/// Where the answer goes once the commit is durable.
pub(crate) type Reply = oneshot::Sender<Result<(), Error>>;

/// Where a heartbeat's answer goes.
pub(crate) type BeatReply = oneshot::Sender<Result<Beat, Error>>;

/// What is acknowledged with the next commit, or at once if there is nothing to commit.
pub(crate) enum Ack {
    Report(Reply),
    Beat(BeatReply, Beat),
}

impl Ack {
    pub fn answer(self, result: Result<(), Error>) {
        match self {
            Self::Report(reply) => drop(reply.send(result)),
            Self::Beat(reply, beat) => drop(reply.send(result.map(|()| beat))),
        }
    }
}

/// An inbound event that is not committed yet.
pub(crate) struct Incoming {
    pub body: EventBody,
    /// The event's time is not before this (a timer's deadline).
    pub not_before: Timestamp,
    pub reply: Option<Reply>,
    /// Others who sent the same, and hear the same of it.
    pub again: Vec<Reply>,
}

impl Incoming {
    pub fn new(body: EventBody) -> Self {
        Self { body, not_before: Timestamp(0), reply: None, again: Vec::new() }
    }

    pub fn answer(self, result: Result<(), Error>) {
        for reply in self.reply.into_iter().chain(self.again) {
            let _ = reply.send(result.clone());
        }
    }

    /// Tells whoever waits for it what is known so far; it goes on.
    pub fn tell(&mut self, error: &Error) {
        for reply in self.reply.take().into_iter().chain(std::mem::take(&mut self.again)) {
            let _ = reply.send(Err(error.clone()));
        }
    }

    /// Tells whoever waits for it that it cannot be now. What came from outside is theirs to send again; what the owner
    /// decided, also because a worker answered, stays and is tried again: the task counts as resolved already.
    pub fn refused(mut self, error: &Error) -> Option<Self> {
        let outside = self.reply.is_some() && !self.body.event_type().is_resolution();
        self.tell(error);
        (!outside).then_some(self)
    }
}

/// Why an attempt did not give a result.
#[derive(Clone, Debug)]
pub(crate) enum AttemptError {
    Failed(Failure),
    /// Whoever had it is lost: it was not answered.
    Lost(Failure),
    TimedOut(TimeoutType),
    /// It was asked to stop (cancellation type `wait`).
    Canceled,
}

/// What operators do to an activity that is not resolved.
#[derive(Clone, Debug)]
pub enum TaskChange {
    /// No attempt begins any more; one that runs may end.
    Pause,
    Resume,
    /// Begins anew: the next attempt is the first one, at once. What the heartbeats told is kept, if it is wished.
    Reset {
        keep_details: bool,
    },
    /// Other options, in place of those that the guest gave.
    Update(ActivityOptions),
}

/// What operators ask for.
pub(crate) enum Control {
    Terminate {
        reason: String,
        reply: Reply,
    },
    Unblock {
        reason: String,
        reply: Reply,
    },
    Task {
        command_no: u64,
        change: TaskChange,
        note: String,
        reply: Reply,
    },
    /// Go on on another version, if it agrees with the history.
    Migrate {
        to: Box<MigrateTo>,
        reply: Reply,
    },
}

/// Where a run is to go on.
pub(crate) struct MigrateTo {
    pub version: VersionRow,
    pub author: Option<Arc<str>>,
    pub reason: String,
}

impl Message {
    /// Whether it can be taken without the row, or reads it itself.
    pub fn needs_no_row(&self) -> bool {
        matches!(
            self,
            Self::Start { .. }
                | Self::Appended(..)
                | Self::Loaded(_)
                | Self::Evict
                | Self::Flush(_)
                | Self::Capture(_)
                // It sees what the queues had before the row came, and reads it itself.
                | Self::Reconcile { .. }
        )
    }

    /// Whether the guest is woken for it, most likely.
    pub fn needs_guest(&self) -> bool {
        !matches!(
            self,
            Self::Claim(_)
                | Self::Beat(_)
                | Self::WorkerLost { .. }
                | Self::Alarm { .. }
                | Self::Accepted { .. }
                | Self::Recover(_)
                | Self::Retry
        )
    }

    /// Whether an owner that never got it lacks something. Who waits for an answer asks again.
    pub fn is_missed(&self) -> bool {
        match self {
            Self::Timer { .. }
            | Self::Attempt { .. }
            | Self::Accepted { .. }
            | Self::Claim(_)
            | Self::WorkerLost { .. }
            | Self::Alarm { .. }
            | Self::Appended(..)
            | Self::Loaded(_)
            | Self::Retry => true,
            Self::Inbound(incoming) => incoming.reply.is_none(),
            Self::Start { .. }
            | Self::Report(_)
            | Self::Beat(_)
            | Self::Reconcile { .. }
            | Self::Control(_)
            | Self::Decided(_)
            | Self::Wake
            | Self::Recover(_)
            | Self::Capture(_)
            | Self::Evict
            | Self::Flush(_) => false,
        }
    }

    /// Tells whoever waits for it that this host does not do it.
    pub fn refuse(self, error: &Error) {
        match self {
            Self::Start { reply, .. } => drop(reply.send(Err(error.clone()))),
            Self::Inbound(incoming) => incoming.answer(Err(error.clone())),
            Self::Report(reported) => drop(reported.reply.send(Err(error.clone()))),
            Self::Beat(beaten) => drop(beaten.reply.send(Err(error.clone()))),
            Self::Control(
                Control::Terminate { reply, .. }
                | Control::Unblock { reply, .. }
                | Control::Task { reply, .. }
                | Control::Migrate { reply, .. },
            ) => drop(reply.send(Err(error.clone()))),
            Self::Decided(decision) => drop(decision.reply.send(Err(error.clone()))),
            Self::Flush(done) => done.add_permits(1),
            // Whoever waits for these sees the sender go; the others wait for nothing.
            Self::Claim(_)
            | Self::Capture(_)
            | Self::Timer { .. }
            | Self::Attempt { .. }
            | Self::Accepted { .. }
            | Self::Reconcile { .. }
            | Self::WorkerLost { .. }
            | Self::Alarm { .. }
            | Self::Appended(..)
            | Self::Loaded(_)
            | Self::Wake
            | Self::Recover(_)
            | Self::Retry
            | Self::Evict => {}
        }
    }
}

pub(crate) enum Message {
    /// The first message of a run that is to be made.
    Start {
        new: Box<NewExecution>,
        start: Box<EventBody>,
        reply: Reply,
    },
    /// A message or a cancel request from outside.
    Inbound(Box<Incoming>),
    /// A timer is due.
    Timer {
        command_no: u64,
        deadline: Timestamp,
    },
    /// An attempt ended.
    Attempt {
        command_no: u64,
        attempt: u32,
        result: Result<Json, AttemptError>,
    },
    /// An attempt's call ended, and its answer comes later from elsewhere. `by` took it on.
    Accepted {
        command_no: u64,
        attempt: u32,
        by: Arc<str>,
    },
    /// A worker wants an attempt.
    Claim(ClaimRequest),
    /// A worker answers for an attempt.
    Report(Box<Reported>),
    /// A worker is at it still.
    Beat(Box<Beaten>),
    /// The worker that had an attempt is gone.
    WorkerLost {
        command_no: u64,
        secret: u64,
    },
    /// Something about a task is due.
    Alarm {
        command_no: u64,
    },
    /// The queue and the store may disagree about a task: puts that right, and tells what it did.
    Reconcile {
        command_no: u64,
        answer: crossbeam_channel::Sender<Reconciled>,
    },
    Control(Control),
    /// An operator decided about an exhausted activity.
    Decided(Box<Decision>),
    /// The committer's answer to the item in flight, with the item.
    Appended(Box<AppendItem>, Result<Appended, AppendError>),
    /// The loader's answer: the row and what wakes the guest.
    Loaded(Box<Loaded>),
    /// Look whether there is something to do.
    Wake,
    /// A host that recovers found claims: they count once the owner has noted them.
    Recover(Arc<Recovery>),
    /// Try again what the store could not do.
    Retry,
    /// Take a memory image of the guest, if it waits.
    Capture(crossbeam_channel::Sender<Option<StoredImage>>),
    /// Make room: let the live guest go.
    Evict,
    /// The host stops: commit what rides along.
    Flush(Arc<tokio::sync::Semaphore>),
}
