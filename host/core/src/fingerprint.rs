//! Fingerprints: equal across stores, re-runs and languages, because ids, times and options are left out.

use sha2::{Digest, Sha256};

use crate::{
    command::{Matched, matched},
    event::HistoryEvent,
    json::Json,
};

/// `sha256` over (command number, kind, name, canonical matched arguments) of a numbered command, lengths included.
/// `None` for an event that is no numbered command.
#[must_use]
pub fn step(event: &HistoryEvent) -> Option<[u8; 32]> {
    let command_no = event.body.command_no?;
    if !event.event_type().is_numbered_command() {
        return None;
    }
    let (kind, name, arguments) = match matched(&event.body.attributes)? {
        Matched::Activity { name, input } => {
            ("activity", name, Json::parse(input).map(|j| j.canonical()).unwrap_or_default())
        }
        m @ Matched::Timer { duration } => (m.kind(), "", duration.to_string().into_bytes()),
        m @ (Matched::CancelActivity { target } | Matched::CancelTimer { target }) => {
            (m.kind(), "", target.to_string().into_bytes())
        }
    };
    let mut sha = Sha256::new();
    sha.update(command_no.to_le_bytes());
    for part in [kind.as_bytes(), name.as_bytes(), &arguments] {
        sha.update((part.len() as u64).to_le_bytes());
        sha.update(part);
    }
    Some(sha.finalize().into())
}

/// The run's fingerprint: the steps' chained in the order of issue, zero for a run without steps.
#[must_use]
pub fn run(events: &[HistoryEvent]) -> [u8; 32] {
    events.iter().filter_map(step).fold([0; 32], |chain, step| {
        let mut sha = Sha256::new();
        sha.update(chain);
        sha.update(step);
        sha.finalize().into()
    })
}
