//! The failures that this crate itself gives to attempts: codes, kinds, and whether another attempt may help.
//!
//! Failures that an activity returns are not made here. Must not know: how activities are found or run.

use std::any::Any;

use relive_core::{
    failure::{Failure, FailureKind},
    json::Json,
    ports::ActivityTask,
};

/// The largest result that a history takes: a payload's limit (`RunLimits::payload_bytes`).
pub const MAX_RESULT_BYTES: usize = 2 << 20;

/// Text of a panic or a trap that is kept: it lands in the history, once an attempt.
pub(crate) const MAX_MESSAGE_BYTES: usize = 4 << 10;

/// A failure's code is compared with policies and labels metrics.
pub(crate) const MAX_CODE_BYTES: usize = 128;

/// Codes of failures that come from the host and not from the activity. Stable: policies name them.
pub mod code {
    /// No activity has the name. Rejected, retryable.
    pub const UNKNOWN_ACTIVITY: &str = "unknown-activity";
    /// It is deployed, and its component or its grants cannot be had. Infrastructure, retryable.
    pub const UNAVAILABLE: &str = "activity-unavailable";
    /// A native activity panicked. Infrastructure, retryable.
    pub const PANIC: &str = "panic";
    /// A wasm activity trapped, or ended the program. Infrastructure, retryable.
    pub const TRAP: &str = "trap";
    /// A wasm activity trapped after memory or a table was refused to it. Infrastructure, retryable.
    pub const OUT_OF_MEMORY: &str = "out-of-memory";
    /// The host is shutting down. Infrastructure, retryable.
    pub const STOPPED: &str = "host-stopped";
    /// A typed native activity cannot read its input. Application, not retryable.
    pub const INVALID_INPUT: &str = "invalid-input";
    /// The result is not JSON. Application, not retryable.
    pub const INVALID_RESULT: &str = "invalid-result";
    /// The result exceeds [`super::MAX_RESULT_BYTES`]. Application, not retryable.
    pub const RESULT_TOO_LARGE: &str = "result-too-large";
    /// The circuit breaker of the activity's target is open; details say when to try again. Infrastructure, retryable.
    pub const CIRCUIT_OPEN: &str = "circuit-open";
    /// The name of the URL's host has no address. Infrastructure, retryable.
    pub const LOOKUP_FAILED: &str = "lookup-failed";
    /// No connection to the URL's host. Infrastructure, retryable.
    pub const CONNECT_FAILED: &str = "connect-failed";
    /// TLS could not be agreed on, or the certificate is not trusted. Infrastructure, retryable.
    pub const TLS_FAILED: &str = "tls-failed";
    /// The connection ended before the answer did. Infrastructure, retryable.
    pub const CONNECTION_LOST: &str = "connection-lost";
    /// The answer began, and paused for too long. Infrastructure, retryable.
    pub const READ_TIMEOUT: &str = "read-timeout";
    /// The URL's host leads into a network that is not granted. Rejected, not retryable.
    pub const PRIVATE_ADDRESS: &str = "private-address";
    /// The answer is a redirect. Application, not retryable.
    pub const REDIRECT_REFUSED: &str = "redirect-refused";
    /// The answer is 202, and the embedder takes no later answers. Application, not retryable.
    pub const ACCEPTED_UNSUPPORTED: &str = "accepted-unsupported";
    /// The answer's status is neither success nor error. Application, not retryable.
    pub const UNEXPECTED_STATUS: &str = "unexpected-status";
}

/// Retryable, because a deployment may bring it.
pub(crate) fn unknown_activity(task: &ActivityTask) -> Failure {
    let (name, namespace) = (&task.name, &task.execution.namespace);
    let message = format!(
        "no activity `{name}` in namespace `{namespace}`; deploy a component that exports it, \
         or register it with the host that embeds the engine"
    );
    Failure { retryable: true, ..Failure::new(FailureKind::Rejected, code::UNKNOWN_ACTIVITY, message) }
}

pub(crate) fn infrastructure(code: &str, message: impl Into<String>) -> Failure {
    Failure::new(FailureKind::Infrastructure, code, cut(message.into(), MAX_MESSAGE_BYTES))
}

pub(crate) fn permanent(code: &str, message: impl Into<String>) -> Failure {
    Failure::new(FailureKind::Application, code, cut(message.into(), MAX_MESSAGE_BYTES)).permanent()
}

pub(crate) fn panicked(payload: &(dyn Any + Send)) -> Failure {
    let text = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    infrastructure(code::PANIC, format!("the activity panicked: {}", text.unwrap_or("without a message")))
}

/// Refuses a result that no history takes.
pub(crate) fn bounded(result: Json) -> Result<Json, Failure> {
    if result.len() <= MAX_RESULT_BYTES { Ok(result) } else { Err(too_large(result.len())) }
}

pub(crate) fn too_large(bytes: usize) -> Failure {
    let message =
        format!("the result has {bytes} bytes; at most {MAX_RESULT_BYTES} are allowed: return a reference instead");
    permanent(code::RESULT_TOO_LARGE, message)
}

/// The text, cut at a character's boundary.
pub(crate) fn cut(mut text: String, max: usize) -> String {
    if text.len() > max {
        text.truncate(text.floor_char_boundary(max));
        text.push_str("...");
    }
    text
}
