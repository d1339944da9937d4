//! Stored bytes: two codecs behind one trait, and upcasting of old event versions on read.
//!
//! A stored event names its codec and its type's version, so histories may mix both.

use std::sync::Arc;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    canonical_hash::chain,
    event::{Attributes, EventBody, EventType, ExecutionStartedV1, HistoryEvent},
    time::Timestamp,
};

/// Stored bytes that cannot be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    #[error("unknown event type {0}; it was written by a newer version of Relive")]
    UnknownType(u16),
    #[error("unknown codec {0}; it was written by a newer version of Relive")]
    UnknownCodec(u8),
    #[error("{ty} has version {found}, newer than {known}; it was written by a newer version of Relive")]
    NewerVersion { ty: EventType, found: u16, known: u16 },
    #[error("malformed bytes: {0}")]
    Malformed(String),
}

/// One event as it is stored. `hash` covers everything else and the hash before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    pub event_id: u64,
    pub timestamp: Timestamp,
    pub event_type: u16,
    pub codec: u8,
    pub event_version: u16,
    pub bytes: Arc<[u8]>,
    pub hash: [u8; 32],
}

impl StoredEvent {
    /// The hash that the event should have after `prev`.
    #[must_use]
    pub fn expected_hash(&self, prev: &[u8; 32]) -> [u8; 32] {
        chain(prev, self.event_id, self.timestamp, self.event_type, self.codec, self.event_version, &self.bytes)
    }

    /// Decodes and upcasts.
    pub fn decode(&self) -> Result<HistoryEvent, CodecError> {
        let ty = EventType::from_code(self.event_type).ok_or(CodecError::UnknownType(self.event_type))?;
        let codec = CodecId::from_code(self.codec).ok_or(CodecError::UnknownCodec(self.codec))?;
        if self.event_version > current_version(ty) {
            return Err(CodecError::NewerVersion { ty, found: self.event_version, known: current_version(ty) });
        }
        let body = codec.decode(ty, self.event_version, &self.bytes)?;
        Ok(HistoryEvent {
            event_id: self.event_id,
            timestamp: self.timestamp,
            event_version: self.event_version,
            body,
            hash: self.hash,
        })
    }
}

/// The version in which a type's attributes are written today.
#[must_use]
pub fn current_version(ty: EventType) -> u16 {
    match ty {
        EventType::ExecutionStarted => 2,
        _ => 1,
    }
}

/// Which codec wrote the bytes; the discriminant is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
#[serde(rename_all = "kebab-case")]
pub enum CodecId {
    /// Text that people can read in the database.
    Json = 1,
    /// Compact binary (postcard).
    #[default]
    Postcard = 2,
}

impl CodecId {
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Json),
            2 => Some(Self::Postcard),
            _ => None,
        }
    }
}

/// How event bodies become bytes.
pub trait Codec: Send + Sync {
    /// The number that is stored with the bytes.
    fn codec_id(&self) -> u8;
    /// Appends the body's bytes, in the current version of its type.
    fn encode(&self, body: &EventBody, out: &mut Vec<u8>) -> Result<(), CodecError>;
    /// Reads a body that was written in `version`.
    fn decode(&self, ty: EventType, version: u16, bytes: &[u8]) -> Result<EventBody, CodecError>;
}

impl Codec for CodecId {
    fn codec_id(&self) -> u8 {
        *self as u8
    }

    fn encode(&self, body: &EventBody, out: &mut Vec<u8>) -> Result<(), CodecError> {
        match self {
            Self::Json => encode::<JsonFormat>(body, out),
            Self::Postcard => encode::<PostcardFormat>(body, out),
        }
    }

    fn decode(&self, ty: EventType, version: u16, bytes: &[u8]) -> Result<EventBody, CodecError> {
        match self {
            Self::Json => decode::<JsonFormat>(ty, version, bytes),
            Self::Postcard => decode::<PostcardFormat>(ty, version, bytes),
        }
    }
}

/// Everything of a body but its attributes. The order of the fields is the stored format.
#[derive(Serialize, Deserialize)]
struct Envelope {
    command_no: Option<u64>,
    parent_event_id: Option<u64>,
    flags: u8,
    task_queue: Option<Arc<str>>,
    trace_id: Option<Arc<str>>,
    correlation_id: Option<Arc<str>>,
}

const RESET_POINT: u8 = 1;
const RETRY: u8 = 2;

/// A serde format; the trait that [`Attributes`] dispatches over.
pub(crate) trait Format {
    fn encode<T: Serialize>(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError>;
    fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError>;
    /// Reads one value and gives the rest.
    fn split<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, &[u8]), CodecError>;
}

struct JsonFormat;
struct PostcardFormat;

fn malformed(error: impl std::fmt::Display) -> CodecError {
    CodecError::Malformed(error.to_string())
}

impl Format for JsonFormat {
    fn encode<T: Serialize>(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        serde_json::to_writer(&mut *out, value).map_err(malformed)?;
        out.push(b'\n');
        Ok(())
    }

    fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
        serde_json::from_slice(bytes).map_err(malformed)
    }

    fn split<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, &[u8]), CodecError> {
        let end = bytes.iter().position(|b| *b == b'\n').ok_or_else(|| malformed("the envelope does not end"))?;
        Ok((Self::decode(&bytes[..end])?, &bytes[end + 1..]))
    }
}

impl Format for PostcardFormat {
    fn encode<T: Serialize>(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        postcard::to_io(value, &mut *out).map(|_| ()).map_err(malformed)
    }

    fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
        let (value, rest) = Self::split(bytes)?;
        if rest.is_empty() { Ok(value) } else { Err(malformed(format!("{} bytes too many", rest.len()))) }
    }

    fn split<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, &[u8]), CodecError> {
        postcard::take_from_bytes(bytes).map_err(malformed)
    }
}

fn encode<F: Format>(body: &EventBody, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let flags = if body.is_reset_point { RESET_POINT } else { 0 } | if body.is_retry { RETRY } else { 0 };
    let envelope = Envelope {
        command_no: body.command_no,
        parent_event_id: body.parent_event_id,
        flags,
        task_queue: body.task_queue.clone(),
        trace_id: body.trace_id.clone(),
        correlation_id: body.correlation_id.clone(),
    };
    F::encode(&envelope, out)?;
    body.attributes.encode_with::<F>(out)
}

fn decode<F: Format>(ty: EventType, version: u16, bytes: &[u8]) -> Result<EventBody, CodecError> {
    let (envelope, rest) = F::split::<Envelope>(bytes)?;
    Ok(EventBody {
        command_no: envelope.command_no,
        parent_event_id: envelope.parent_event_id,
        is_reset_point: envelope.flags & RESET_POINT != 0,
        is_retry: envelope.flags & RETRY != 0,
        task_queue: envelope.task_queue,
        trace_id: envelope.trace_id,
        correlation_id: envelope.correlation_id,
        attributes: upcast::<F>(ty, version, rest)?,
    })
}

/// The attributes of any version as today's.
fn upcast<F: Format>(ty: EventType, version: u16, bytes: &[u8]) -> Result<Attributes, CodecError> {
    match (ty, version) {
        (EventType::ExecutionStarted, 1) => {
            F::decode::<ExecutionStartedV1>(bytes).map(|old| Attributes::ExecutionStarted(Box::new(old.into())))
        }
        _ => Attributes::decode_with::<F>(ty, bytes),
    }
}
