//! Forks: a new execution from another's history up to an event.
//!
//! The events are copied as they are, hashes included, so what the guest saw stays what it saw; a control event behind
//! them says where they came from. The fork goes on by itself from there: under its own id, with idempotency keys of
//! its own. `info` keeps answering with the identity that the history began with.

use std::collections::{BTreeMap, BTreeSet};

use relive_core::{
    Error, ErrorKind, ExecutionKey, Json, RunKey, Shard, Timestamp, WorkflowId,
    codec::{Codec, StoredEvent, current_version},
    cursor::{Cursor, Open},
    event::{Attributes, EventBody, EventClass, ExecutionForked, HistoryEvent},
    guest::Guest,
    image::Image,
    life::Record,
    ports::{AppendError, AppendItem, ExecutionRow, NewExecution, RowChange, Status, StoredImage, TaskRow, TimerRow},
};

use super::lookup::store_error;
use crate::{engine::Engine, ids, message::Message, owner::read_history, requests::Target, views::Forked};

/// Where a fork stands when it begins.
struct Stand {
    /// Events that are copied.
    through: u64,
    applied_through: u64,
    commands: u64,
    open: BTreeMap<u64, Open>,
    published: BTreeMap<String, Json>,
}

/// The last event at or before `at` behind which no turn is cut in two: a turn's commands are recorded together.
fn whole_turns(events: &[HistoryEvent], at: u64) -> u64 {
    let class = |id: u64| events.get(id.checked_sub(1)? as usize).map(|e| e.event_type().class());
    let mut through = at.min(events.len() as u64);
    if class(through) == Some(EventClass::Command) && class(through + 1) == Some(EventClass::Command) {
        while class(through) == Some(EventClass::Command) {
            through -= 1;
        }
    }
    // A run that has ended is forked before its end.
    while through > 0 && events.get(through as usize - 1).is_some_and(|e| e.event_type().is_terminal()) {
        through -= 1;
    }
    through
}

impl Engine {
    /// Makes a new execution of the history of `target` up to event `at` (or a little before, so that no turn is cut
    /// in two). When it returns, the fork is durable and goes on.
    pub async fn fork(&self, target: Target, at: u64, id: Option<WorkflowId>) -> Result<Forked, Error> {
        self.accepting()?;
        self.blocking(move |engine| engine.fork_now(&target, at, id)).await
    }

    fn fork_now(&self, target: &Target, at: u64, id: Option<WorkflowId>) -> Result<Forked, Error> {
        let row = self.find(target)?;
        let stored = read_history(&*self.context.store, row.key).map_err(store_error)?;
        let events = self.decoded(&row)?;
        let through = if at == 0 { 0 } else { whole_turns(&events, at) };
        if through == 0 || at > events.len() as u64 {
            let message =
                format!("a fork takes at least event 1; the history has {}, and {at} was asked for", events.len());
            return Err(Error::new(ErrorKind::Validation, "invalid-argument", message).at(&row.execution));
        }
        let stand = self.stand_at(&row, &events[..through as usize])?;
        let context = &self.context;
        let now = context.clock.now();
        let workflow_id = match id {
            Some(id) => id,
            None => self.fresh_id(&row.execution.namespace)?,
        };
        let execution =
            ExecutionKey { namespace: row.execution.namespace.clone(), workflow_id, run_id: ids::run_id(now) };
        let shard = Shard::of(&execution.namespace, &execution.workflow_id);
        let epoch = self.owned(shard)?;
        let run = context.store.allocate_run_key(shard).map_err(store_error)?;
        let events = &events[..through as usize];
        let item = self.forked_item(&row, (run, epoch), &execution, events, &stored[..through as usize], stand)?;
        match context.store.append(std::slice::from_ref(&item)).pop() {
            Some(Ok(_)) => {}
            Some(Err(AppendError::AlreadyStarted(taken))) => {
                let message = format!("the workflow id is taken by the open run {taken}; choose another id");
                return Err(Error::new(ErrorKind::Concurrency, "already-started", message));
            }
            Some(Err(AppendError::Backend(error))) => return Err(store_error(error)),
            Some(Err(error)) => {
                return Err(Error::new(ErrorKind::EventStore, "internal", format!("the fork is refused: {error}")));
            }
            None => return Err(Error::new(ErrorKind::EventStore, "internal", "the store gave no answer")),
        }
        self.copy_image(&row, run, &execution, through);
        context.changes.restated(run);
        context.registry.post(run, Message::Wake);
        Ok(Forked { workflow_id: execution.workflow_id.to_string(), run_id: execution.run_id, through })
    }

    /// Relives the prefix and says how much of it was applied: turns whose commands it does not hold are still to come.
    fn stand_at(&self, row: &ExecutionRow, prefix: &[HistoryEvent]) -> Result<Stand, Error> {
        let failed = |e: relive_core::life::TurnError| {
            Error::new(ErrorKind::Replay, "replay-failed", e.to_string()).at(&row.execution)
        };
        let mut applied_through = 0;
        let mut open_end = false;
        let mut shadow = self.shadow(row, prefix, None)?.life;
        shadow
            .relive_observed(prefix, Record::CutOff, u64::MAX, |event, output| {
                open_end |= !output.commands.is_empty();
                if !open_end {
                    applied_through = event.event_id;
                }
            })
            .map_err(failed)?;
        // A turn that ended the run recorded nothing but its end, which is not copied.
        if shadow.outcome().is_some() && !open_end {
            let last = prefix.iter().rev().filter(|e| e.event_type().is_inbound()).nth(1);
            applied_through = last.map_or(0, |e| e.event_id);
        }
        let mut again = self.shadow(row, prefix, None)?.life;
        again.guest().cursor().collect();
        let relived = if applied_through == 0 {
            Default::default()
        } else {
            again.relive(prefix, Record::CutOff, applied_through).map_err(failed)?
        };
        let cursor: &Cursor = again.guest().cursor();
        Ok(Stand {
            through: prefix.len() as u64,
            applied_through,
            commands: cursor.issued(),
            open: cursor.open().clone(),
            published: relived.output.published,
        })
    }

    fn forked_item(
        &self,
        row: &ExecutionRow,
        (run, epoch): (RunKey, u64),
        execution: &ExecutionKey,
        events: &[HistoryEvent],
        stored: &[StoredEvent],
        stand: Stand,
    ) -> Result<AppendItem, Error> {
        let now = self.context.clock.now();
        let change = RowChange {
            status: Status::Running,
            blocked: None,
            last_inbound_id: events.iter().rev().find(|e| e.event_type().is_inbound()).map_or(0, |e| e.event_id),
            applied_through: stand.applied_through,
            command_count: stand.commands,
            reset_crashes: false,
            digest: None,
        };
        let mut item = AppendItem::new(run, 0, Some(epoch), change);
        item.create = Some(NewExecution {
            execution: execution.clone(),
            workflow: row.workflow.clone(),
            digest: row.digest,
            started_at: stored.first().map_or(now, |e| e.timestamp),
            correlation_id: row.correlation_id.clone(),
        });
        item.events = stored.to_vec();
        item.events.push(self.forked_event(row, stored, stand.through, now)?);
        item.inbound_keys = events
            .iter()
            .filter(|e| matches!(e.body.attributes, Attributes::SignalReceived(_) | Attributes::CancelRequested(_)))
            .filter_map(|e| e.body.inbound_key())
            .collect();
        item.published = stand.published;
        let resolved: BTreeSet<u64> =
            events.iter().filter(|e| e.event_type().is_inbound()).filter_map(|e| e.body.command_no).collect();
        for event in events {
            let Some(no) = event.body.command_no.filter(|no| stand.open.contains_key(no) && !resolved.contains(no))
            else {
                continue;
            };
            match &event.body.attributes {
                Attributes::TaskScheduled(scheduled) => {
                    let (namespace, asked) = (&execution.namespace, event.body.task_queue.as_ref());
                    let queue = self.context.dispatcher.route(namespace, &scheduled.name, asked);
                    item.put_tasks.push(TaskRow { queue, ..TaskRow::new(run, no, event.event_id, now) });
                }
                Attributes::TimerCreated(timer) => {
                    item.put_timers.push(TimerRow { deadline: timer.deadline, run, command_no: no });
                }
                _ => {}
            }
        }
        Ok(item)
    }

    fn forked_event(
        &self,
        row: &ExecutionRow,
        stored: &[StoredEvent],
        through: u64,
        now: Timestamp,
    ) -> Result<StoredEvent, Error> {
        let codec = self.context.config.codec;
        let body = EventBody::new(None, ExecutionForked { from: row.execution.clone(), through });
        let mut bytes = Vec::new();
        codec
            .encode(&body, &mut bytes)
            .map_err(|e| Error::new(ErrorKind::Codec, "codec", e.to_string()).at(&row.execution))?;
        let last = stored.last();
        let mut event = StoredEvent {
            event_id: through + 1,
            timestamp: now.max(last.map_or(Timestamp(0), |e| e.timestamp)),
            event_type: body.event_type().code(),
            codec: codec.codec_id(),
            event_version: current_version(body.event_type()),
            bytes: bytes.into(),
            hash: [0; 32],
        };
        event.hash = event.expected_hash(&last.map_or(relive_core::canonical_hash::GENESIS, |e| e.hash));
        Ok(event)
    }

    /// The nearest image of the original is the fork's too: the events up to it are the same, hashes included.
    fn copy_image(&self, row: &ExecutionRow, run: RunKey, execution: &ExecutionKey, through: u64) {
        let Ok(Some(nearest)) = self.context.images.store.image(row.key, through) else { return };
        let Ok(mut image) = Image::decode(&nearest.bytes) else { return };
        image.header.run_id = execution.run_id;
        if let Ok(bytes) = image.encode() {
            self.context.images.keep(StoredImage { run, event_id: nearest.event_id, bytes: bytes.into() }, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use relive_core::{
        Digest,
        event::{CancelRequested, ExecutionTerminated, TimerCreated, VersionRecorded},
    };

    use super::*;

    fn history(kinds: &str) -> Vec<HistoryEvent> {
        let attributes = |kind| -> Attributes {
            match kind {
                'i' => CancelRequested { reason: String::new() }.into(),
                'c' => TimerCreated { duration: 1, deadline: Timestamp(1) }.into(),
                'v' => VersionRecorded { change_id: "c".into(), version: 1 }.into(),
                _ => ExecutionTerminated { reason: String::new() }.into(),
            }
        };
        let event = |(id, kind)| HistoryEvent {
            event_id: id,
            timestamp: Timestamp(id),
            event_version: 1,
            body: EventBody::new(None, attributes(kind)),
            hash: Digest::of(&[]).0,
        };
        (1..).zip(kinds.chars()).map(event).collect()
    }

    #[test]
    fn no_turn_is_cut_in_two() {
        let events = history("iccviic");
        let cuts: Vec<u64> = (1..=7).map(|at| whole_turns(&events, at)).collect();
        assert_eq!(cuts, [1, 1, 1, 4, 5, 6, 7]);
        assert_eq!(whole_turns(&history("it"), 2), 1, "before the end");
        assert_eq!(whole_turns(&events, 99), 7);
    }
}
