//! Activities whose attempts are used up and whose last attempt nobody answered: whoever ran it was lost. They are held,
//! the guest is not told, and an operator has their attempts begin again or gives them up.

use std::sync::Arc;

use relive_core::{
    ErrorKind, Failure,
    event::{CommandIssued, EventBody, TaskExhausted, TaskFailed, TaskTimedOut, TimeoutType},
    ports::{AppendItem, Exhausted},
};

use super::Owner;
use crate::{
    context::Context,
    message::{Ack, Reply},
};

/// What an operator decides about an exhausted activity.
pub(crate) struct Decision {
    pub command_no: u64,
    pub what: Decided,
    /// Why; it stands in the history.
    pub note: String,
    pub reply: Reply,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decided {
    /// Attempts begin again from the first, under the same idempotency key.
    Redrive,
    /// It is resolved with how its last attempt ended.
    GiveUp,
}

impl Owner {
    /// The last attempt that the policy allows ended without an answer.
    pub(super) fn exhaust(
        &mut self,
        context: &Arc<Context>,
        no: u64,
        attempts: u32,
        last_failure: Failure,
        timeout: Option<TimeoutType>,
    ) {
        let at = context.clock.now();
        let Some(task) = self.tasks.get_mut(&no) else { return };
        tracing::warn!(run = self.run.0, step = no, attempts, %last_failure, "attempts exhausted; an operator decides");
        let how = TaskExhausted { attempts, timeout, last_failure };
        task.row.attempt = attempts;
        task.row.exhausted = Some(Arc::new(Exhausted { at, how: how.clone() }));
        context.attempts.forget(self.run, no);
        self.riding.push(EventBody::new(Some(no), how));
        self.riding_tasks.insert(no);
        // Nothing else may ever happen to it, and operators are to see it.
        self.urgent = true;
        self.place(context, no);
    }

    /// An operator has decided. What follows is recorded together with the decision; only then an attempt begins.
    pub(super) fn decided(&mut self, context: &Arc<Context>, decision: Decision) {
        let Decision { command_no: no, what, note, reply } = decision;
        let loaded = self.load_row(context);
        if (!loaded && !self.gone) || (self.tasks.contains_key(&no) && !self.recall_if_needed(context, no)) {
            let error = self.error(ErrorKind::EventStore, "store-unavailable", "the store cannot be read; try again");
            return drop(reply.send(Err(error)));
        }
        let Some(task) = self.tasks.get(&no).filter(|task| !task.resolved) else {
            let message =
                format!("there is no activity {no} that is not resolved; `relive failed-tasks list` shows those");
            return drop(reply.send(Err(self.error(ErrorKind::ActivityExecution, "unknown-step", message))));
        };
        let Some(exhausted) = task.row.exhausted.clone() else {
            let message =
                format!("activity {no} is not exhausted: its attempts go on; `relive activity reset` begins anew");
            return drop(reply.send(Err(self.error(ErrorKind::ActivityExecution, "not-exhausted", message))));
        };
        let name = match what {
            Decided::Redrive => CommandIssued::REDRIVE,
            Decided::GiveUp => CommandIssued::GIVE_UP,
        };
        let issued = CommandIssued { name: name.into(), target: Some(no), arguments: None, note };
        self.riding.push(EventBody::new(None, issued));
        self.urgent = true;
        match what {
            Decided::Redrive => {
                self.begin_again(context, no);
                self.acks.push(Ack::Report(reply));
            }
            Decided::GiveUp => self.give_up(context, no, &exhausted.how, reply),
        }
    }

    /// The first attempt is due; it begins once that is durable.
    fn begin_again(&mut self, context: &Arc<Context>, no: u64) {
        let now = context.clock.now();
        let (Some(task), Some(row)) = (self.tasks.get_mut(&no), &self.row) else { return };
        task.row.exhausted = None;
        task.row.attempt = 1;
        task.row.due_at = now;
        // The deployment may be another by now.
        task.route(context, &row.execution.namespace);
        self.riding_tasks.insert(no);
        self.begin_with_commit.insert(no);
    }

    fn give_up(&mut self, context: &Arc<Context>, no: u64, how: &TaskExhausted, reply: Reply) {
        self.forget_remote(context, no);
        let (attempt, failure) = (how.attempts, how.last_failure.clone());
        match how.timeout {
            Some(timeout) => self.resolve(no, TaskTimedOut { attempt, timeout, last_failure: None }, Some(reply)),
            None => self.resolve(no, TaskFailed { attempt, failure }, Some(reply)),
        }
    }

    /// Rows are durable: those whose attempts begin again begin now.
    pub(super) fn rows_committed(&mut self, context: &Arc<Context>, item: &AppendItem) {
        for row in &item.put_tasks {
            let no = row.command_no;
            // One that changed meanwhile rides on.
            if self.tasks.get(&no).is_none_or(|task| task.row == *row) {
                self.riding_tasks.remove(&no);
                if self.begin_with_commit.remove(&no) {
                    self.launch(context, no);
                }
            }
        }
    }
}
