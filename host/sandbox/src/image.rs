//! The guest's part of a memory image: the pages that differ from a fresh instance's, and how they are laid.
//!
//! Owns: what a fresh instance of a component looks like, the diff against it, the form of a body (zstd over the
//! number of pages, their indexes, the pages; integers are little-endian `u32`). Calls no guest, touches no history.

use std::cell::RefCell;

use relive_core::guest::NotLaid;
use sha2::Digest;

/// The page of the diff: the usual page of processors, so that untouched memory is never made resident by a lay.
pub(crate) const PAGE: usize = 4096;

/// Pages that an image holds at most: 64 MiB. A guest with more relives.
const MAX_PAGES: usize = 16_384;

/// The fastest level: most of a page is zeros.
const LEVEL: i32 = 1;

static ZEROS: [u8; PAGE] = [0; PAGE];

thread_local! {
    // Their tables are larger than most images: one a thread, not one a guest.
    static COMPRESSOR: RefCell<Option<zstd::bulk::Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

/// A fresh instance: its memory, and the bits of its mutable globals.
pub(crate) struct Baseline {
    pub(crate) hash: [u8; 32],
    pub(crate) globals: Vec<u64>,
    /// `None` is a page of zeros.
    pages: Vec<Option<Box<[u8]>>>,
}

impl Baseline {
    pub(crate) fn new(memory: &[u8], globals: Vec<u64>) -> Self {
        let kept = |page: &[u8]| (page != &ZEROS[..page.len()]).then(|| page.into());
        Self { hash: sha2::Sha256::digest(memory).into(), globals, pages: memory.chunks(PAGE).map(kept).collect() }
    }

    fn page(&self, at: usize) -> &[u8] {
        self.pages.get(at).and_then(Option::as_deref).unwrap_or(&ZEROS)
    }

    /// The body of an image of `memory`; `None` if too much of it has changed.
    pub(crate) fn capture(&self, memory: &[u8]) -> Option<Vec<u8>> {
        let mut changed = Vec::new();
        for (at, page) in memory.chunks_exact(PAGE).enumerate() {
            if page != self.page(at) {
                changed.push((u32::try_from(at).ok()?, page));
            }
        }
        if changed.len() > MAX_PAGES {
            return None;
        }
        let mut plain = Vec::with_capacity(4 + changed.len() * (4 + PAGE));
        plain.extend_from_slice(&u32::try_from(changed.len()).ok()?.to_le_bytes());
        for (at, _) in &changed {
            plain.extend_from_slice(&at.to_le_bytes());
        }
        for (_, page) in changed {
            plain.extend_from_slice(page);
        }
        COMPRESSOR.with_borrow_mut(|compressor| {
            if compressor.is_none() {
                *compressor = zstd::bulk::Compressor::new(LEVEL).ok();
            }
            compressor.as_mut()?.compress(&plain).ok()
        })
    }
}

/// At most `most` bytes; what the body says of its own size is believed for the allocation, and bounded by that.
fn decompress(body: &[u8], most: usize) -> std::io::Result<Vec<u8>> {
    let size = zstd::zstd_safe::get_frame_content_size(body).ok().flatten();
    let capacity = usize::try_from(size.unwrap_or(u64::MAX)).unwrap_or(usize::MAX).min(most);
    DECOMPRESSOR.with_borrow_mut(|decompressor| {
        if decompressor.is_none() {
            *decompressor = Some(zstd::bulk::Decompressor::new()?);
        }
        match decompressor {
            Some(decompressor) => decompressor.decompress(body, capacity),
            None => Ok(Vec::new()),
        }
    })
}

/// Lays a body over a fresh memory.
pub(crate) fn lay(memory: &mut [u8], body: &[u8]) -> Result<(), NotLaid> {
    let corrupt = |what: &str| NotLaid::Corrupt(what.to_owned());
    let most = memory.len().min(MAX_PAGES * PAGE);
    let plain = decompress(body, 4 + (most / PAGE) * (4 + PAGE));
    let plain = plain.map_err(|e| NotLaid::Corrupt(format!("decompress its pages: {e}")))?;
    let (count, rest) = plain.split_first_chunk::<4>().ok_or_else(|| corrupt("its body is empty"))?;
    let count = u32::from_le_bytes(*count) as usize;
    let split = rest.split_at_checked(count.saturating_mul(4));
    let (indexes, pages) = split.ok_or_else(|| corrupt("its indexes are cut off"))?;
    if pages.len() != count * PAGE {
        return Err(corrupt("its pages are cut off"));
    }
    for (at, page) in indexes.chunks_exact(4).zip(pages.chunks_exact(PAGE)) {
        let at = at.try_into().map(u32::from_le_bytes).unwrap_or_default() as usize * PAGE;
        let place = memory.get_mut(at..at + PAGE).ok_or_else(|| corrupt("a page lies outside of the memory"))?;
        place.copy_from_slice(page);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(pages: usize) -> Vec<u8> {
        let mut memory = vec![0; pages * PAGE];
        memory[5000] = 1;
        memory
    }

    #[test]
    fn what_is_laid_is_what_was_captured() {
        let fresh = memory(32);
        let baseline = Baseline::new(&fresh, Vec::new());
        let mut live = memory(48);
        live[0] = 9;
        live[5000] = 0;
        live[40 * PAGE + 17] = 3;
        let body = baseline.capture(&live).unwrap();
        let mut laid = fresh;
        laid.resize(live.len(), 0);
        lay(&mut laid, &body).unwrap();
        assert_eq!(laid, live);
        let none = baseline.capture(&memory(32)).unwrap();
        assert!(none.len() < 20, "nothing has changed");
    }

    #[test]
    fn what_is_no_body_is_refused() {
        let baseline = Baseline::new(&memory(2), Vec::new());
        let mut live = memory(4);
        live[3 * PAGE] = 1;
        let body = baseline.capture(&live).unwrap();
        assert!(lay(&mut memory(2), &body).is_err(), "a page outside of the memory");
        assert!(lay(&mut memory(4), &body[..body.len() - 1]).is_err());
        assert!(lay(&mut memory(4), b"").is_err());
        let forged = zstd::bulk::compress(&1_000_u32.to_le_bytes(), 1).unwrap();
        assert!(lay(&mut memory(4), &forged).is_err());
    }
}
