//! The image port: memory images at rest. A cache beside the histories, never the truth.

use std::sync::Arc;

use super::StoreError;
use crate::ids::RunKey;

/// Generations of images that are kept of a run; saving another deletes the oldest.
pub const KEPT_IMAGES: usize = 5;

/// A memory image as [`crate::image::Image::encode`] gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredImage {
    pub run: RunKey,
    /// The last event that the image covers.
    pub event_id: u64,
    pub bytes: Arc<[u8]>,
}

/// Images of open runs. Images also ride on appends ([`super::AppendItem::image`]), and go with the end of their run.
pub trait ImageStore: Send + Sync {
    /// Keeps images, each beside the older ones of its run. Those of runs that are unknown or have ended are dropped.
    /// **No durability point**: a caller must not rely on finding them again. Errors are nobody's loss; the caller
    /// reports them and goes on.
    fn save_images(&self, images: &[StoredImage]) -> Result<(), StoreError>;

    /// The newest image of a run that covers no event after `through`.
    fn image(&self, run: RunKey, through: u64) -> Result<Option<StoredImage>, StoreError>;

    /// Deletes an image that turned out to be of no use.
    fn discard_image(&self, run: RunKey, event_id: u64) -> Result<(), StoreError>;
}
