//! Bringing an execution into memory: its row and open work, and its guest by reliving.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use relive_core::{
    ErrorKind, RunKey,
    canonical_hash::GENESIS,
    codec::StoredEvent,
    cursor::{Cursor, RunContext},
    event::{Attributes, HistoryEvent},
    guest::GuestFault,
    history::{Violation, check_chain},
    life::{Life, Record, TurnError},
    ports::{AppendError, ExecutionRow, HistoryStore, Prepared, StoreError, StoreErrorKind, Taken, WakingKit, Wanted},
};

use super::{Owner, tasks::Task};
use crate::{abort, context::Context, facade::place::not_owner, loader::Loaded, message::Message};

/// Events that are read at once.
const PAGE: usize = 4_096;

/// Reads a whole history as it is stored.
pub(crate) fn read_history(store: &dyn HistoryStore, run: RunKey) -> Result<Vec<StoredEvent>, StoreError> {
    read_tail(store, run, 1)
}

/// A whole history, checked and decoded page by page: what is stored is not held beside it.
pub(crate) fn decoded_history(
    store: &dyn HistoryStore,
    run: RunKey,
) -> Result<Result<Vec<HistoryEvent>, Violation>, StoreError> {
    let mut events: Vec<HistoryEvent> = Vec::new();
    let mut hash = GENESIS;
    loop {
        let page = store.read_from(run, events.len() as u64 + 1, PAGE)?;
        if let Err(violation) = check_chain(&page, events.len() as u64, &hash) {
            return Ok(Err(violation));
        }
        for stored in &page {
            match stored.decode() {
                Ok(event) => events.push(event),
                Err(error) => return Ok(Err(Violation::Undecodable { event: stored.event_id, error })),
            }
        }
        hash = page.last().map_or(hash, |last| last.hash);
        if page.len() < PAGE {
            return Ok(Ok(events));
        }
    }
}

/// Checks and decodes a history from its first event on.
fn decoded(stored: &[StoredEvent]) -> Result<Vec<HistoryEvent>, Violation> {
    check_chain(stored, 0, &GENESIS)?;
    let decode = |e: &StoredEvent| e.decode().map_err(|error| Violation::Undecodable { event: e.event_id, error });
    stored.iter().map(decode).collect()
}

/// Reads a history from event `from` on.
pub(crate) fn read_tail(store: &dyn HistoryStore, run: RunKey, from: u64) -> Result<Vec<StoredEvent>, StoreError> {
    let mut events = store.read_from(run, from, PAGE)?;
    let mut page = events.len();
    while page == PAGE {
        let more = store.read_from(run, events.last().map_or(1, |e| e.event_id + 1), PAGE)?;
        page = more.len();
        events.extend(more);
    }
    Ok(events)
}

/// A row that the loader was asked for.
#[derive(Default)]
pub(super) struct Loading {
    /// What arrived since; it begins with what the row was asked for.
    waiting: VecDeque<Message>,
    asked: bool,
    /// The loader could not tell: the owner reads for itself.
    alone: bool,
}

impl Loading {
    pub(super) fn is_asked(&self) -> bool {
        self.asked
    }

    pub(super) fn give_up(&mut self) -> VecDeque<Message> {
        self.asked = false;
        std::mem::take(&mut self.waiting)
    }
}

impl Owner {
    /// Gives back a message that can be taken now. Others wait until the loader has told of the row.
    pub(super) fn wait_for_row(&mut self, context: &Context, message: Message) -> Option<Message> {
        if !self.loading.asked {
            let needless = self.row.is_some() || self.create.is_some() || self.loading.alone || message.needs_no_row();
            let loader = context.loader.as_ref().filter(|_| !needless);
            let Some(loader) = loader else { return Some(message) };
            let guest = message.needs_guest().then(|| context.images.covered(self.run));
            self.loading.asked = true;
            context.stats.loading.fetch_add(1, Ordering::AcqRel);
            loader.ask(Wanted { run: self.run, epoch: self.epoch, guest });
        }
        // In the order in which they came, but for what must not wait.
        if message.needs_no_row() && !matches!(message, Message::Start { .. }) {
            return Some(message);
        }
        self.loading.waiting.push_back(message);
        None
    }

    /// The loader's answer: what waited is next.
    pub(super) fn loaded(&mut self, context: &Arc<Context>, loaded: Loaded, messages: &mut VecDeque<Message>) {
        // Asked for by an owner that was let go since: this one has asked for itself.
        if !self.loading.asked || loaded.epoch != self.epoch {
            return;
        }
        for message in self.loading.give_up().into_iter().rev() {
            messages.push_front(message);
        }
        match loaded.prepared {
            // Read meanwhile, for what could not wait.
            _ if self.row.is_some() => {}
            Some(Prepared { taken, kit }) => {
                self.kit = kit;
                self.took(context, taken);
            }
            None => self.loading.alone = true,
        }
    }

    fn took(&mut self, context: &Arc<Context>, taken: Taken) {
        self.row = Some(taken.row);
        // Those that are due fire now: their messages may have come while the row could not be read.
        let now = context.clock.now();
        let (due, waiting): (Vec<_>, Vec<_>) = taken.timers.into_iter().partition(|timer| timer.deadline <= now);
        self.timers = waiting.iter().map(|timer| timer.command_no).collect();
        // They may have been committed by an item whose answer was lost.
        context.timers.add(&waiting);
        due.iter().for_each(|timer| self.fire(context, timer.command_no, timer.deadline));
        for row in taken.tasks {
            self.tasks.insert(row.command_no, Task::known(row));
        }
        self.launch_known(context);
    }

    /// Makes sure that the row is in memory. False: there is none, or the store cannot say; everybody was told.
    pub(super) fn load_row(&mut self, context: &Arc<Context>) -> bool {
        if self.row.is_some() || self.create.is_some() {
            return true;
        }
        match context.store.take(self.run, self.epoch) {
            Ok(Some(taken)) => {
                self.took(context, taken);
                true
            }
            Ok(None) => {
                let error = self.error(ErrorKind::EventStore, "unknown-execution", "there is no such run");
                self.let_go(context, &error);
                false
            }
            // A later owner was here: this host has not heard of it yet.
            Err(AppendError::Fenced { .. }) => {
                self.let_go(context, &not_owner(&context.ownership));
                false
            }
            Err(error) => {
                let error = match error {
                    AppendError::Backend(error) => error,
                    other => StoreError::new(StoreErrorKind::Fatal, other.to_string()),
                };
                let answer = self.store_error(&error);
                self.queue = self.queue.drain(..).filter_map(|incoming| incoming.refused(&answer)).collect();
                self.store_trouble(context, &error);
                false
            }
        }
    }

    /// A cursor and an instance for the run that `start` began.
    fn instantiate(&self, context: &Arc<Context>, start: &HistoryEvent) -> Result<super::BoxedLife, TurnError> {
        let Attributes::ExecutionStarted(started) = &start.body.attributes else {
            return Err(TurnError::Unusable("it does not begin with ExecutionStarted".to_owned()));
        };
        let digest = self.row.as_ref().map_or(started.digest, |row| row.digest);
        let run = RunContext::new(started, &start.body, start.timestamp, digest);
        let guest = context.guests.instantiate(&digest, Cursor::new(Arc::new(run))).map_err(TurnError::Fault)?;
        Ok(Life::new(guest))
    }

    /// The life of a run that begins now.
    pub(super) fn begin_life(&mut self, context: &Arc<Context>, start: &HistoryEvent) -> Result<(), TurnError> {
        self.life = Some(self.instantiate(context, start)?);
        Ok(())
    }

    /// Wakes the guest: from its image, or by reliving the committed history. What was committed and not applied waits
    /// in `unapplied`.
    pub(super) fn wake(&mut self, context: &Arc<Context>) -> Result<(), TurnError> {
        let kit = self.kit.take().unwrap_or_default();
        if self.wake_from_image(context, &kit) { Ok(()) } else { self.relive(context, &kit) }
    }

    /// The committed history: out of the kit, if it has all of it.
    fn history(&self, context: &Context, row: &ExecutionRow, kit: &WakingKit) -> Result<Vec<HistoryEvent>, TurnError> {
        let events = match kit.behind(0, row.last_event_id) {
            Some(stored) => decoded(stored),
            None => decoded_history(&*context.store, self.run)
                .map_err(|error| TurnError::Fault(GuestFault::unread("read the history", &error)))?,
        };
        events.map_err(|violation| TurnError::Unusable(violation.to_string()))
    }

    fn relive(&mut self, context: &Arc<Context>, kit: &WakingKit) -> Result<(), TurnError> {
        let Some(row) = &self.row else { return Ok(()) };
        let started = Instant::now();
        let (applied_through, commands) = (row.applied_through, row.command_count);
        let mut events = self.history(context, row, kit)?;
        // What others appended since the row was read comes as the tail of the next append's conflict.
        events.truncate(usize::try_from(row.last_event_id).unwrap_or(usize::MAX));
        let Some(start) = events.first() else {
            return Err(TurnError::Unusable("it is empty".to_owned()));
        };
        if events.last().is_some_and(|last| last.hash != row.last_hash) {
            return Err(TurnError::Unusable("its last hash is not the row's".to_owned()));
        }
        let mut life = self.instantiate(context, start)?;
        abort::point("inside-recovery");
        let relived = life.relive(&events, Record::Complete { applied_through, commands }, u64::MAX)?;
        self.unapplied =
            events.into_iter().filter(|e| e.event_id > applied_through && e.event_type().is_inbound()).collect();
        self.life = Some(life);
        let stats = &context.stats;
        if relived.events > 0 {
            stats.relives.fetch_add(1, Ordering::Relaxed);
            stats.relived_events.fetch_add(relived.events, Ordering::Relaxed);
            context.metrics.replays.took(started.elapsed());
            let nanos = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
            stats.relive_nanos.fetch_add(nanos, Ordering::Relaxed);
        }
        Ok(())
    }
}
