//! Tasks that workers take: which are ready and who waits for one, which workers there are, and the tokens by which
//! they answer. All of it is in memory and follows from the store's rows: tasks are put here by their owners, and what
//! a claim or an answer means is decided by the owner (`owner/remote.rs`).
//!
//! ```text
//! owner: task due -> queues: ready --poll, gate--> Claim -> owner: claim committed -> worker -> Report -> owner
//! ```

mod exchange;
mod gate;
mod permit;
mod queues;
mod token;
mod workers;

use std::sync::Arc;

use relive_core::{ExecutionKey, Json, RunKey, Timestamp, options::ActivityOptions, trace::TraceParent};
use serde_json::value::RawValue;
use tokio::sync::oneshot;

pub(crate) use exchange::{Exchange, message};
pub use exchange::{PeerError, PeerPoll, Peers};
pub use gate::HeldBack;
pub(crate) use permit::{Pass, Recovery};
pub use queues::QueueView;
pub(crate) use queues::{Offered, Poller, QueueName, Queues, Taken};
pub(crate) use token::NoToken;
pub use token::TaskToken;
pub(crate) use workers::{BEAT_EVERY_NANOS, Lost, MAX_WORKERS, MISSED, Registration, SHOW_ENDED_NANOS, Workers};
pub use workers::{WorkerState, WorkerView};

/// The queue of activities that name none.
pub const DEFAULT_QUEUE: &str = "default";

/// An attempt of a task, as queues know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TaskRef {
    pub run: RunKey,
    pub command_no: u64,
    pub attempt: u32,
}

impl TaskRef {
    /// Reads `run-command-attempt` in hexadecimal, the part of a token that is no secret.
    pub fn parse(text: &str) -> Option<Self> {
        format!("{text}-0").parse().ok().map(|token: TaskToken| token.task)
    }
}

/// A worker's wish for an attempt; the answer comes once the claim is durable.
pub(crate) struct ClaimRequest {
    pub command_no: u64,
    pub attempt: u32,
    pub worker: ClaimedBy,
    /// Goes back with the request, once the claim is counted or refused.
    pub pass: Pass,
    pub reply: oneshot::Sender<Result<Box<ClaimedTask>, NotClaimed>>,
}

/// Who claims.
#[derive(Clone, Debug)]
pub(crate) struct ClaimedBy {
    pub id: Arc<str>,
    /// What it calls itself.
    pub identity: Arc<str>,
}

/// Why an attempt cannot be claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotClaimed {
    /// A worker has it.
    Busy,
    /// Another attempt is due, or none: resolved, given up, paused, the host's own.
    Superseded,
    /// Its queue lets nothing out now.
    Limited,
    /// Another host has tasks for the poll: it is to ask there.
    Elsewhere(Arc<str>),
}

/// An attempt that a worker has, with everything that it needs to know.
#[derive(Clone, Debug)]
pub struct ClaimedTask {
    /// By which the worker answers.
    pub token: TaskToken,
    pub execution: ExecutionKey,
    pub workflow: Arc<str>,
    pub command_no: u64,
    /// From 1.
    pub attempt: u32,
    pub activity: Arc<str>,
    pub task_queue: Arc<str>,
    pub input: Json,
    pub correlation_id: Option<Arc<str>>,
    /// The attempt's own span, for whom it calls.
    pub trace: TraceParent,
    pub options: Arc<ActivityOptions>,
    pub scheduled_at: Timestamp,
    pub started_at: Timestamp,
    /// What the latest heartbeat of an attempt before told.
    pub details: Option<Json>,
}

/// A task that a poll brings.
#[derive(Clone, Debug)]
pub enum Handed {
    /// Of an execution that this host owns.
    Own(Box<ClaimedTask>),
    /// Of another host's, as that one's API tells it to the worker.
    Foreign(Box<RawValue>),
}

/// What a heartbeat is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beat {
    /// The worker should stop, and say so.
    pub cancel_requested: bool,
    /// Nobody waits for the attempt's answer any more: the activity is resolved, given up, or tried again.
    pub gone: bool,
}

/// A worker's answer for an attempt.
#[derive(Clone, Debug)]
pub enum Report {
    Completed(Json),
    Failed(relive_core::Failure),
    /// It stopped because it was asked to.
    Canceled,
}
