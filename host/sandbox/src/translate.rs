//! Values between the contract's types and core's: states and descriptions out of a guest, events into it. Every value
//! takes this one way, live and relived, so that a guest's memory is a function of its history.

use std::sync::Arc;

use relive_core::guest::{GuestEvent, GuestState, Outcome};
use relive_core::{Failure, FailureKind, Json};

use crate::admission::Description;
use crate::bindings::exports::relive::workflow::reactor;
use crate::bindings::relive::workflow::types;

impl From<reactor::WorkflowDescription> for Description {
    fn from(d: reactor::WorkflowDescription) -> Self {
        Self {
            name: d.name,
            summary: d.summary,
            input_schema: d.input_schema,
            output_schema: d.output_schema,
            channels: d.channels,
        }
    }
}

/// What a call came to; `limit` is the payload's, in bytes.
pub(crate) fn translate(state: reactor::State, limit: usize) -> Result<GuestState, String> {
    let json = |text: String, what: &str| {
        if text.len() > limit {
            return Err(format!("its {what} has {} bytes; at most {limit} are allowed", text.len()));
        }
        Json::parse(&text).map_err(|e| format!("its {what} is not acceptable JSON: {e}"))
    };
    Ok(match state {
        reactor::State::Waiting => GuestState::Waiting,
        reactor::State::Done(Ok(result)) => GuestState::Done(Outcome::Completed(json(result, "result")?)),
        reactor::State::Done(Err(failure)) => {
            let text = failure.code.len() + failure.message.len();
            if text > limit {
                return Err(format!("its failure has {text} bytes; at most {limit} are allowed"));
            }
            let details = failure.details.map(|d| json(d, "failure's details")).transpose()?;
            GuestState::Done(Outcome::Failed(Failure {
                kind: failure.kind.into(),
                code: failure.code,
                message: failure.message,
                details,
                retryable: failure.retryable,
            }))
        }
        reactor::State::Continued(next) => GuestState::Done(Outcome::ContinuedAsNew {
            input: json(next.input, "input of the next run")?,
            unread_messages: next.unread_messages.into_iter().map(Arc::from).collect(),
        }),
    })
}

impl From<GuestEvent> for reactor::Event {
    fn from(event: GuestEvent) -> Self {
        match event {
            GuestEvent::CancelRequested => Self::CancelRequested,
            GuestEvent::Resolved { promise, message_id, outcome } => Self::Resolved(reactor::Resolution {
                promise,
                message_id: message_id.as_deref().map(str::to_owned),
                outcome: outcome.map(|json| json.as_str().to_owned()).map_err(Into::into),
            }),
        }
    }
}

impl From<Failure> for types::Failure {
    fn from(failure: Failure) -> Self {
        Self {
            kind: failure.kind.into(),
            code: failure.code,
            message: failure.message,
            details: failure.details.map(|json| json.as_str().to_owned()),
            retryable: failure.retryable,
        }
    }
}

impl From<FailureKind> for types::FailureKind {
    fn from(kind: FailureKind) -> Self {
        match kind {
            FailureKind::Application => Self::Application,
            FailureKind::Timeout => Self::Timeout,
            FailureKind::Canceled => Self::Canceled,
            FailureKind::Terminated => Self::Terminated,
            FailureKind::Rejected => Self::Rejected,
            FailureKind::Infrastructure => Self::Infrastructure,
        }
    }
}

impl From<types::FailureKind> for FailureKind {
    fn from(kind: types::FailureKind) -> Self {
        match kind {
            types::FailureKind::Application => Self::Application,
            types::FailureKind::Timeout => Self::Timeout,
            types::FailureKind::Canceled => Self::Canceled,
            types::FailureKind::Terminated => Self::Terminated,
            types::FailureKind::Rejected => Self::Rejected,
            types::FailureKind::Infrastructure => Self::Infrastructure,
        }
    }
}
