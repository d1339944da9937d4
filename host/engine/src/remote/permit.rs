//! Permits of task queues with limits, and the way out for what queues do unasked: serving polls that wait when a permit
//! or a token is free again.

use std::sync::{Arc, Weak};

use relive_core::Timestamp;

use super::{ClaimRequest, QueueName, Queues, TaskRef};
use crate::{context::Context, message::Message};

/// One attempt of a queue with limits that is on its way to a claim. It goes back when it is dropped, whatever became of
/// the attempt; what is claimed by then is counted as claimed.
pub(crate) struct Permit {
    queues: Arc<Queues>,
    name: QueueName,
}

impl Permit {
    /// The gate has let an attempt out.
    pub(super) fn new(queues: &Arc<Queues>, name: &QueueName) -> Self {
        Self { queues: queues.clone(), name: name.clone() }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.queues.give_back(&self.name);
    }
}

/// By which right an attempt is claimed.
pub(crate) enum Pass {
    /// Its queue had no limits when it was handed out.
    Free,
    Permit(#[expect(dead_code, reason = "it goes back when the pass is dropped")] Permit),
    /// It was learnt of elsewhere: its queue has yet to be asked.
    Wanted,
}

/// What queues do when nobody calls them.
pub(crate) trait Outlet: Send + Sync {
    fn now(&self) -> Timestamp;
    /// A poll that waited gets an attempt: its owner claims it.
    fn hand(&self, task: TaskRef, request: ClaimRequest);
    /// The queue's gate is to be looked at then.
    fn look(&self, at: Timestamp, name: &QueueName);
}

impl Outlet for Weak<Context> {
    fn now(&self) -> Timestamp {
        self.upgrade().map_or(Timestamp(0), |context| context.clock.now())
    }

    fn hand(&self, task: TaskRef, request: ClaimRequest) {
        if let Some(context) = self.upgrade() {
            context.registry.post(task.run, Message::Claim(request));
        }
    }

    fn look(&self, at: Timestamp, name: &QueueName) {
        if let Some(context) = self.upgrade() {
            context.timers.gate(at, name.clone());
        }
    }
}

/// A host that has yet to find the claims of before its start. Gates that count claims are shut until the last of these
/// is dropped: the walk has one, and each owner whose claims it found until it has noted them.
pub(crate) struct Recovery(pub(super) Arc<Queues>);

impl Drop for Recovery {
    fn drop(&mut self) {
        self.0.recovered();
    }
}
