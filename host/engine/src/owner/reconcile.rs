//! What an owner does when its task's queue and the store seem to disagree: it alone knows whether they do, or whether
//! something is under way.

use std::sync::Arc;

use crossbeam_channel::Sender;

use super::{Owner, tasks::Task};
use crate::{context::Context, reconcile::Reconciled};

impl Owner {
    /// Puts a task that should wait for a worker into its queue, and takes one that should not out of it.
    pub(super) fn reconcile(&mut self, context: &Arc<Context>, no: u64, answer: &Sender<Reconciled>) {
        let before = context.remote.queues.attempt_of(self.run, no);
        if !self.load_row(context) && !self.gone {
            // The store cannot say; the next look asks again.
            return;
        }
        let now = context.clock.now();
        let due = |task: &&Task| task.may_be_claimed() && task.row.due_at <= now;
        let should = self.tasks.get(&no).filter(due).map(|task| task.row.attempt);
        match should {
            _ if self.claim_under_way(no) => {}
            Some(attempt) if before != Some(attempt) => {
                // It may be there by now: an owner that comes into memory sees to its tasks.
                if context.remote.queues.attempt_of(self.run, no) != Some(attempt) {
                    self.look_at(context, no);
                }
                tracing::warn!(run = self.run.0, step = no, attempt, "a task that no queue held was put back");
                let _ = answer.send(Reconciled::PutBack);
            }
            None if before.is_some() => {
                context.remote.queues.remove(self.run, no);
                tracing::warn!(run = self.run.0, step = no, "a task that was not waiting was taken out of its queue");
                let _ = answer.send(Reconciled::Removed);
            }
            _ => {}
        }
    }

    fn claim_under_way(&self, no: u64) -> bool {
        let asked = self.claims.iter().any(|request| request.command_no == no);
        let mut flying = self.flight.iter().flat_map(|flight| &flight.claims);
        asked || flying.any(|(request, _)| request.command_no == no)
    }
}
