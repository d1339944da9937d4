//! Failures as histories record them and guests receive them (`failure` in `wit/types.wit`).

use serde::{Deserialize, Serialize};

use crate::json::Json;

/// Why something did not succeed; the cases of `failure-kind` in `wit/types.wit`, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    Application,
    Timeout,
    Canceled,
    Terminated,
    Rejected,
    Infrastructure,
}

/// A failure: the code is for programs, the message for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub kind: FailureKind,
    pub code: String,
    pub message: String,
    pub details: Option<Json>,
    pub retryable: bool,
}

impl Failure {
    /// A failure without details.
    #[must_use]
    pub fn new(kind: FailureKind, code: &str, message: impl Into<String>) -> Self {
        let retryable = matches!(kind, FailureKind::Application | FailureKind::Timeout | FailureKind::Infrastructure);
        Self { kind, code: code.to_owned(), message: message.into(), details: None, retryable }
    }

    /// The same, but never worth another attempt.
    #[must_use]
    pub fn permanent(mut self) -> Self {
        self.retryable = false;
        self
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}
