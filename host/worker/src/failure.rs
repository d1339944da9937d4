//! What activities fail with, and what keeps a worker from working.

use serde::Serialize;
use serde_json::value::RawValue;

/// Why an attempt gave no result. The code is for programs, the message for people.
#[derive(Debug, Serialize)]
pub struct Failure {
    code: String,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Box<RawValue>>,
    retryable: bool,
    #[serde(skip)]
    pub(crate) canceled: bool,
}

impl Failure {
    /// One that may be tried again, as the activity's policy says.
    #[must_use]
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        let (code, message) = (code.into(), message.into());
        Self { code, message, details: None, retryable: true, canceled: false }
    }

    /// The same, but never worth another attempt.
    #[must_use]
    pub fn permanent(mut self) -> Self {
        self.retryable = false;
        self
    }

    /// With details as JSON; those that are none are left out.
    #[must_use]
    pub fn details(mut self, details: &impl Serialize) -> Self {
        self.details = serde_json::value::to_raw_value(details).ok();
        self
    }

    /// The attempt stopped because it was asked to.
    #[must_use]
    pub fn canceled() -> Self {
        Self { canceled: true, ..Self::new("canceled", "the attempt stopped because it was asked to").permanent() }
    }

    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }
}

/// What keeps a worker from working. Fits "failed to {..}".
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    #[error("read the server's address {0:?}: it has to begin with http://, https:// or nats:// and name a host")]
    Address(String),
    /// A private authority cannot be had, or TLS cannot be set up.
    #[error("{0}")]
    Trust(String),
    #[error("reach the host: {0}")]
    Connection(String),
    /// The host refused, for good.
    #[error("have it accepted: {detail} ({code})")]
    Refused { status: u16, code: String, detail: String },
    #[error("understand the host's answer: {0}")]
    Answer(String),
}

impl WorkerError {
    /// Whether the same again may go better.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Connection(_) => true,
            Self::Refused { status, .. } => *status >= 500 || *status == 429 || *status == 408,
            Self::Address(_) | Self::Trust(_) | Self::Answer(_) => false,
        }
    }

    /// The host's code, if it refused.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => Some(code),
            _ => None,
        }
    }
}
