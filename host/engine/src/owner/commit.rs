//! The store's answer to the item in flight: effects after a commit, a rebase after a conflict, patience when the
//! store cannot.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use relive_core::{
    Error, ErrorKind,
    codec::StoredEvent,
    event::EventType,
    options::CancellationType,
    ports::{AppendError, AppendItem, Appended, ExecutionRow, StoreError, StoreErrorKind, TaskRow, TimerRow},
};

use super::{Owner, answer_all, draft::Effects, tasks::Task};
use crate::{
    abort,
    context::Context,
    message::{Ack, Incoming, Message, Reply},
    remote::ClaimRequest,
    traces,
    waiters::Ended,
};

/// How long an execution waits before it tries the store again.
pub(super) const STORE_PAUSE: Duration = Duration::from_millis(500);

/// What is remembered of an item while it is with the committer.
pub(super) struct Flight {
    /// The row after the commit.
    pub row: ExecutionRow,
    pub effects: Effects,
    pub taken: Vec<Incoming>,
    pub replies: Vec<Reply>,
    pub rode: usize,
    pub ended: Option<Ended>,
    pub claims: Vec<(ClaimRequest, TaskRow)>,
    pub acks: Vec<Ack>,
    /// It was in doubt once: an earlier copy may be in the store, or get there yet.
    pub doubted: bool,
}

impl Owner {
    pub(super) fn appended(&mut self, context: &Arc<Context>, item: AppendItem, result: Result<Appended, AppendError>) {
        let Some(flight) = self.flight.take() else {
            return;
        };
        match result {
            Ok(_) => self.committed(context, item, flight),
            Err(AppendError::Conflict { tail, .. }) => self.conflict(context, item, flight, &tail),
            Err(AppendError::Duplicate(key)) => self.duplicate(context, item, &key, flight),
            Err(AppendError::AlreadyStarted(run)) => {
                let message =
                    format!("the workflow id is taken by the open run {run}; choose another id, or wait for that run");
                let error = self.error(ErrorKind::Concurrency, "already-started", message);
                self.refuse(context, flight, &error);
            }
            Err(AppendError::Closed) => {
                let error = self.error(ErrorKind::WorkflowExecution, "closed", "the execution has ended");
                self.refuse(context, flight, &error);
            }
            Err(AppendError::Fenced { epoch, owner }) => {
                let error = self.error(
                    ErrorKind::Concurrency,
                    "fenced",
                    format!("epoch {epoch} lost the execution to epoch {owner}"),
                );
                self.refuse(context, flight, &error);
            }
            Err(error @ (AppendError::NotFound | AppendError::Malformed(_))) => {
                tracing::error!(run = self.run.0, %error, "append refused");
                let error = self.error(
                    ErrorKind::EventStore,
                    "internal",
                    "the host made an item that its store refuses; see the log",
                );
                self.refuse(context, flight, &error);
            }
            Err(AppendError::Backend(error)) if error.in_doubt || flight.doubted => {
                self.doubt(context, item, flight, &error);
            }
            Err(AppendError::Backend(error)) => {
                self.take_back_flight(flight, Some(&self.store_error(&error)), true);
                self.store_trouble(context, &error);
            }
        }
    }

    /// The store's answer was lost, so the item may be in the history, or get there yet. Whatever is made anew of what it
    /// holds could be there twice; so the very same goes to the store once more, which finds it or takes it. Those
    /// outside are told at once.
    fn doubt(&mut self, context: &Arc<Context>, item: AppendItem, mut flight: Flight, error: &StoreError) {
        let message =
            format!("the store was lost in the middle of it, so it may have been done; send it again: {error}");
        let told = self.error(ErrorKind::EventStore, "store-unavailable", message);
        flight.taken.iter_mut().for_each(|incoming| incoming.tell(&told));
        answer_all(std::mem::take(&mut flight.replies), &Err(told));
        flight.doubted = true;
        let refused = self.store_error(error);
        self.queue = self.queue.drain(..).filter_map(|incoming| incoming.refused(&refused)).collect();
        if self.create.take().is_some() {
            // A run that is not there yet is nobody's: whoever began it begins it again, if it is not found.
            self.life = None;
        } else {
            (self.flight, self.doubtful) = (Some(flight), Some(Box::new(item)));
        }
        self.store_trouble(context, error);
    }

    /// Tries again what the store could not do.
    pub(super) fn retry_store(&mut self, context: &Arc<Context>) {
        self.paused = false;
        match self.doubtful.take() {
            Some(item) => self.commit(context, *item),
            // An activity whose schedule could not be read waits nowhere.
            None => self.launch_known(context),
        }
    }

    /// Durable: answer, and let effects happen.
    fn committed(&mut self, context: &Arc<Context>, item: AppendItem, flight: Flight) {
        let Flight { row, effects, taken, replies, rode, ended, claims, acks, .. } = flight;
        let began = self.create.take().is_some();
        if began || item.successor.is_some() {
            context.metrics.started.add(u64::from(began) + u64::from(item.successor.is_some()));
        }
        let restated = self.row.as_ref().is_none_or(|before| before.status != row.status);
        self.row = Some(row);
        // Before anybody is answered: who was answered and follows then is not told of what it knows.
        context.changes.appended(self.run);
        if restated {
            context.changes.restated(self.run);
        }
        self.riding.drain(..rode.min(self.riding.len()));
        for incoming in taken {
            incoming.answer(Ok(()));
        }
        if item.image.is_some() {
            self.riding_image = None;
        }
        answer_all(replies, &Ok(()));
        acks.into_iter().for_each(|ack| ack.answer(Ok(())));
        self.apply_effects(context, effects);
        // A run that ended with this item has nothing to give away.
        for (request, row) in claims.into_iter().filter(|_| ended.is_none()) {
            self.claim_committed(context, request, row);
        }
        self.rows_committed(context, &item);
        if let Some(ended) = ended {
            self.note_end(context, &ended);
            self.close(context, &ended);
        }
        if let Some(next) = item.successor {
            context.changes.restated(next.run);
            context.registry.post(next.run, Message::Wake);
        }
        abort::point("after-dispatch");
        self.capture_if_due(context);
    }

    /// For those who watch: the run is over.
    fn note_end(&mut self, context: &Arc<Context>, ended: &Ended) {
        let Some(row) = &self.row else { return };
        context.metrics.ended(row.status, row.last_timestamp.since(row.started_at));
        if !traces::wanted() {
            return;
        }
        let (trace, before) = match &mut self.life {
            Some(life) => {
                let run = life.guest().cursor().run();
                (run.trace_id.clone(), run.continued_from)
            }
            // It ended cold: its first event knows.
            None => {
                let first = context.store.read_from(self.run, 1, 1).unwrap_or_default();
                let body = first.first().and_then(|event| event.decode().ok()).map(|event| event.body);
                (body.and_then(|body| body.trace_id), None)
            }
        };
        traces::run_ended(row, ended, trace.as_deref(), before);
    }

    fn apply_effects(&mut self, context: &Arc<Context>, effects: Effects) {
        if effects.exhausted > 0 {
            context.metrics.exhausted.add(effects.exhausted);
        }
        for no in effects.resolved {
            self.drop_task(context, no, false);
        }
        for timer in &effects.timers {
            self.timers.insert(timer.command_no);
        }
        context.timers.add(&effects.timers);
        for launch in effects.launches.into_values() {
            let no = launch.row.command_no;
            self.tasks.insert(no, Task::new(launch));
            self.launch(context, no);
        }
        for (no, anew) in effects.changed {
            self.task_changed(context, no, anew);
        }
        for (no, cancellation) in effects.abandoned {
            match cancellation {
                CancellationType::Wait => self.cancel_task(context, no),
                CancellationType::Try => self.drop_task(context, no, true),
                CancellationType::Abandon => self.drop_task(context, no, false),
            }
            self.timers.remove(&no);
        }
    }

    /// The run has ended: its tasks stop, its waiters hear of it, the cell may go.
    fn close(&mut self, context: &Arc<Context>, ended: &Ended) {
        context.waiters.end(self.run, ended);
        let error = self.error(ErrorKind::WorkflowExecution, "closed", "the execution has ended");
        self.let_go(context, &error);
    }

    /// Somebody appended in between.
    fn conflict(&mut self, context: &Arc<Context>, item: AppendItem, flight: Flight, tail: &[StoredEvent]) {
        if holds(tail, &item) {
            // A retry after a lost reply finds its own events; what others appended after them is still to be applied.
            let later = tail[item.events.len()..].to_vec();
            // Before anything of this run follows it.
            if let Some(feed) = &context.feed {
                feed.committed(&item);
            }
            self.committed(context, item, flight);
            return self.take_tail(context, &later);
        }
        let inbound = tail.iter().all(is_inbound);
        let rebase = inbound && flight.taken.is_empty() && item.create.is_none();
        let before = self.row.take();
        if !self.load_row_again(context, before.as_ref()) {
            let error = self.error(ErrorKind::EventStore, "store-unavailable", "the store cannot be read; try again");
            return self.take_back_flight(flight, Some(&error), true);
        }
        if rebase && let Some(row) = self.row.clone() {
            self.forget_known(tail);
            return self.renumber(context, item, flight, &row, tail);
        }
        self.take_back_flight(flight, None, true);
        self.forget_known(tail);
        if !inbound {
            self.reload_work(context);
        }
    }

    /// Somebody else, or this host itself in an item that it had given up, has done more than send messages: open work is
    /// what the store says. What runs goes on.
    fn reload_work(&mut self, context: &Arc<Context>) {
        let (tasks, timers) = match context.store.open_work(self.run) {
            Ok(work) => work,
            Err(error) => {
                tracing::warn!(run = self.run.0, %error, "open work cannot be read; the execution is let go of");
                self.lost = true;
                return;
            }
        };
        let open: BTreeSet<u64> = tasks.iter().map(|task| task.command_no).collect();
        let over: Vec<u64> = self.tasks.keys().filter(|no| !open.contains(no)).copied().collect();
        over.into_iter().for_each(|no| self.drop_task(context, no, true));
        for row in tasks {
            let known = self.tasks.get(&row.command_no).is_some_and(|task| task.row.attempt >= row.attempt);
            if !known {
                self.tasks.insert(row.command_no, Task::known(row));
            }
        }
        let fired = |no: u64| {
            let mut queued = self.queue.iter();
            queued.any(|i| i.body.command_no == Some(no) && i.body.event_type() == EventType::TimerFired)
        };
        let waiting: Vec<TimerRow> = timers.into_iter().filter(|timer| !fired(timer.command_no)).collect();
        self.timers = waiting.iter().map(|timer| timer.command_no).collect();
        context.timers.add(&waiting);
        self.launch_known(context);
    }

    /// The turn stands, only its numbers change: the tail holds inbound events that come after it for the guest.
    fn renumber(
        &mut self,
        context: &Arc<Context>,
        mut item: AppendItem,
        mut flight: Flight,
        row: &ExecutionRow,
        tail: &[StoredEvent],
    ) {
        let (mut hash, mut id, mut time) = (row.last_hash, row.last_event_id, row.last_timestamp);
        // Rows of earlier events (claims, retries) keep what they name.
        let before = std::mem::replace(&mut item.expected, id);
        let shift = tail.len() as u64;
        for event in &mut item.events {
            id += 1;
            time = time.max(event.timestamp);
            (event.event_id, event.timestamp) = (id, time);
            event.hash = event.expected_hash(&hash);
            hash = event.hash;
        }
        for task in item.put_tasks.iter_mut().filter(|t| t.event_id > before) {
            task.event_id += shift;
        }
        for launch in flight.effects.launches.values_mut() {
            launch.row.event_id += shift;
        }
        item.row.last_inbound_id = row.last_inbound_id;
        if self.life.is_some() {
            self.unapplied.extend(tail.iter().filter(|e| is_inbound(e)).filter_map(|e| e.decode().ok()));
        }
        flight.row.last_event_id = id;
        flight.row.last_hash = hash;
        flight.row.last_timestamp = time;
        flight.row.last_inbound_id = row.last_inbound_id;
        flight.row.history_bytes += row.history_bytes.saturating_sub(self.row.as_ref().map_or(0, |r| r.history_bytes));
        self.submit(context, item, flight);
    }

    /// Takes what others appended after our own events.
    fn take_tail(&mut self, context: &Arc<Context>, tail: &[StoredEvent]) {
        if tail.is_empty() || self.gone {
            return;
        }
        let before = self.row.take();
        if !self.load_row_again(context, before.as_ref()) || tail.iter().any(|e| !is_inbound(e)) {
            self.life = None;
            self.unapplied.clear();
        } else if self.life.is_some() {
            self.unapplied.extend(tail.iter().filter_map(|e| e.decode().ok()));
        }
    }

    /// Reads the row once more after a conflict.
    fn load_row_again(&mut self, context: &Arc<Context>, before: Option<&ExecutionRow>) -> bool {
        match context.store.execution(self.run) {
            Ok(Some(row)) => {
                self.row = Some(row);
                true
            }
            _ => {
                self.row = before.cloned();
                false
            }
        }
    }

    /// One of the messages was recorded before: with the whole item, whose reply was lost, or by an earlier request.
    /// That one is a success, and the others are tried without it.
    fn duplicate(&mut self, context: &Arc<Context>, item: AppendItem, key: &str, flight: Flight) {
        let known = flight.taken.iter().any(|i| i.body.inbound_key().as_deref() == Some(key));
        debug_assert!(known, "a duplicate is one of the item's own keys");
        match context.store.read_from(self.run, item.expected + 1, usize::MAX) {
            Ok(tail) if holds(&tail, &item) => self.conflict(context, item, flight, &tail),
            Ok(tail) => {
                self.take_back_flight(flight, None, false);
                self.forget_known(&tail);
                self.forget(|k| k == key);
            }
            Err(error) if flight.doubted => self.doubt(context, item, flight, &error),
            Err(error) => {
                self.take_back_flight(flight, Some(&self.store_error(&error)), true);
                self.store_trouble(context, &error);
            }
        }
    }

    /// What waits and stands in the tail was committed, and its reply lost.
    fn forget_known(&mut self, tail: &[StoredEvent]) {
        let keys: BTreeSet<String> =
            tail.iter().filter(|e| is_inbound(e)).filter_map(|e| e.decode().ok()?.body.inbound_key()).collect();
        if !keys.is_empty() {
            self.forget(|key| keys.contains(key));
        }
    }

    /// Answers what waits and is recorded already.
    fn forget(&mut self, recorded: impl Fn(&str) -> bool) {
        let mut rest = VecDeque::with_capacity(self.queue.len());
        for incoming in self.queue.drain(..) {
            if incoming.body.inbound_key().is_some_and(|key| recorded(&key)) {
                incoming.answer(Ok(()));
            } else {
                rest.push_back(incoming);
            }
        }
        self.queue = rest;
    }

    /// Throws the turn away. Requests from outside are answered with `error` if there is one; everything else waits.
    fn take_back_flight(&mut self, flight: Flight, error: Option<&Error>, plain: bool) {
        self.life = None;
        self.unapplied.clear();
        self.claims.extend(flight.claims.into_iter().map(|(request, _)| request));
        self.acks.extend(flight.acks);
        // What could not wait then still cannot.
        self.urgent |= !self.riding_tasks.is_empty();
        for incoming in flight.taken.into_iter().rev() {
            match error {
                Some(error) => incoming.refused(error).into_iter().for_each(|i| self.queue.push_front(i)),
                None => self.queue.push_front(incoming),
            }
        }
        if self.create.is_some() && self.queue.is_empty() {
            self.gone = true;
        }
        let busy = self.error(ErrorKind::Concurrency, "try-again", "the execution changed meanwhile; try again");
        answer_all(flight.replies, &Err(error.cloned().unwrap_or(busy)));
        self.plain_next = plain;
    }

    /// Nothing of it can be: everybody is told.
    fn refuse(&mut self, context: &Arc<Context>, flight: Flight, error: &Error) {
        for incoming in flight.taken {
            incoming.answer(Err(error.clone()));
        }
        answer_all(flight.replies, &Err(error.clone()));
        self.acks.extend(flight.acks);
        self.let_go(context, error);
    }

    pub(super) fn store_error(&self, error: &StoreError) -> Error {
        let code = match error.kind {
            StoreErrorKind::NoSpace => "no-space",
            StoreErrorKind::ReadOnly => "read-only",
            _ => "store-unavailable",
        };
        self.error(ErrorKind::EventStore, code, format!("the store cannot take it: {error}"))
    }

    /// The store has trouble: waits a while, and keeps what must not be lost.
    pub(super) fn store_trouble(&mut self, context: &Arc<Context>, error: &StoreError) {
        tracing::warn!(run = self.run.0, %error, "the store has trouble; trying again soon");
        // One more try is enough, however many things wait for it.
        if !self.gone && !std::mem::replace(&mut self.paused, true) {
            context.dispatcher.later(self.run, STORE_PAUSE, Message::Retry);
        }
    }
}

/// Whether the tail begins with the item's own events.
fn holds(tail: &[StoredEvent], item: &AppendItem) -> bool {
    let own = item.events.iter().zip(tail).all(|(a, b)| a.hash == b.hash);
    own && !item.events.is_empty() && item.events.len() <= tail.len()
}

fn is_inbound(event: &StoredEvent) -> bool {
    EventType::from_code(event.event_type).is_some_and(EventType::is_inbound)
}
