//! Contiguity, time and hash chain, over the bytes as stored.

use super::Violation;
use crate::{canonical_hash::GENESIS, codec::StoredEvent, event::HistoryEvent};

/// Checks that `events` continue a history whose last event was `after` with hash `prev` (0 and [`GENESIS`] for a
/// whole history).
pub fn check_chain(events: &[StoredEvent], after: u64, prev: &[u8; 32]) -> Result<(), Violation> {
    let mut hash = *prev;
    let mut time = events.first().map_or(crate::Timestamp(0), |e| e.timestamp);
    for (event, expected) in events.iter().zip(after + 1..) {
        if event.event_id != expected {
            return Err(Violation::Gap { expected, found: event.event_id });
        }
        if event.timestamp < time {
            return Err(Violation::TimeRunsBack(expected));
        }
        if event.expected_hash(&hash) != event.hash {
            return Err(Violation::BrokenChain(expected));
        }
        (hash, time) = (event.hash, event.timestamp);
    }
    Ok(())
}

/// Checks the chain of a whole history and decodes it.
pub fn decode_all(events: &[StoredEvent]) -> Result<Vec<HistoryEvent>, Violation> {
    check_chain(events, 0, &GENESIS)?;
    events.iter().map(|e| e.decode().map_err(|error| Violation::Undecodable { event: e.event_id, error })).collect()
}
