//! Bringing an execution into memory: its row and open work, and its guest by reliving.

use std::{
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
    ports::{AppendError, HistoryStore, StoreError, StoreErrorKind, Taken},
};

use super::{Owner, tasks::Task};
use crate::{abort, context::Context, facade::place::not_owner};

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

impl Owner {
    /// Makes sure that the row is in memory. False: there is none, or the store cannot say; everybody was told.
    pub(super) fn load_row(&mut self, context: &Arc<Context>) -> bool {
        if self.row.is_some() || self.create.is_some() {
            return true;
        }
        match context.store.take(self.run, self.epoch) {
            Ok(Some(Taken { row, tasks, timers })) => {
                self.row = Some(row);
                self.timers = timers.into_iter().map(|t| t.command_no).collect();
                for row in tasks {
                    self.tasks.insert(row.command_no, Task::known(row));
                }
                self.launch_known(context);
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
        if self.wake_from_image(context) { Ok(()) } else { self.relive(context) }
    }

    fn relive(&mut self, context: &Arc<Context>) -> Result<(), TurnError> {
        let Some(row) = &self.row else { return Ok(()) };
        let started = Instant::now();
        let (applied_through, commands) = (row.applied_through, row.command_count);
        let mut events = decoded_history(&*context.store, self.run)
            .map_err(|e| TurnError::Fault(GuestFault::Host(format!("read the history: {e}"))))?
            .map_err(|violation| TurnError::Unusable(violation.to_string()))?;
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
