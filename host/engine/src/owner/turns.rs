//! Making an item of what waits: inbound events, each followed by its turn and the commands that it issued.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use relive_core::{
    ErrorKind, Timestamp,
    codec::CodecError,
    cursor::Mode,
    event::{
        Attributes, BlockReason, EventBody, ExecutionBlocked, ExecutionTerminated, ExecutionUnblocked, HistoryEvent,
    },
    guest::GuestFault,
    life::TurnError,
    limits::{MAX_CRASHES, MAX_TURN_TRIES},
    ports::{ExecutionRow, Status, StoreError, StoreErrorKind},
};

use super::{Owner, Thread, commit::Flight, draft::Draft};
use crate::{
    abort,
    context::Context,
    message::{Control, Incoming},
};

/// Inbound events of one item: more would make its commit, and everybody's who shares it, late.
const MAX_INBOUND_PER_ITEM: usize = 256;
/// A turn that takes longer delays its event's acknowledgement: from then on events are committed before their turns.
const SLOW_TURN: Duration = Duration::from_millis(50);

/// Why a draft was given up.
pub(super) enum Abandon {
    /// The turn of a committed event failed.
    Committed(TurnError),
    /// The run cannot be ended as its guest wants it now: what is needed for that cannot be read.
    Ending(TurnError),
    /// The turn of an event that is not committed failed: commit it alone first.
    Speculative,
    Codec(CodecError),
}

impl From<CodecError> for Abandon {
    fn from(error: CodecError) -> Self {
        Self::Codec(error)
    }
}

impl Owner {
    /// Does what can be done now, until an item is in flight or nothing waits.
    pub(super) fn advance(&mut self, context: &Arc<Context>, thread: Thread) {
        while self.flight.is_none() && !self.gone && !self.paused && !self.loading.is_asked() {
            if !self.has_work() && !self.may_have_work() {
                return;
            }
            if !self.load_row(context) || !self.still_open(context) || !self.has_work() {
                return;
            }
            let row = self.row.clone().or_else(|| self.new_row());
            let Some(row) = row else { return };
            let runner = context.dispatcher.runner();
            let mut draft = Draft::new(&row, self.epoch, context.config.codec, context.clock.now(), runner);
            draft.item.create = self.create.clone();
            match self.fill(context, thread, &mut draft) {
                Ok(()) if draft.is_empty() => return draft.acks.into_iter().for_each(|ack| ack.answer(Ok(()))),
                Ok(()) => self.send_off(context, draft),
                Err(abandon) => self.abandon(context, draft, abandon),
            }
        }
    }

    fn has_work(&self) -> bool {
        let wakes =
            self.row.as_ref().is_some_and(|r| r.status == Status::Running && r.last_inbound_id > r.applied_through);
        let rides = !self.riding.is_empty() || !self.riding_tasks.is_empty();
        !self.queue.is_empty()
            || !self.controls.is_empty()
            || !self.claims.is_empty()
            || !self.acks.is_empty()
            || wakes
            || (rides && (self.flush || self.urgent))
    }

    /// The row is not in memory, so nobody knows.
    fn may_have_work(&self) -> bool {
        self.row.is_none() && self.create.is_none()
    }

    fn still_open(&mut self, context: &Arc<Context>) -> bool {
        let closed = self.row.as_ref().is_some_and(|row| !row.status.is_open());
        if closed {
            let error = self.error(
                ErrorKind::WorkflowExecution,
                "closed",
                "the execution has ended; nothing can be sent to it any more",
            );
            self.let_go(context, &error);
        }
        !closed
    }

    fn new_row(&self) -> Option<ExecutionRow> {
        self.create.as_ref().map(|new| ExecutionRow::new(self.run, new, self.epoch))
    }

    /// Puts everything that waits into the draft.
    fn fill(&mut self, context: &Arc<Context>, thread: Thread, draft: &mut Draft) -> Result<(), Abandon> {
        for body in &self.riding {
            draft.push(body.clone(), Timestamp(0))?;
        }
        let rows = self.riding_tasks.iter().filter_map(|no| self.tasks.get(no));
        draft.item.put_tasks.extend(rows.map(|task| task.row.clone()));
        draft.rode = self.riding.len();
        self.urgent = false;
        self.take_claims(context, draft)?;
        draft.acks.append(&mut self.acks);
        draft.item.image = self.riding_image.clone();
        let asked = !self.controls.is_empty();
        if self.take_controls(context, draft)? {
            return Ok(());
        }
        // What operators did to an activity stands, whatever becomes of the turns behind it.
        if !draft.effects.changed.is_empty() {
            return Ok(());
        }
        if draft.row.status == Status::Running && draft.row.crashes >= MAX_CRASHES {
            let report = format!(
                "the host died {} times while this guest was running; unblock it to try again",
                draft.row.crashes
            );
            self.block(draft, BlockReason::Quarantined, report)?;
        }
        // With nothing to commit alone, what is committed already gets its turn: nobody else would wake it.
        let plain_next = std::mem::take(&mut self.plain_next) && !self.queue.is_empty();
        if plain_next || draft.row.status == Status::Blocked {
            return self.fill_plain(draft);
        }
        // Claims, heartbeats and retries are not the guest's business: a cold one stays cold.
        let settled = draft.row.last_inbound_id == draft.row.applied_through && self.unapplied.is_empty();
        if settled && self.queue.is_empty() && !asked {
            return Ok(());
        }
        let _mark = context.marks.enter(thread.slot, self.run, &draft.row.digest);
        self.live(context, draft)?;
        self.check_standing(draft)
    }

    /// Operators' wishes come first. True: the run has ended by one.
    fn take_controls(&mut self, context: &Arc<Context>, draft: &mut Draft) -> Result<bool, Abandon> {
        while let Some(control) = self.controls.pop_front() {
            match control {
                Control::Terminate { reason, reply } => {
                    draft.replies.push(reply);
                    Self::terminated(draft, &reason);
                    draft.push(EventBody::new(None, ExecutionTerminated { reason }), Timestamp(0))?;
                    draft.row.status = Status::Terminated;
                    draft.row.blocked = None;
                    return Ok(true);
                }
                Control::Task { command_no, change, note, reply } => {
                    match self.change_task(context, draft, command_no, &change, note)? {
                        Ok(()) => draft.replies.push(reply),
                        Err(error) => drop(reply.send(Err(error))),
                    }
                }
                Control::Migrate { to, reply } => match self.migrate(context, draft, &to)? {
                    Ok(()) => draft.replies.push(reply),
                    Err(error) => drop(reply.send(Err(error))),
                },
                Control::Unblock { reason, reply } => {
                    draft.replies.push(reply);
                    if draft.row.status == Status::Blocked {
                        draft.push(EventBody::new(None, ExecutionUnblocked { reason }), Timestamp(0))?;
                        draft.row.status = Status::Running;
                        draft.row.blocked = None;
                        draft.survived();
                        self.tries = 0;
                        self.life = None;
                    }
                }
            }
        }
        Ok(false)
    }

    /// Commits what is queued as it is; the turns follow.
    fn fill_plain(&mut self, draft: &mut Draft) -> Result<(), Abandon> {
        for _ in 0..MAX_INBOUND_PER_ITEM {
            let Some(event) = self.next_inbound(draft)? else {
                break;
            };
            if self.life.is_some() {
                self.unapplied.push_back(event);
            }
        }
        Ok(())
    }

    /// Takes the next queued event into the draft.
    fn next_inbound(&mut self, draft: &mut Draft) -> Result<Option<HistoryEvent>, Abandon> {
        while let Some(incoming) = self.queue.pop_front() {
            if let Some(error) = self.refusal(draft, &incoming) {
                incoming.answer(Err(error));
                continue;
            }
            let event = draft.push(incoming.body.clone(), incoming.not_before)?;
            draft.taken.push(incoming);
            return Ok(Some(event));
        }
        Ok(None)
    }

    /// Messages are refused when the history is nearly full; completions and timers always enter.
    fn refusal(&mut self, draft: &Draft, incoming: &Incoming) -> Option<relive_core::Error> {
        if !matches!(incoming.body.attributes, Attributes::SignalReceived(_)) {
            return None;
        }
        let limits = self.life.as_mut().map(|life| life.guest().cursor().run().limits).unwrap_or_default();
        (draft.row.last_event_id >= limits.messages_until()).then(|| {
            let message = format!(
                "the history holds {} of at most {} events; no more messages enter",
                draft.row.last_event_id, limits.events
            );
            self.error(ErrorKind::SignalDispatcher, "history-full", message)
        })
    }

    /// Lives: what is committed and not applied first, then what is queued, speculatively.
    fn live(&mut self, context: &Arc<Context>, draft: &mut Draft) -> Result<(), Abandon> {
        if self.life.is_some() {
            context.metrics.cache_hits.one();
        } else if self.create.is_none() {
            context.metrics.cache_misses.one();
            self.wake(context).map_err(Abandon::Committed)?;
        }
        while let Some(event) = self.unapplied.pop_front() {
            self.live_turn(context, draft, &event).map_err(|e| e.unwrap_or_else(Abandon::Committed))?;
            if self.finish(context, draft)? {
                return Ok(());
            }
        }
        // Under suspicion, an event is committed before the guest sees it: the turn that may take the host down is then
        // the next one also after a crash, and nothing can overtake it.
        if self.slow || draft.row.crashes > 0 {
            return self.fill_plain(draft);
        }
        for _ in 0..MAX_INBOUND_PER_ITEM {
            let Some(event) = self.next_inbound(draft)? else {
                break;
            };
            if self.create.is_some() && self.life.is_none() {
                self.begin_life(context, &event).map_err(|_| Abandon::Speculative)?;
            }
            self.live_turn(context, draft, &event).map_err(|e| e.unwrap_or_else(|_| Abandon::Speculative))?;
            if self.finish(context, draft)? || self.slow {
                break;
            }
        }
        Ok(())
    }

    fn live_turn(&mut self, context: &Context, draft: &mut Draft, event: &HistoryEvent) -> Result<(), TurnFailure> {
        let Some(life) = &mut self.life else {
            return Ok(());
        };
        abort::point("inside-turn");
        let shard = self.run.shard().0;
        let (execution, correlation_id) = (&draft.row.execution, draft.row.correlation_id.as_deref());
        let _span = tracing::debug_span!("turn", %execution, event = event.event_id, shard, correlation_id).entered();
        let started = Instant::now();
        let output = life.turn(event, Mode::Live).map_err(TurnFailure::Turn)?;
        let took = started.elapsed();
        context.metrics.turns.took(took);
        self.slow |= took > SLOW_TURN;
        let trace = life.guest().cursor().run().trace_id.clone();
        draft.push_output(output, trace.as_ref()).map_err(TurnFailure::Codec)?;
        draft.survived();
        draft.row.applied_through = event.event_id;
        draft.row.command_count = life.guest().cursor().issued();
        self.tries = 0;
        Ok(())
    }

    /// After the turns: a guest that waits for nothing, and a history without room, need an operator.
    fn check_standing(&mut self, draft: &mut Draft) -> Result<(), Abandon> {
        let Some(life) = &mut self.life else {
            return Ok(());
        };
        if life.outcome().is_some() {
            return Ok(());
        }
        let limits = life.guest().cursor().run().limits;
        if life.is_deadlocked() && draft.row.applied_through == draft.row.last_inbound_id {
            return self.block(
                draft,
                BlockReason::Deadlock,
                "the guest waits and nothing is open that could wake it".to_owned(),
            );
        }
        if draft.row.last_event_id >= limits.events || draft.row.history_bytes >= limits.history_bytes {
            let report = format!(
                "the history has {} events and {} bytes; at most {} and {} are allowed: continue as new earlier",
                draft.row.last_event_id, draft.row.history_bytes, limits.events, limits.history_bytes
            );
            return self.block(draft, BlockReason::HistoryLimit, report);
        }
        Ok(())
    }

    pub(super) fn block(&mut self, draft: &mut Draft, reason: BlockReason, report: String) -> Result<(), Abandon> {
        tracing::warn!(execution = %draft.row.execution, %reason, %report, "execution blocked");
        draft.push(EventBody::new(None, ExecutionBlocked { reason, report }), Timestamp(0))?;
        draft.row.status = Status::Blocked;
        draft.row.blocked = Some(reason);
        Ok(())
    }

    pub(super) fn send_off(&mut self, context: &Arc<Context>, mut draft: Draft) {
        draft.seal();
        let Draft { item, row, effects, taken, replies, rode, ended, claims, acks, .. } = draft;
        let doubted = false;
        self.submit(context, item, Flight { row, effects, taken, replies, rode, ended, claims, acks, doubted });
    }

    /// The draft cannot be as it is: takes back what it took, and goes on without the guest.
    fn abandon(&mut self, context: &Arc<Context>, mut draft: Draft, why: Abandon) {
        self.life = None;
        self.unapplied.clear();
        let progressed = draft.row.applied_through > draft.item.row.applied_through && draft.taken.is_empty();
        match why {
            Abandon::Speculative => self.take_back(draft, true),
            // The turns before the one that failed are good: commit them, then try that one again.
            Abandon::Committed(_) if progressed => self.send_off(context, draft),
            // Not the guest's fault, however long it takes.
            Abandon::Committed(error @ TurnError::Fault(GuestFault::Unavailable(_))) | Abandon::Ending(error) => {
                self.take_back(draft, false);
                self.store_trouble(context, &StoreError::new(StoreErrorKind::Transient, error.to_string()));
            }
            Abandon::Committed(error) => {
                self.tries += 1;
                if !draft.replies.is_empty() && error.may_pass() {
                    return self.send_off(context, draft);
                }
                if error.may_pass() && self.tries < MAX_TURN_TRIES {
                    tracing::warn!(run = self.run.0, tries = self.tries, %error, "turn failed; trying again");
                    self.take_back(draft, false);
                    return;
                }
                let reason = error.block_reason();
                match self.block(&mut draft, reason, error.to_string()) {
                    Ok(()) => self.send_off(context, draft),
                    Err(_) => self.take_back(draft, true),
                }
            }
            Abandon::Codec(error) => {
                let error = self.error(ErrorKind::Codec, "codec", error.to_string());
                for incoming in draft.taken.drain(..) {
                    incoming.answer(Err(error.clone()));
                }
                self.claims.extend(draft.claims.into_iter().map(|(request, _)| request));
                draft.acks.into_iter().for_each(|ack| ack.answer(Err(error.clone())));
                super::answer_all(draft.replies, &Err(error));
            }
        }
    }

    /// Puts what a draft took back to where it waited.
    pub(super) fn take_back(&mut self, draft: Draft, plain: bool) {
        for incoming in draft.taken.into_iter().rev() {
            self.queue.push_front(incoming);
        }
        self.claims.extend(draft.claims.into_iter().map(|(request, _)| request));
        self.acks.extend(draft.acks);
        self.urgent |= !self.riding_tasks.is_empty();
        // Operators' replies wait for the next commit: their events are lost with this draft, so ask again.
        let error = self.error(ErrorKind::Concurrency, "try-again", "the execution changed meanwhile; try again");
        super::answer_all(draft.replies, &Err(error));
        self.plain_next = plain;
    }
}

/// What went wrong in a live turn.
pub(super) enum TurnFailure {
    Turn(TurnError),
    Codec(CodecError),
}

impl TurnFailure {
    fn unwrap_or_else(self, turn: impl FnOnce(TurnError) -> Abandon) -> Abandon {
        match self {
            Self::Turn(error) => turn(error),
            Self::Codec(error) => Abandon::Codec(error),
        }
    }
}
