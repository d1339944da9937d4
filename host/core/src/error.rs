//! The error that crosses crate borders: a kind to branch on, a stable code, a sentence for people, and where it was.

use std::fmt;

use serde::Serialize;

use crate::ids::ExecutionKey;

/// What part of the host, or of the user's work, an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum ErrorKind {
    EventStore,
    Codec,
    WorkflowExecution,
    StepExecution,
    ActivityExecution,
    TimerStore,
    SignalDispatcher,
    TaskQueue,
    Snapshot,
    Replay,
    Configuration,
    Validation,
    Timeout,
    Cancelled,
    Concurrency,
    Compensation,
    Unknown,
}

/// Where it happened, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ErrorContext {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution: Option<ExecutionKey>,
    /// The command number of the step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
}

/// An error with its kind, code and context; serialises to the structured form that the API and the logs show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Error {
    pub kind: ErrorKind,
    /// Stable, lower-case with hyphens: what programs branch on.
    pub code: &'static str,
    /// What was wrong, where, and what to do.
    pub message: String,
    pub context: Box<ErrorContext>,
}

impl Error {
    #[must_use]
    pub fn new(kind: ErrorKind, code: &'static str, message: impl Into<String>) -> Self {
        Self { kind, code, message: message.into(), context: Box::default() }
    }

    /// Names the execution.
    #[must_use]
    pub fn at(mut self, execution: &ExecutionKey) -> Self {
        self.context.execution = Some(execution.clone());
        self
    }

    /// Names the step and its attempt.
    #[must_use]
    pub fn step(mut self, command_no: u64, attempt: u32) -> Self {
        self.context.step = Some(command_no);
        self.context.attempt = Some(attempt);
        self
    }

    /// Names the request that led here.
    #[must_use]
    pub fn correlated(mut self, id: Option<&str>) -> Self {
        self.context.correlation_id = id.map(str::to_owned);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(execution) = &self.context.execution {
            write!(f, " (execution {execution}")?;
            if let Some(step) = self.context.step {
                write!(f, ", step {step}")?;
            }
            f.write_str(")")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}
