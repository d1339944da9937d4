//! Why something did not succeed: what awaits return to workflows, and what activities report.

use crate::bindings::types;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;

/// The class of a [`Failure`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The workflow's or activity's own code said no.
    Application,
    /// A deadline passed.
    Timeout,
    /// It was canceled, by request or with its execution.
    Canceled,
    /// It was terminated by an operator.
    Terminated,
    /// It was never tried: unknown name, input against the schema, a limit.
    Rejected,
    /// The host could not run it.
    Infrastructure,
}

/// Why an await failed, or why a workflow did.
///
/// A workflow that returns one of kind [`FailureKind::Canceled`] ends canceled; any other kind ends it failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Failure {
    /// The class.
    pub kind: FailureKind,
    /// A stable code to branch on, such as `card-declined`.
    pub code: String,
    /// A sentence for people.
    pub message: String,
    /// Anything else, as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
    /// Whether trying again may help.
    #[serde(default)]
    pub retryable: bool,
}

impl Failure {
    /// A failure of the workflow's own making (kind application, not retryable).
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::of(FailureKind::Application, code.into(), message.into())
    }

    /// What a workflow returns to end as canceled.
    pub fn canceled(message: impl Into<String>) -> Self {
        Self::of(FailureKind::Canceled, "canceled".to_owned(), message.into())
    }

    /// Attach details. They are left out if they do not serialise.
    pub fn with_details(mut self, details: impl Serialize) -> Self {
        self.details = serde_json::to_value(details).ok();
        self
    }

    /// Whether this is a cancellation.
    pub fn is_canceled(&self) -> bool {
        self.kind == FailureKind::Canceled
    }

    pub(crate) fn rejected(code: &str, message: String) -> Self {
        Self::of(FailureKind::Rejected, code.to_owned(), message)
    }

    /// The input or result of a call is not of the type that the code expects.
    pub(crate) fn decode(what: &str, error: &serde_json::Error) -> Self {
        Self::new("decode-error", format!("{what}: {error}"))
    }

    pub(crate) fn encode(what: &str, error: &serde_json::Error) -> Self {
        Self::new("encode-error", format!("{what}: {error}"))
    }

    pub(crate) fn of(kind: FailureKind, code: String, message: String) -> Self {
        Self { kind, code, message, details: None, retryable: false }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Failure {}

impl From<types::CallError> for Failure {
    fn from(error: types::CallError) -> Self {
        match error {
            types::CallError::InvalidJson(at) => Self::rejected("invalid-json", at),
            types::CallError::InvalidArgument(what) => Self::rejected("invalid-argument", what),
            types::CallError::LimitExceeded(which) => Self::rejected("limit-exceeded", which),
            types::CallError::UnknownPromise(p) => Self::rejected("unknown-promise", p.to_string()),
            types::CallError::SpentPromise(p) => Self::rejected("spent-promise", p.to_string()),
        }
    }
}

impl From<types::Failure> for Failure {
    fn from(failure: types::Failure) -> Self {
        let kind = match failure.kind {
            types::FailureKind::Application => FailureKind::Application,
            types::FailureKind::Timeout => FailureKind::Timeout,
            types::FailureKind::Canceled => FailureKind::Canceled,
            types::FailureKind::Terminated => FailureKind::Terminated,
            types::FailureKind::Rejected => FailureKind::Rejected,
            types::FailureKind::Infrastructure => FailureKind::Infrastructure,
        };
        Self {
            kind,
            code: failure.code,
            message: failure.message,
            details: failure.details.and_then(|text| serde_json::from_str(&text).ok()),
            retryable: failure.retryable,
        }
    }
}

impl From<Failure> for types::Failure {
    fn from(failure: Failure) -> Self {
        let kind = match failure.kind {
            FailureKind::Application => types::FailureKind::Application,
            FailureKind::Timeout => types::FailureKind::Timeout,
            FailureKind::Canceled => types::FailureKind::Canceled,
            FailureKind::Terminated => types::FailureKind::Terminated,
            FailureKind::Rejected => types::FailureKind::Rejected,
            FailureKind::Infrastructure => types::FailureKind::Infrastructure,
        };
        Self {
            kind,
            code: failure.code,
            message: failure.message,
            details: failure.details.map(|details| details.to_string()),
            retryable: failure.retryable,
        }
    }
}

/// Why one attempt of an activity failed.
#[derive(Debug, Clone, PartialEq)]
pub struct ActivityFailure {
    /// A stable code to branch on; matched by the retry policy's non-retryable codes.
    pub code: String,
    /// A sentence for people.
    pub message: String,
    /// Anything else, as JSON.
    pub details: Option<Value>,
    /// False: no further attempt is made.
    pub retryable: bool,
}

impl ActivityFailure {
    /// A failure that another attempt may overcome.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), details: None, retryable: true }
    }

    /// A failure that no further attempt would change.
    pub fn fatal(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { retryable: false, ..Self::new(code, message) }
    }

    /// Attach details. They are left out if they do not serialise.
    pub fn with_details(mut self, details: impl Serialize) -> Self {
        self.details = serde_json::to_value(details).ok();
        self
    }
}

impl fmt::Display for ActivityFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for ActivityFailure {}

impl From<std::io::Error> for ActivityFailure {
    fn from(error: std::io::Error) -> Self {
        Self::new("io", error.to_string())
    }
}
