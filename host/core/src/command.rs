//! Commands: what the guest asks for, numbered 1..m in the order of issue. A command that is recorded becomes a
//! command event; this file says what two of them must share to be the same, and how reports print them.

use crate::{
    event::{Attributes, EventBody},
    json::Json,
};

/// The part of a command that is compared on replay. Policies, timeouts, queues and summaries are not.
#[derive(Clone, Debug, PartialEq)]
pub enum Matched<'a> {
    Activity { name: &'a str, input: &'a str },
    Timer { duration: u64 },
    CancelActivity { target: u64 },
    CancelTimer { target: u64 },
}

/// A recorded command that the guest has not issued again yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    pub command_no: u64,
    pub event_id: u64,
    pub attributes: Attributes,
}

impl Recorded {
    /// The numbered command of an event, if it is one.
    #[must_use]
    pub fn of(event_id: u64, body: &EventBody) -> Option<Self> {
        let command_no = body.command_no?;
        body.event_type().is_numbered_command().then(|| Self {
            command_no,
            event_id,
            attributes: body.attributes.clone(),
        })
    }

    /// The compared part.
    #[must_use]
    pub fn matched(&self) -> Option<Matched<'_>> {
        matched(&self.attributes)
    }
}

/// The compared part of a command event.
#[must_use]
pub fn matched(attributes: &Attributes) -> Option<Matched<'_>> {
    Some(match attributes {
        Attributes::TaskScheduled(a) => Matched::Activity { name: &a.name, input: a.input.as_str() },
        Attributes::TimerCreated(a) => Matched::Timer { duration: a.duration },
        Attributes::TaskCancelRequested(a) => Matched::CancelActivity { target: a.target },
        Attributes::TimerCanceled(a) => Matched::CancelTimer { target: a.target },
        _ => return None,
    })
}

impl Matched<'_> {
    /// Whether both are the same command. `recorded` is ours, so its text is valid JSON.
    #[must_use]
    pub fn agrees_with(&self, recorded: &Matched<'_>, recorded_input: Option<&Json>) -> bool {
        match (self, recorded) {
            (Matched::Activity { name, input }, Matched::Activity { name: held, .. }) => {
                name == held && recorded_input.is_some_and(|held| held.same_value(input))
            }
            _ => self == recorded,
        }
    }

    /// The kind's name in fingerprints and reports.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Activity { .. } => "activity",
            Self::Timer { .. } => "timer",
            Self::CancelActivity { .. } => "cancel-activity",
            Self::CancelTimer { .. } => "cancel-timer",
        }
    }
}

/// Longest piece of an argument that a report prints.
const REPORT_BYTES: usize = 200;

impl std::fmt::Display for Matched<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Activity { name, input } => {
                let end = input
                    .char_indices()
                    .map(|(at, c)| at + c.len_utf8())
                    .take_while(|end| *end <= REPORT_BYTES)
                    .last()
                    .unwrap_or(0);
                write!(f, "activity {name}({}{})", &input[..end], if end < input.len() { ".." } else { "" })
            }
            Self::Timer { duration } => {
                write!(f, "timer({:?})", std::time::Duration::from_nanos(*duration))
            }
            Self::CancelActivity { target } => write!(f, "cancel of activity {target}"),
            Self::CancelTimer { target } => write!(f, "cancel of timer {target}"),
        }
    }
}
