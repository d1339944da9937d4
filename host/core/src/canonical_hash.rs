//! The hash chain of a history: over the bytes as stored, before decryption or upcasting, so that mixed codecs,
//! upcasts and exports keep it.

use sha2::{Digest, Sha256};

use crate::time::Timestamp;

/// The chain's value before event 1.
pub const GENESIS: [u8; 32] = [0; 32];

/// `sha256(prev || id || timestamp || type || codec || event_version || stored bytes)`, numbers little-endian.
#[must_use]
pub fn chain(
    prev: &[u8; 32],
    event_id: u64,
    timestamp: Timestamp,
    event_type: u16,
    codec: u8,
    version: u16,
    bytes: &[u8],
) -> [u8; 32] {
    let mut head = [0u8; 53];
    head[..32].copy_from_slice(prev);
    head[32..40].copy_from_slice(&event_id.to_le_bytes());
    head[40..48].copy_from_slice(&timestamp.0.to_le_bytes());
    head[48..50].copy_from_slice(&event_type.to_le_bytes());
    head[50] = codec;
    head[51..].copy_from_slice(&version.to_le_bytes());
    let mut sha = Sha256::new();
    sha.update(head);
    sha.update(bytes);
    sha.finalize().into()
}

/// Hashes as hexadecimal text in JSON.
pub fn serialize_hex<S: serde::Serializer>(hash: &[u8; 32], s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(&crate::ids::Digest(*hash))
}
