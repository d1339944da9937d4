//! Memory images: a guest between two turns, with the host's side of it, as bytes that chain to a history.
//!
//! An image is a cache, never the truth: whoever finds one that does not fit ignores it, says so, and relives the
//! history. This file owns its form at rest. What stands in the guest's part is the guest's own; laying it is too.
//!
//! ```text
//! "RLIM" | format: u16 | header length: u32 | header (postcard) | guest's part | SHA-256 over all before
//! ```
//! Integers are little-endian.

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use crate::{
    cursor::CursorState,
    ids::{Digest, RunId},
};

/// The form that is written. Others are ignored.
pub const FORMAT: u16 = 1;

const MAGIC: [u8; 4] = *b"RLIM";
const PREFIX: usize = MAGIC.len() + 2 + 4;
const CHECKSUM: usize = 32;

/// What must be the same where a guest's part is laid. It says nothing about compilers: another setting of theirs
/// makes the same memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestStamp {
    /// The engine's version and the revision of the host's lowering.
    pub engine: String,
    /// The version of what the host adds to components.
    pub instrumentation: u32,
    /// SHA-256 of a fresh instance's memory.
    pub baseline: [u8; 32],
    /// Bytes of the memory.
    pub memory_bytes: u64,
    /// Bits of the mutable globals.
    pub globals: Vec<u64>,
}

/// Where an image belongs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageHeader {
    pub run_id: RunId,
    pub digest: Digest,
    /// Everything up to this event was applied or issued.
    pub event_id: u64,
    /// That event's hash.
    pub hash: [u8; 32],
    pub cursor: CursorState,
    pub guest: GuestStamp,
}

/// An image.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    pub header: ImageHeader,
    /// The guest's part: compressed pages.
    pub body: Vec<u8>,
}

/// Why bytes are no image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    #[error("it is cut off")]
    Truncated,
    #[error("it does not begin as an image does")]
    Foreign,
    #[error("it has form {0}; this host reads form {FORMAT}")]
    UnknownFormat(u16),
    #[error("its checksum does not hold")]
    Corrupt,
    #[error("its header cannot be read: {0}")]
    Header(String),
}

impl Image {
    /// The bytes at rest.
    pub fn encode(&self) -> Result<Vec<u8>, ImageError> {
        let header = postcard::to_stdvec(&self.header).map_err(|e| ImageError::Header(e.to_string()))?;
        let length = u32::try_from(header.len()).map_err(|e| ImageError::Header(e.to_string()))?;
        let mut bytes = Vec::with_capacity(PREFIX + header.len() + self.body.len() + CHECKSUM);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&header);
        bytes.extend_from_slice(&self.body);
        let checksum = sha2::Sha256::digest(&bytes);
        bytes.extend_from_slice(&checksum);
        Ok(bytes)
    }

    /// Reads what [`Self::encode`] gave.
    pub fn decode(bytes: &[u8]) -> Result<Self, ImageError> {
        let (content, checksum) = bytes.split_last_chunk::<CHECKSUM>().ok_or(ImageError::Truncated)?;
        let (magic, rest) = content.split_first_chunk::<4>().ok_or(ImageError::Truncated)?;
        if *magic != MAGIC {
            return Err(ImageError::Foreign);
        }
        let (format, rest) = rest.split_first_chunk::<2>().ok_or(ImageError::Truncated)?;
        if u16::from_le_bytes(*format) != FORMAT {
            return Err(ImageError::UnknownFormat(u16::from_le_bytes(*format)));
        }
        if sha2::Sha256::digest(content).as_slice() != checksum {
            return Err(ImageError::Corrupt);
        }
        let (length, rest) = rest.split_first_chunk::<4>().ok_or(ImageError::Truncated)?;
        let length = u32::from_le_bytes(*length) as usize;
        let (header, body) = rest.split_at_checked(length).ok_or(ImageError::Truncated)?;
        let header = postcard::from_bytes(header).map_err(|e| ImageError::Header(e.to_string()))?;
        Ok(Self { header, body: body.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::{cursor::Open, time::Timestamp};

    fn image(body: Vec<u8>) -> Image {
        let cursor = CursorState {
            now: Timestamp(5),
            last_applied: 4,
            applied_events: 3,
            issued: 2,
            versions: BTreeMap::from([("c".to_owned(), 2)]),
            open: vec![(1, Open::Timer), (2, Open::Message { channel: "a".into() })],
            unread: vec![(3, 0)],
            cancel_delivered: true,
            cancel_carried: false,
            durable_position: 1 << 70,
        };
        let guest = GuestStamp {
            engine: "e".into(),
            instrumentation: 1,
            baseline: [7; 32],
            memory_bytes: 1 << 20,
            globals: vec![1, u64::MAX],
        };
        let (run_id, digest) = (RunId(uuid::Uuid::from_u128(9)), Digest([3; 32]));
        Image { header: ImageHeader { run_id, digest, event_id: 5, hash: [8; 32], cursor, guest }, body }
    }

    proptest! {
        #[test]
        fn an_image_comes_back_as_it_was(body in prop::collection::vec(any::<u8>(), 0..300)) {
            let image = image(body);
            prop_assert_eq!(Image::decode(&image.encode().unwrap()).unwrap(), image);
        }

        #[test]
        fn no_bit_can_change_unnoticed(at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut bytes = image(vec![1, 2, 3]).encode().unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(Image::decode(&bytes).is_err());
        }

        #[test]
        fn no_part_is_an_image(length in any::<prop::sample::Index>()) {
            let bytes = image(vec![1, 2, 3]).encode().unwrap();
            prop_assert!(Image::decode(&bytes[..length.index(bytes.len())]).is_err());
        }
    }
}
