//! Cold memory images: in memory up to a bound, then in the store. A cache: what is lost here relives.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crossbeam_channel::{Receiver, Sender};
use lru::LruCache;
use parking_lot::Mutex;
use relive_core::{
    RunKey,
    ports::{ImageStore, StoredImage},
};

use crate::{abort, views::ImageStatus};

/// Images that are saved at once.
const MAX_BATCH: usize = 256;
/// Images that wait to be saved; then owners wait, so that memory stays bounded.
const BACKLOG: usize = 1_024;
/// Bytes that an entry costs beside its image.
const ENTRY_BYTES: usize = 160;

/// When images are made, and how much of them stays in memory.
#[derive(Clone, Copy, Debug)]
pub struct ImageConfig {
    /// An image of a live guest is stored whenever this many events were added; 0: there are no images at all.
    pub every: u64,
    /// Bytes of images in memory; more go to the store.
    pub memory_bytes: usize,
}

impl Default for ImageConfig {
    fn default() -> Self {
        Self { every: 100, memory_bytes: 256 << 20 }
    }
}

/// Numbers for operators and benchmarks.
#[derive(Debug, Default)]
pub(crate) struct ImageStats {
    pub captured: AtomicU64,
    pub captured_bytes: AtomicU64,
    pub capture_nanos: AtomicU64,
    /// Guests that were laid.
    pub laid: AtomicU64,
    pub laid_nanos: AtomicU64,
    /// Images that did not fit.
    pub ignored: AtomicU64,
}

struct Kept {
    event_id: u64,
    bytes: Arc<[u8]>,
    /// The store has it.
    stored: bool,
}

struct Shelf {
    images: LruCache<RunKey, Kept>,
    bytes: usize,
    /// On their way to the store.
    leaving: HashMap<RunKey, StoredImage>,
}

pub(crate) struct Images {
    pub config: ImageConfig,
    pub stats: ImageStats,
    pub store: Arc<dyn ImageStore>,
    shelf: Mutex<Shelf>,
    spill: Sender<StoredImage>,
}

impl Images {
    /// The images, and what is to be saved: for [`save`].
    pub fn new(config: ImageConfig, store: Arc<dyn ImageStore>) -> (Self, Receiver<StoredImage>) {
        let (spill, spilled) = crossbeam_channel::bounded(BACKLOG);
        let shelf = Mutex::new(Shelf { images: LruCache::unbounded(), bytes: 0, leaving: HashMap::new() });
        (Self { config, stats: ImageStats::default(), store, shelf, spill }, spilled)
    }

    /// Keeps an image; those used least go to the store.
    pub fn keep(&self, image: StoredImage, stored: bool) {
        let mut spilled = Vec::new();
        {
            let mut shelf = self.shelf.lock();
            shelf.bytes += image.bytes.len() + ENTRY_BYTES;
            let kept = Kept { event_id: image.event_id, bytes: image.bytes, stored };
            if let Some(before) = shelf.images.put(image.run, kept) {
                shelf.bytes -= before.bytes.len() + ENTRY_BYTES;
            }
            while shelf.bytes > self.config.memory_bytes
                && let Some((run, kept)) = shelf.images.pop_lru()
            {
                shelf.bytes -= kept.bytes.len() + ENTRY_BYTES;
                if !kept.stored {
                    let image = StoredImage { run, event_id: kept.event_id, bytes: kept.bytes };
                    shelf.leaving.insert(run, image.clone());
                    spilled.push(image);
                }
            }
        }
        for image in spilled {
            // A send fails only once the engine has ended.
            let _ = self.spill.send(image);
        }
    }

    /// The image of a run in memory.
    pub fn get(&self, run: RunKey) -> Option<StoredImage> {
        let mut shelf = self.shelf.lock();
        let Some(kept) = shelf.images.get(&run) else {
            return shelf.leaving.get(&run).cloned();
        };
        Some(StoredImage { run, event_id: kept.event_id, bytes: kept.bytes.clone() })
    }

    /// The last event that the image of a run in memory covers; 0: there is none.
    pub fn covered(&self, run: RunKey) -> u64 {
        let shelf = self.shelf.lock();
        let kept = shelf.images.peek(&run).map(|kept| kept.event_id);
        kept.or_else(|| shelf.leaving.get(&run).map(|image| image.event_id)).unwrap_or(0)
    }

    pub fn forget(&self, run: RunKey) {
        let mut shelf = self.shelf.lock();
        if let Some(kept) = shelf.images.pop(&run) {
            shelf.bytes -= kept.bytes.len() + ENTRY_BYTES;
        }
        shelf.leaving.remove(&run);
    }

    pub fn status(&self) -> ImageStatus {
        let shelf = self.shelf.lock();
        let load = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let stats = &self.stats;
        ImageStatus {
            in_memory: shelf.images.len(),
            bytes: shelf.bytes,
            captured: load(&stats.captured),
            captured_bytes: load(&stats.captured_bytes),
            capture_micros: load(&stats.capture_nanos) / 1_000,
            laid: load(&stats.laid),
            laid_micros: load(&stats.laid_nanos) / 1_000,
            ignored: load(&stats.ignored),
        }
    }

    /// Saves what only memory has: the end of the host.
    pub fn save_all(&self) {
        let unsaved: Vec<StoredImage> = {
            let mut shelf = self.shelf.lock();
            let unsaved = shelf.images.iter_mut().filter(|(_, kept)| !kept.stored);
            let take = |(run, kept): (&RunKey, &mut Kept)| {
                kept.stored = true;
                StoredImage { run: *run, event_id: kept.event_id, bytes: kept.bytes.clone() }
            };
            unsaved.map(take).collect()
        };
        for batch in unsaved.chunks(MAX_BATCH) {
            self.save(batch);
        }
    }

    fn save(&self, batch: &[StoredImage]) {
        if let Err(error) = self.store.save_images(batch) {
            tracing::warn!(%error, images = batch.len(), "memory images were not saved; their executions will relive");
        }
        let mut shelf = self.shelf.lock();
        for image in batch {
            if shelf.leaving.get(&image.run).is_some_and(|leaving| leaving.event_id == image.event_id) {
                shelf.leaving.remove(&image.run);
            }
        }
    }

    /// Counts a capture.
    pub fn captured(&self, bytes: usize, nanos: u64) {
        self.stats.captured.fetch_add(1, Ordering::Relaxed);
        self.stats.captured_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.stats.capture_nanos.fetch_add(nanos, Ordering::Relaxed);
    }
}

/// Saves what memory had no room for, until `ended`.
pub(crate) fn save(images: &Images, spilled: &Receiver<StoredImage>, ended: &dyn Fn() -> bool) {
    let mut batch = Vec::with_capacity(MAX_BATCH);
    loop {
        match spilled.recv_timeout(std::time::Duration::from_millis(100)) {
            Ok(image) => batch.push(image),
            Err(_) if ended() => return,
            Err(_) => continue,
        }
        batch.extend(spilled.try_iter().take(MAX_BATCH - 1));
        abort::point("saving-images");
        images.save(&batch);
        batch.clear();
    }
}
