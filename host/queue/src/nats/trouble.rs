//! JetStream's errors in the ports' words: what kind of trouble it is, and what somebody can do.

use async_nats::jetstream::{
    Error, ErrorCode,
    context::{CreateStreamError, CreateStreamErrorKind, PublishError, PublishErrorKind},
    stream::{ConsumerCreateStrictError, ConsumerCreateStrictErrorKind},
};
use relive_core::ports::{QueueError, QueueErrorKind};

use super::link::Link;

/// `maximum messages exceeded`, `maximum bytes exceeded`: the stream refuses new messages.
const STORE_FAILED: ErrorCode = ErrorCode(10_077);
const NO_STREAMING: &str = "the NATS server has no JetStream; start it with -js or 'jetstream {}' in its configuration, or enable it for this account";

pub(super) fn no_streaming(link: &Link) -> QueueError {
    QueueError::new(QueueErrorKind::NoStreaming, format!("{NO_STREAMING} ({})", link.options.servers()))
}

/// An error that JetStream answered with.
pub(super) fn answered(link: &Link, action: &str, error: &Error) -> QueueError {
    let kind = match error.error_code() {
        ErrorCode::JETSTREAM_NOT_ENABLED | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT => return no_streaming(link),
        STORE_FAILED
        | ErrorCode::INSUFFICIENT_RESOURCES
        | ErrorCode::STORAGE_RESOURCES_EXCEEDED
        | ErrorCode::ACCOUNT_RESOURCES_EXCEEDED => QueueErrorKind::Full,
        ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM => QueueErrorKind::Invalid,
        _ if error.code() >= 500 => QueueErrorKind::Unavailable,
        _ => QueueErrorKind::Mismatch,
    };
    QueueError::new(kind, format!("could not {action}: NATS says: {error} ({})", link.options.servers()))
}

pub(super) fn of_stream(link: &Link, action: &str, error: &CreateStreamError) -> QueueError {
    match error.kind() {
        CreateStreamErrorKind::JetStream(error) => answered(link, action, &error),
        CreateStreamErrorKind::JetStreamUnavailable => no_streaming(link),
        _ => link.unavailable(action, &error.to_string()),
    }
}

/// Trouble with making a consumer; `None`: the stream is not there.
pub(super) fn of_consumer(link: &Link, action: &str, error: &ConsumerCreateStrictError) -> Option<QueueError> {
    match error.kind() {
        ConsumerCreateStrictErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => None,
        ConsumerCreateStrictErrorKind::JetStream(error) => Some(answered(link, action, &error)),
        _ => Some(link.unavailable(action, &error.to_string())),
    }
}

/// Trouble with publishing; `None`: the stream is not there.
pub(super) fn of_publish(link: &Link, action: &str, error: &PublishError) -> Option<QueueError> {
    let answer = std::error::Error::source(error).and_then(|source| source.downcast_ref::<Error>());
    match (error.kind(), answer) {
        (PublishErrorKind::StreamNotFound, _) => None,
        (_, Some(answer)) => Some(answered(link, action, answer)),
        (PublishErrorKind::MaxPayloadExceeded, _) => {
            let message = format!("could not {action}: {error}; raise max_payload of the NATS server");
            Some(QueueError::new(QueueErrorKind::Invalid, message))
        }
        _ => Some(link.unavailable(action, &error.to_string())),
    }
}
