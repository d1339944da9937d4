//! Attempts that the host began itself and that somebody else answers: a receiver of an http activity takes the task on
//! and says so, or answers by the task's token before it has. What was taken on stands in the task's row like a
//! worker's claim that was let go of: it outlives the host, and its deadlines count from when the attempt began.

use std::sync::Arc;

use relive_core::{
    event::{EventBody, TaskStarted},
    ports::Claim,
};

use super::{Owner, tasks::Task};
use crate::{abort, context::Context, remote::TaskToken};

impl Task {
    /// Whether the token is that of the attempt which the host itself runs now.
    pub(super) fn began_here(&self, token: &TaskToken) -> bool {
        let running = self.attempt.as_ref().filter(|_| self.row.attempt == token.task.attempt);
        self.row.claim.is_none() && running.is_some_and(|attempt| attempt.secret == token.secret)
    }
}

impl Owner {
    /// The call of an attempt ended, and `by` answers later. Committed at once: the host may die any moment, and the
    /// attempt is to be open still then. One that was answered or stopped meanwhile is over.
    pub(super) fn accepted(&mut self, context: &Arc<Context>, no: u64, attempt: u32, by: Arc<str>) {
        let now = context.clock.now();
        let Some(task) = self.tasks.get_mut(&no).filter(|t| t.row.attempt == attempt && !t.resolved) else { return };
        let Some(call) = task.attempt.take() else { return };
        abort::point("accepted-before-commit");
        task.row.claim = Some(Claim { secret: call.secret, worker: None, at: call.begins });
        task.heard = now;
        self.riding.push(EventBody::new(Some(no), TaskStarted { attempt, worker: by }));
        self.riding_tasks.insert(no);
        self.urgent = true;
        self.place(context, no);
    }
}
