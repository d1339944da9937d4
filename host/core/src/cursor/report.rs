//! The non-determinism report: which command, what history holds, what the code asked for.

use serde::Serialize;

use super::{Cursor, Stop};
use crate::command::Recorded;

/// How a life of the guest differs from its history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Divergence {
    /// The command at which they part.
    pub command_no: u64,
    /// The event that holds it, if history holds one.
    pub event_id: Option<u64>,
    /// The inbound event that was applied last.
    pub after_event: u64,
    /// What history holds.
    pub history: String,
    /// What the code asked for.
    pub code: String,
    /// The last command on which they agreed.
    pub last_agreed: u64,
}

impl Divergence {
    pub(crate) fn at_command(command_no: u64, held: Option<&Recorded>, code: String, after_event: u64) -> Self {
        let history = match held {
            Some(held) if held.command_no == command_no => describe(held),
            Some(held) => format!("nothing under this number; next is command {}: {}", held.command_no, describe(held)),
            None => "no further command".to_owned(),
        };
        Self { command_no, event_id: held.map(|h| h.event_id), after_event, history, code, last_agreed: command_no - 1 }
    }
}

fn describe(held: &Recorded) -> String {
    held.matched().map_or_else(|| held.attributes.event_type().to_string(), |m| m.to_string())
}

impl std::fmt::Display for Divergence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the code diverges from the history at command {}", self.command_no)?;
        if let Some(event) = self.event_id {
            write!(f, " (event {event})")?;
        }
        write!(f, ": history holds {}; the code asks for {}", self.history, self.code)?;
        write!(f, "; they agree up to command {}, after event {}", self.last_agreed, self.after_event)
    }
}

impl Cursor {
    /// The report of a guest that stopped short of its history: it `code` (waits, or ended so) with commands left.
    #[must_use]
    pub fn commands_left(&self, code: String) -> Option<Divergence> {
        let held = self.recorded.front()?;
        Some(Divergence::at_command(self.issued + 1, Some(held), code, self.last_applied))
    }

    pub(super) fn diverge_version(&mut self, change_id: &str, version: u32, min: u32, max: u32) -> Stop {
        self.divergence = Some(Box::new(Divergence {
            command_no: self.issued + 1,
            event_id: None,
            after_event: self.last_applied,
            history: format!("version {version} of change {change_id:?}"),
            code: format!("versions {min} to {max}"),
            last_agreed: self.issued,
        }));
        Stop::Diverged
    }
}
