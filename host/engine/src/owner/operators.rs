//! What operators do to activities that are not resolved: pausing, resuming, beginning anew, other options. Each is an
//! event, and what follows from it happens once that is durable.

use std::sync::Arc;

use relive_core::{
    Error, ErrorKind, Json, Timestamp,
    event::{CommandIssued, EventBody},
};

use super::{Owner, draft::Draft, turns::Abandon};
use crate::{context::Context, message::TaskChange};

impl TaskChange {
    fn name(&self) -> &'static str {
        match self {
            Self::Pause => "activity.pause",
            Self::Resume => "activity.resume",
            Self::Reset { .. } => CommandIssued::RESET,
            Self::Update(_) => "activity.update",
        }
    }
}

impl Owner {
    /// Puts a change of a task into the draft. The inner error is the operator's.
    pub(super) fn change_task(
        &mut self,
        context: &Arc<Context>,
        draft: &mut Draft,
        no: u64,
        change: &TaskChange,
        note: String,
    ) -> Result<Result<(), Error>, Abandon> {
        let there = self.tasks.get(&no).is_some_and(|task| !task.resolved);
        if there && !self.recall_if_needed(context, no) {
            let message = "what the activity was asked for cannot be read; try again";
            return Ok(Err(self.error(ErrorKind::EventStore, "store-unavailable", message)));
        }
        if !there {
            let message = format!("there is no activity {no} that is not resolved; `relive activity list` shows those");
            return Ok(Err(self.error(ErrorKind::ActivityExecution, "unknown-step", message)));
        }
        if let TaskChange::Reset { .. } = change {
            // Whoever has the attempt has it for nothing.
            self.forget_remote(context, no);
        }
        let Some(task) = self.tasks.get_mut(&no) else { return Ok(Ok(())) };
        let mut arguments = None;
        match change {
            TaskChange::Pause => task.row.paused = true,
            TaskChange::Resume => task.row.paused = false,
            TaskChange::Reset { keep_details } => {
                task.row.attempt = 1;
                task.row.exhausted = None;
                task.row.due_at = context.clock.now();
                task.row.details = task.row.details.take().filter(|_| *keep_details);
            }
            TaskChange::Update(options) => {
                arguments = Json::of(options).ok();
                task.row.options = Some(Arc::new(options.clone()));
            }
        }
        let row = task.row.clone();
        self.riding_tasks.insert(no);
        let issued = CommandIssued { name: change.name().into(), target: Some(no), arguments, note };
        draft.push(EventBody::new(None, issued), Timestamp(0))?;
        draft.item.put_tasks.retain(|t| t.command_no != no);
        draft.item.put_tasks.push(row);
        draft.effects.changed.push((no, matches!(change, TaskChange::Reset { .. })));
        Ok(Ok(()))
    }

    /// A change is durable: an attempt that has not begun is seen to anew, one that runs goes on unless it begins anew.
    pub(super) fn task_changed(&mut self, context: &Arc<Context>, no: u64, anew: bool) {
        let now = context.clock.now();
        let Some(task) = self.tasks.get_mut(&no).filter(|t| !t.resolved) else { return };
        if (anew || task.row.due_at > now)
            && let Some(attempt) = task.attempt.take()
        {
            attempt.stop();
        }
        if anew {
            context.attempts.forget(self.run, no);
        }
        if task.row.paused {
            context.remote.queues.remove(self.run, no);
        }
        if task.attempt.is_none() {
            self.launch(context, no);
        }
    }
}
