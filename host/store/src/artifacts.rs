//! Events that are too large for their table. Their bytes lie in a table of their own, by their SHA-256, once however often
//! they were appended; the event's row holds the digest, and its codec a mark. What is read is checked against the digest.
//! Callers of the ports know nothing of it: the chain of hashes is over the bytes themselves.

use std::{collections::HashMap, sync::Arc};

use relive_core::{Digest, codec::StoredEvent};

/// From here on an event's bytes are kept apart: rows of this size would spread histories over the database's pages.
pub(crate) const LARGE: usize = 64 << 10;
/// In a row's codec: its bytes are those of a digest.
pub(crate) const APART: u8 = 0x40;

pub(crate) fn is_large(event: &StoredEvent) -> bool {
    event.bytes.len() > LARGE
}

/// The digests that these rows name.
pub(crate) fn named(rows: &[StoredEvent]) -> Vec<Digest> {
    rows.iter().filter_map(digest).collect()
}

/// The digest that a row names; none: it has its bytes itself.
fn digest(row: &StoredEvent) -> Option<Digest> {
    (row.codec & APART != 0).then(|| Digest(<[u8; 32]>::try_from(&*row.bytes).unwrap_or_default()))
}

/// Puts the bytes in the place of their digests. The error says what is missing or was changed.
pub(crate) fn restore(rows: &mut [StoredEvent], found: Vec<(Digest, Vec<u8>)>) -> Result<(), String> {
    let mut known: HashMap<Digest, Arc<[u8]>> = HashMap::with_capacity(found.len());
    for (digest, bytes) in found {
        if Digest::of(&bytes) != digest {
            return Err(format!("artifact {digest}, whose bytes were changed; restore the database from a backup"));
        }
        known.insert(digest, bytes.into());
    }
    for row in rows {
        if let Some(digest) = digest(row) {
            let bytes = known.get(&digest).ok_or_else(|| format!("artifact {digest}, which is not there"))?;
            row.bytes = bytes.clone();
            row.codec &= !APART;
        }
    }
    Ok(())
}
