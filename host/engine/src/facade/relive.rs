//! Reliving for people: replay without effects, and the state at any event.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use relive_core::{
    Digest, Error, ErrorKind, HistoryEvent, Json,
    cursor::{Cursor, Open, RunContext},
    event::Attributes,
    guest::Guest,
    life::{Life, Record, TurnError},
    ports::{ExecutionRow, WakingKit},
};

use super::{lookup::store_error, steps::steps};
use crate::{
    engine::Engine,
    owner::{BoxedLife, Laid, lay},
    requests::Target,
    views::{OpenPromise, ReplayReport, StateView, UnreadMessage},
};

type Values = BTreeMap<String, Json>;

/// A shadow of an execution: the same history, no effects.
pub(crate) struct Shadow {
    pub life: Life<Box<dyn Guest>>,
    digest: Digest,
}

impl Engine {
    /// Relives an execution without effects, under its own code or `wasm`, up to event `to`.
    pub async fn replay(&self, target: Target, wasm: Option<Vec<u8>>, to: Option<u64>) -> Result<ReplayReport, Error> {
        self.blocking(move |engine| {
            let row = engine.find(&target)?;
            let started = Instant::now();
            let events = engine.decoded(&row)?;
            let mut shadow = engine.shadow(&row, &events, wasm.as_deref())?;
            let outcome = shadow.life.relive(&events, record(&row), to.unwrap_or(u64::MAX));
            let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
            let mut report = ReplayReport {
                workflow_id: row.execution.workflow_id.to_string(),
                run_id: row.execution.run_id,
                digest: shadow.digest,
                agrees: outcome.is_ok(),
                events: events.len().min(usize::try_from(to.unwrap_or(u64::MAX)).unwrap_or(usize::MAX)) as u64,
                applied: 0,
                commands: shadow.life.guest().cursor().issued(),
                micros,
                divergence: None,
                fault: None,
                memory: shadow.life.guest().memory().map(|m| Digest::of(m).to_string()),
            };
            match outcome {
                Ok(relived) => report.applied = relived.events,
                Err(TurnError::Diverged(divergence)) => report.divergence = Some(*divergence),
                Err(error) => report.fault = Some(error.to_string()),
            }
            Ok(report)
        })
        .await
    }

    /// The state of an execution once the events up to `at` were applied; now, if it is not given.
    pub async fn state(&self, target: Target, at: Option<u64>) -> Result<StateView, Error> {
        self.blocking(move |engine| {
            let row = engine.find(&target)?;
            let events = engine.decoded(&row)?;
            let at = at.unwrap_or(u64::MAX).min(row.last_event_id);
            if at == 0 {
                return Err(Error::new(
                    ErrorKind::Validation,
                    "invalid-argument",
                    "events are numbered from 1; there is no state at 0",
                ));
            }
            let seen = &events[..usize::try_from(at).unwrap_or(usize::MAX).min(events.len())];
            if let Some((mut life, published)) = engine.stand_from_image(&row, at)? {
                return Ok(view(&row, at, seen, &mut life, published));
            }
            let mut life = engine.shadow(&row, &events, None)?.life;
            life.guest().cursor().collect();
            let relived = life.relive(&events, record(&row), at);
            let relived = relived
                .map_err(|e| Error::new(ErrorKind::Replay, "replay-failed", e.to_string()).at(&row.execution))?;
            Ok(view(&row, at, seen, &mut life, relived.output.published))
        })
        .await
    }

    /// The guest at event `at` from the nearest stored image, with what was published by then. `None` where no image
    /// fits, or where a value was published later: then only reliving knows what stood there before.
    fn stand_from_image(&self, row: &ExecutionRow, at: u64) -> Result<Option<(BoxedLife, Values)>, Error> {
        let context = &self.context;
        let Some(image) = context.images.store.image(row.key, at).map_err(store_error)? else {
            return Ok(None);
        };
        let published = context.store.published(row.key, None).map_err(store_error)?;
        if published.iter().any(|p| p.event_id > at) {
            return Ok(None);
        }
        let laid = lay(&*context.store, &*context.guests, row, &image.bytes, &WakingKit::default());
        let caught_up = laid.map_err(|e| e.to_string()).and_then(|Laid { mut life, tail, .. }| {
            life.relive_tail(&tail, record(row), at).map(|_| life).map_err(|e| e.to_string())
        });
        match caught_up {
            Ok(life) => Ok(Some((life, published.into_iter().map(|p| (p.key, p.value)).collect()))),
            Err(error) => {
                tracing::warn!(execution = %row.execution, through = image.event_id, %error, "a memory image is ignored");
                Ok(None)
            }
        }
    }

    /// An instance that has not begun, under the execution's code or `wasm`.
    pub(crate) fn shadow(
        &self,
        row: &ExecutionRow,
        events: &[HistoryEvent],
        wasm: Option<&[u8]>,
    ) -> Result<Shadow, Error> {
        let unusable = |what: String| Error::new(ErrorKind::Replay, "replay-failed", what).at(&row.execution);
        let Some(start) = events.first() else {
            return Err(unusable("the history is empty".to_owned()));
        };
        let Attributes::ExecutionStarted(started) = &start.body.attributes else {
            return Err(unusable("the history does not begin with ExecutionStarted".to_owned()));
        };
        let digest = match wasm {
            Some(bytes) => self.context.guests.admit(bytes)?.digest,
            None => row.digest,
        };
        let cursor = Cursor::new(Arc::new(RunContext::new(started, &start.body, start.timestamp, digest)));
        let guest = match wasm {
            Some(bytes) => self.context.guests.instantiate_bytes(bytes, cursor),
            None => self.context.guests.instantiate(&digest, cursor),
        };
        Ok(Shadow { life: Life::new(guest.map_err(|e| unusable(e.to_string()))?), digest })
    }
}

/// The record that a row is of its history.
pub(crate) fn record(row: &ExecutionRow) -> Record {
    Record::Complete { applied_through: row.applied_through, commands: row.command_count }
}

/// What a guest waits for, with the names that the events have for it.
pub(crate) fn open_promises(cursor: &Cursor, seen: &[HistoryEvent]) -> Vec<OpenPromise> {
    let name = |no: u64| {
        let named = |e: &HistoryEvent| match &e.body.attributes {
            Attributes::TaskScheduled(scheduled) if e.body.command_no == Some(no) => Some(scheduled.name.to_string()),
            _ => None,
        };
        seen.iter().find_map(named).unwrap_or_default()
    };
    let promise = |(no, open): (&u64, &Open)| match open {
        Open::Activity { .. } => OpenPromise { promise: *no, kind: "activity", name: name(*no) },
        Open::Timer => OpenPromise { promise: *no, kind: "timer", name: name(*no) },
        Open::Message { channel } => OpenPromise { promise: *no, kind: "message", name: channel.to_string() },
    };
    cursor.open().iter().map(promise).collect()
}

fn view(row: &ExecutionRow, at: u64, seen: &[HistoryEvent], life: &mut BoxedLife, published: Values) -> StateView {
    let steps = steps(seen);
    let outcome = life.outcome().map(|o| o.describe());
    let cursor = life.guest().cursor();
    let open_promises = open_promises(cursor, seen);
    let unread = cursor.unread().iter().flat_map(|(channel, queue)| {
        queue.iter().map(|m| UnreadMessage {
            channel: channel.to_string(),
            message_id: m.message_id.to_string(),
            event_id: m.order.0,
        })
    });
    StateView {
        workflow_id: row.execution.workflow_id.to_string(),
        run_id: row.execution.run_id,
        at,
        now: cursor.now(),
        open_promises,
        unread_messages: unread.collect(),
        published,
        outcome,
        steps,
    }
}
