//! Deep checks: reliving a history and holding guest and memory images against it, byte for byte (I13).

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use relive_core::{
    Error, RunKey,
    event::{EventType, HistoryEvent},
    guest::Guest,
    life::{Record, TurnError},
    ports::{ExecutionRow, ListFilter, Status, StoredImage, WakingKit},
};

use super::{lookup::store_error, relive::record};
use crate::{
    context::Context,
    engine::Engine,
    message::Message,
    owner::{Laid, lay},
    views::VerifyReport,
};

/// How long a live guest's owner is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// Executions that the auditor lists at once.
const PAGE: usize = 100;

/// Why two memories are not one.
fn difference(image: &[u8], relived: &[u8]) -> Option<String> {
    if image.len() != relived.len() {
        return Some(format!("the image has {} bytes of memory, the relived guest {}", image.len(), relived.len()));
    }
    let at = image.iter().zip(relived).position(|(a, b)| a != b)?;
    let differing = image.iter().zip(relived).filter(|(a, b)| a != b).count();
    Some(format!("{differing} bytes of its memory differ from the relived guest's, the first at {at:#x}"))
}

impl Engine {
    /// Relives the whole history and holds every image of it against the relived guest. Gives what was found.
    pub(crate) fn check_deep(&self, row: &ExecutionRow, report: &mut VerifyReport) -> Result<Option<String>, Error> {
        let images = self.images_of(row)?;
        // Read after the images were made, so that it reaches as far as they do.
        let Some(row) = self.context.store.execution(row.key).map_err(store_error)? else {
            return Ok(Some("the row is gone".to_owned()));
        };
        let events = self.decoded(&row)?;
        report.relived += 1;
        if row.status != Status::Blocked
            && let Err(error) = self.relive_to(&row, &events, record(&row))?
        {
            return Ok(Some(format!("I5: {error}")));
        }
        // Those of the code that it was on before are laid no more.
        let moved = events.iter().rev().find(|e| e.event_type() == EventType::VersionChanged).map_or(0, |e| e.event_id);
        for image in images.into_iter().filter(|image| image.event_id >= moved) {
            if let Some(what) = self.check_image(&row, &events, &image)? {
                return Ok(Some(format!("I13: the image through event {}: {what}", image.event_id)));
            }
            report.images += 1;
        }
        Ok(None)
    }

    /// The images that there are of a run: of its live guest now, in memory, and in the store.
    fn images_of(&self, row: &ExecutionRow) -> Result<Vec<StoredImage>, Error> {
        let context = &self.context;
        let mut images: Vec<StoredImage> = self.live_image(row.key).into_iter().collect();
        images.extend(context.images.get(row.key));
        let mut through = u64::MAX;
        while let Some(image) = context.images.store.image(row.key, through).map_err(store_error)? {
            through = image.event_id.saturating_sub(1);
            images.push(image);
        }
        images.dedup();
        Ok(images)
    }

    /// An image of the live guest, if there is one that waits.
    fn live_image(&self, run: RunKey) -> Option<StoredImage> {
        let (reply, answer) = crossbeam_channel::bounded(1);
        self.context.registry.post_if_present(run, Message::Capture(reply));
        answer.recv_timeout(PATIENCE).ok().flatten()
    }

    fn check_image(
        &self,
        row: &ExecutionRow,
        events: &[HistoryEvent],
        image: &StoredImage,
    ) -> Result<Option<String>, Error> {
        let Laid { mut life, image: header, .. } =
            match lay(&*self.context.store, &*self.context.guests, row, &image.bytes, &WakingKit::default()) {
                Ok(laid) => laid,
                Err(error) => return Ok(Some(error.to_string())),
            };
        let covered = usize::try_from(header.event_id).unwrap_or(usize::MAX).min(events.len());
        let record = Record::Complete { applied_through: header.cursor.last_applied, commands: header.cursor.issued };
        let mut relived = match self.relive_to(row, &events[..covered], record)? {
            Ok(relived) => relived,
            Err(error) => return Ok(Some(format!("its place cannot be relived: {error}"))),
        };
        if relived.guest().cursor().state().as_ref() != Some(&header.cursor) {
            return Ok(Some("the host's side of it differs from the relived one".to_owned()));
        }
        let (Some(image), Some(memory)) = (life.guest().memory(), relived.guest().memory()) else {
            return Ok(Some("there is no memory to compare".to_owned()));
        };
        Ok(difference(image, memory))
    }

    fn relive_to(
        &self,
        row: &ExecutionRow,
        events: &[HistoryEvent],
        record: Record,
    ) -> Result<Result<relive_core::life::Life<Box<dyn Guest>>, TurnError>, Error> {
        let mut life = self.shadow(row, events, None)?.life;
        Ok(life.relive(events, record, u64::MAX).map(|_| life))
    }
}

/// The background auditor: deep checks of open executions, `per_minute` of them, round and round, until `stop`.
pub(crate) fn audit(engine: &Engine, per_minute: u32, stop: &dyn Fn() -> bool) {
    let pause = Duration::from_secs(60) / per_minute.max(1);
    let mut before = None;
    while !stop() {
        let filter = ListFilter { status: Some(Status::Running), ..ListFilter::default() };
        let rows = engine.context.store.list(&filter, before, PAGE).unwrap_or_default();
        before = rows.last().map(|row| row.key).filter(|_| rows.len() == PAGE);
        for row in &rows {
            rest(pause, stop);
            if stop() {
                return;
            }
            audit_one(&engine.context, engine, row);
        }
        if rows.is_empty() {
            rest(pause, stop);
        }
    }
}

fn audit_one(context: &Arc<Context>, engine: &Engine, row: &ExecutionRow) {
    let mut report = VerifyReport::default();
    context.stats.audited.fetch_add(1, Ordering::Relaxed);
    match engine.check_deep(row, &mut report) {
        Ok(None) => {}
        Ok(Some(finding)) => {
            context.stats.audit_findings.fetch_add(1, Ordering::Relaxed);
            tracing::error!(execution = %row.execution, %finding, "the auditor found a difference");
        }
        Err(error) => tracing::warn!(execution = %row.execution, %error, "the auditor could not check an execution"),
    }
}

fn rest(pause: Duration, stop: &dyn Fn() -> bool) {
    let until = Instant::now() + pause;
    while Instant::now() < until && !stop() {
        std::thread::sleep(Duration::from_millis(50).min(pause));
    }
}
