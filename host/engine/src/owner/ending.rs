//! How a run ends: the terminal event, the next run of a continue-as-new, and what those who wait are told.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use relive_core::{
    Failure, FailureKind, Json, RunId, Timestamp,
    event::{
        Attributes, CarriedMessage, EventBody, ExecutionCanceled, ExecutionCompleted, ExecutionContinuedAsNew,
        ExecutionFailed, ExecutionStarted,
    },
    guest::{GuestFault, Outcome},
    life::TurnError,
    ports::{NewExecution, Status, StoreError},
};

use super::{Owner, draft::Draft, load::read_history, turns::Abandon};
use crate::{context::Context, ids, views::ResultView};

impl Owner {
    /// If the guest has ended, ends the run with the draft. True: it has.
    pub(super) fn finish(&mut self, context: &Arc<Context>, draft: &mut Draft) -> Result<bool, Abandon> {
        let Some(life) = &mut self.life else {
            return Ok(false);
        };
        let Some(outcome) = life.outcome().cloned() else {
            return Ok(false);
        };
        let canceled = life.guest().cursor().cancel_delivered();
        let mut view = ResultView {
            workflow_id: draft.row.execution.workflow_id.to_string(),
            run_id: draft.row.execution.run_id,
            status: Status::Completed,
            result: None,
            failure: None,
            continued_as: None,
            blocked: None,
        };
        let terminal: Attributes = match outcome {
            Outcome::Completed(result) => {
                view.result = Some(result.clone());
                ExecutionCompleted { result }.into()
            }
            Outcome::Failed(failure) if canceled && failure.kind == FailureKind::Canceled => {
                (view.status, view.failure) = (Status::Canceled, Some(failure.clone()));
                ExecutionCanceled { failure }.into()
            }
            Outcome::Failed(failure) => {
                (view.status, view.failure) = (Status::Failed, Some(failure.clone()));
                ExecutionFailed { failure }.into()
            }
            Outcome::ContinuedAsNew { input, unread_messages } => {
                let new_run_id = ids::run_id(context.clock.now());
                (view.status, view.continued_as) = (Status::ContinuedAsNew, Some(new_run_id));
                self.continue_as_new(context, draft, new_run_id, &input, &unread_messages)?;
                ExecutionContinuedAsNew { new_run_id, input, unread_messages }.into()
            }
        };
        draft.push(EventBody::new(None, terminal), Timestamp(0))?;
        draft.row.status = view.status;
        draft.ended = Some(Arc::new(view));
        Ok(true)
    }

    /// What those who wait for a terminated run are told.
    pub(super) fn terminated(draft: &mut Draft, reason: &str) {
        draft.ended = Some(Arc::new(ResultView {
            workflow_id: draft.row.execution.workflow_id.to_string(),
            run_id: draft.row.execution.run_id,
            status: Status::Terminated,
            result: None,
            failure: Some(Failure::new(FailureKind::Terminated, "terminated", reason).permanent()),
            continued_as: None,
            blocked: None,
        }));
    }

    /// Makes the next run of the same workflow id, in the same item. It takes the active version.
    fn continue_as_new(
        &mut self,
        context: &Arc<Context>,
        draft: &mut Draft,
        run_id: RunId,
        input: &Json,
        unread: &[Arc<str>],
    ) -> Result<(), Abandon> {
        let trouble =
            |what: &str, error: &StoreError| Abandon::Ending(TurnError::Fault(GuestFault::unread(what, error)));
        let carried_messages =
            self.carried(context, draft, unread).map_err(|fault| Abandon::Ending(TurnError::Fault(fault)))?;
        let run =
            context.store.allocate_run_key(self.run.shard()).map_err(|error| trouble("make the next run", &error))?;
        let old = &draft.row;
        let of = &old.execution;
        let version = context.workflows.for_run(&context.catalog, &of.namespace, &old.workflow, &of.workflow_id);
        let version = version.map_err(|error| trouble("find the active version", &error))?;
        let (digest, export) = match version {
            Some(version) => (version.row.digest, version.row.export.clone()),
            None => (old.digest, old.workflow.clone()),
        };
        let mut execution = old.execution.clone();
        execution.run_id = run_id;
        let start_key = self.life.as_mut().and_then(|l| l.guest().cursor().run().start_key.clone());
        let seen = self.life.as_mut().is_some_and(|l| l.guest().cursor().cancel_delivered());
        let start = ExecutionStarted {
            execution: execution.clone(),
            workflow: old.workflow.clone(),
            export,
            digest,
            input: input.clone(),
            seed: ids::seed(),
            limits: context.config.run_limits,
            continued_from: Some(old.execution.run_id),
            carried_messages,
            carried_cancel: !seen
                && self.queue.iter().any(|i| matches!(i.body.attributes, Attributes::CancelRequested(_))),
            start_key,
        };
        let new = NewExecution {
            execution,
            workflow: old.workflow.clone(),
            digest,
            started_at: old.last_timestamp,
            correlation_id: old.correlation_id.clone(),
        };
        let mut next = Draft::successor(run, &new, draft, self.epoch);
        let mut body = EventBody::new(None, start);
        body.correlation_id = new.correlation_id.clone();
        body.trace_id = self.life.as_mut().and_then(|l| l.guest().cursor().run().trace_id.clone());
        next.push(body, Timestamp(0))?;
        next.item.create = Some(new);
        next.seal();
        draft.item.successor = Some(Box::new(next.item));
        Ok(())
    }

    /// Messages that go over to the next run: those that the guest had and did not consume, in its order, then those
    /// that wait in their channels, then those that are queued and were not committed.
    fn carried(
        &mut self,
        context: &Arc<Context>,
        draft: &Draft,
        unread: &[Arc<str>],
    ) -> Result<Vec<CarriedMessage>, GuestFault> {
        let mut carried = Vec::new();
        if !unread.is_empty() {
            let wanted: HashSet<&str> = unread.iter().map(|id| &**id).collect();
            let mut found: BTreeMap<Arc<str>, CarriedMessage> = BTreeMap::new();
            let stored = read_history(&*context.store, self.run)
                .map_err(|error| GuestFault::unread("carry messages over", &error))?;
            for event in stored.iter().chain(&draft.item.events) {
                let event = event.decode().map_err(|e| GuestFault::Host(format!("carry messages over: {e}")))?;
                for message in messages_of(&event.body.attributes) {
                    if wanted.contains(&*message.message_id) {
                        found.insert(message.message_id.clone(), message);
                    }
                }
            }
            carried.extend(unread.iter().filter_map(|id| found.remove(id)));
        }
        if let Some(life) = &mut self.life {
            let waiting = life.guest().cursor().unread();
            let mut waiting: Vec<_> =
                waiting.iter().flat_map(|(channel, queue)| queue.iter().map(move |m| (m.order, channel, m))).collect();
            waiting.sort_by_key(|(order, _, _)| *order);
            carried.extend(waiting.into_iter().map(|(_, channel, m)| CarriedMessage {
                channel: channel.clone(),
                message_id: m.message_id.clone(),
                payload: m.payload.clone(),
            }));
        }
        Ok(carried)
    }
}

fn messages_of(attributes: &Attributes) -> Vec<CarriedMessage> {
    match attributes {
        Attributes::ExecutionStarted(start) => start.carried_messages.clone(),
        Attributes::SignalReceived(s) => {
            vec![CarriedMessage {
                channel: s.channel.clone(),
                message_id: s.message_id.clone(),
                payload: s.payload.clone(),
            }]
        }
        _ => Vec::new(),
    }
}
