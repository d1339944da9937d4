//! Memory images of an execution: taken of a guest that waits, and laid to wake one without its history.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use relive_core::{
    codec::StoredEvent,
    cursor::{Cursor, RunContext},
    event::{Attributes, EventBody, EventType, HistoryEvent, SnapshotCreated, SnapshotDiscarded},
    guest::{GuestFault, NotLaid},
    history::{Violation, check_chain},
    image::{Image, ImageError, ImageHeader},
    life::{Life, Record, TurnError},
    ports::{ExecutionRow, HistoryStore, StoreError, StoredImage, WakingKit},
};

use super::{BoxedLife, Owner, load::read_tail};
use crate::{abort, context::Context, guests::GuestFactory};

/// Why an image was not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ignored {
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error("it belongs to another run, other code, or another history")]
    Foreign,
    #[error("the history behind it does not chain to it: {0}")]
    Chain(#[from] Violation),
    #[error(transparent)]
    NotLaid(#[from] NotLaid),
    #[error("the tail does not fit: {0}")]
    Tail(#[from] TurnError),
    #[error("the store cannot be read: {0}")]
    Store(#[from] StoreError),
}

/// A guest that was laid, and the events that came after it.
pub(crate) struct Laid {
    pub life: BoxedLife,
    pub image: ImageHeader,
    /// Events behind the image, up to the row's last.
    pub tail: Vec<HistoryEvent>,
}

/// Lays an image of the run that `row` describes. Nothing of the tail is applied. What the kit does not have is read.
pub(crate) fn lay(
    store: &dyn HistoryStore,
    guests: &dyn GuestFactory,
    row: &ExecutionRow,
    bytes: &[u8],
    kit: &WakingKit,
) -> Result<Laid, Ignored> {
    let Image { header, body } = Image::decode(bytes)?;
    if header.run_id != row.execution.run_id || header.digest != row.digest || header.event_id > row.last_event_id {
        return Err(Ignored::Foreign);
    }
    let tail = if header.event_id < row.last_event_id {
        let mut tail = match kit.behind(header.event_id, row.last_event_id) {
            Some(tail) => tail.to_vec(),
            None => read_tail(store, row.key, header.event_id + 1)?,
        };
        tail.truncate(usize::try_from(row.last_event_id - header.event_id).unwrap_or(usize::MAX));
        check_chain(&tail, header.event_id, &header.hash)?;
        tail
    } else {
        Vec::new()
    };
    if tail.last().map_or(header.hash, |last| last.hash) != row.last_hash {
        return Err(Ignored::Foreign);
    }
    // Of the same code, before the run went to another and came back.
    if tail.iter().any(|e| e.event_type == EventType::VersionChanged.code()) {
        return Err(Ignored::Foreign);
    }
    let decode = |e: &StoredEvent| e.decode().map_err(|error| Violation::Undecodable { event: e.event_id, error });
    let tail = tail.iter().map(decode).collect::<Result<Vec<_>, _>>()?;
    let start = match kit.first() {
        Some(first) => decode(first)?,
        None => store.read_from(row.key, 1, 1)?.first().map(decode).transpose()?.ok_or(Ignored::Foreign)?,
    };
    let Attributes::ExecutionStarted(started) = &start.body.attributes else {
        return Err(Ignored::Foreign);
    };
    let run = Arc::new(RunContext::new(started, &start.body, start.timestamp, row.digest));
    let mut bodies: BTreeMap<u64, EventBody> = BTreeMap::new();
    let unread: BTreeSet<u64> = header.cursor.unread.iter().map(|(id, _)| *id).collect();
    for id in unread {
        if let Some(event) = store.read_from(row.key, id, 1)?.first() {
            bodies.insert(id, decode(event)?.body);
        }
    }
    let cursor = Cursor::restore(run, &header.cursor, &bodies).map_err(|_| Ignored::Foreign)?;
    let guest = guests.lay(&row.digest, cursor, &header.guest, &body)?;
    Ok(Laid { life: Life::new(guest), image: header, tail })
}

impl Owner {
    /// Wakes the guest from its newest image. False: there is none that fits, so it relives.
    pub(super) fn wake_from_image(&mut self, context: &Arc<Context>, kit: &WakingKit) -> bool {
        if context.images.config.every == 0 {
            return false;
        }
        let Some(row) = self.row.clone() else { return false };
        let started = Instant::now();
        let kept = context.images.get(self.run);
        let newest = match kept.or_else(|| kit.image.clone()) {
            Some(image) => Some(image),
            // The store was asked, and knew of none.
            None if kit.covered == 0 && kit.first().is_some() => None,
            None => context.images.store.image(self.run, row.last_event_id).unwrap_or_else(|error| {
                tracing::warn!(run = self.run.0, %error, "a memory image cannot be read");
                None
            }),
        };
        let Some(image) = newest else { return false };
        abort::point("inside-recovery");
        match self.lay_and_catch_up(context, &row, &image, kit) {
            Ok(()) => {
                let stats = &context.images.stats;
                stats.laid.fetch_add(1, Ordering::Relaxed);
                let nanos = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
                stats.laid_nanos.fetch_add(nanos, Ordering::Relaxed);
                self.image_at = image.event_id;
                true
            }
            Err(error) => {
                self.ignore_image(context, &image, &error);
                false
            }
        }
    }

    fn lay_and_catch_up(
        &mut self,
        context: &Arc<Context>,
        row: &ExecutionRow,
        image: &StoredImage,
        kit: &WakingKit,
    ) -> Result<(), Ignored> {
        let Laid { mut life, tail, .. } = lay(&*context.store, &*context.guests, row, &image.bytes, kit)?;
        abort::point("image-laid");
        let (applied_through, commands) = (row.applied_through, row.command_count);
        life.relive_tail(&tail, Record::Complete { applied_through, commands }, u64::MAX)?;
        self.unapplied =
            tail.into_iter().filter(|e| e.event_id > applied_through && e.event_type().is_inbound()).collect();
        self.life = Some(life);
        Ok(())
    }

    fn ignore_image(&mut self, context: &Arc<Context>, image: &StoredImage, error: &Ignored) {
        tracing::warn!(run = self.run.0, through = image.event_id, %error, "a memory image is ignored; the execution relives");
        context.images.stats.ignored.fetch_add(1, Ordering::Relaxed);
        context.images.forget(self.run);
        if matches!(error, Ignored::Store(_)) {
            return;
        }
        if let Err(error) = context.images.store.discard_image(self.run, image.event_id) {
            tracing::warn!(run = self.run.0, %error, "a memory image cannot be deleted");
        }
        self.riding
            .push(EventBody::new(None, SnapshotDiscarded { through: image.event_id, reason: error.to_string() }));
    }

    /// An image of the guest as it waits now; `None` if it does not, or cannot be kept as one.
    pub(super) fn capture(&mut self, context: &Arc<Context>) -> Option<StoredImage> {
        if context.images.config.every == 0 {
            return None;
        }
        let (row, life) = (self.row.as_ref()?, self.life.as_mut()?);
        let cursor = life.guest().cursor();
        let settled = self.flight.is_none()
            && self.unapplied.is_empty()
            && row.applied_through == row.last_inbound_id
            && row.applied_through == cursor.last_applied()
            && row.command_count == cursor.issued();
        let state = cursor.state().filter(|_| settled && life.outcome().is_none())?;
        let started = Instant::now();
        match life.guest().capture() {
            Ok(Some(captured)) => {
                let header = ImageHeader {
                    run_id: row.execution.run_id,
                    digest: row.digest,
                    event_id: row.last_event_id,
                    hash: row.last_hash,
                    cursor: state,
                    guest: captured.stamp,
                };
                let bytes = Image { header, body: captured.body }.encode().ok()?;
                context.images.captured(bytes.len(), u64::try_from(started.elapsed().as_nanos()).unwrap_or(0));
                self.image_at = row.last_event_id;
                Some(StoredImage { run: self.run, event_id: row.last_event_id, bytes: bytes.into() })
            }
            Ok(None) => None,
            Err(fault) => {
                self.lost_in_capture(&fault);
                None
            }
        }
    }

    fn lost_in_capture(&mut self, fault: &GuestFault) {
        tracing::warn!(run = self.run.0, %fault, "no memory image could be taken; the execution relives");
        self.life = None;
        self.unapplied.clear();
    }

    /// After a commit: every so many events an image rides on the next one.
    pub(super) fn capture_if_due(&mut self, context: &Arc<Context>) {
        let every = context.images.config.every;
        let last = self.row.as_ref().map_or(0, |row| row.last_event_id);
        if every == 0 || last < self.image_at + every {
            return;
        }
        // Also where there can be none: it is not asked again before as many events more.
        self.image_at = last;
        if let Some(image) = self.capture(context) {
            let created = SnapshotCreated { through: image.event_id, bytes: image.bytes.len() as u64 };
            self.riding.push(EventBody::new(None, created));
            context.images.keep(image.clone(), true);
            self.riding_image = Some(image);
        }
    }

    /// Lets go of the live guest; its image stays, in memory or in the store.
    pub(super) fn go_cold(&mut self, context: &Arc<Context>) {
        if let Some(image) = self.capture(context) {
            context.images.keep(image, false);
        }
        self.life = None;
    }
}
