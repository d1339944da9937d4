//! Fresh ids and seeds: the only entropy that the host takes for runs, recorded in their start events.

use relive_core::{RunId, Timestamp};

/// A UUIDv7 of `now`.
pub(crate) fn run_id(now: Timestamp) -> RunId {
    let seconds = now.0 / 1_000_000_000;
    let nanos = u32::try_from(now.0 % 1_000_000_000).unwrap_or(0);
    RunId(uuid::Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, seconds, nanos)))
}

/// A seed for a run's random streams.
pub(crate) fn seed() -> [u8; 32] {
    let mut seed = [0; 32];
    if getrandom::fill(&mut seed).is_err() {
        // No entropy source: two fresh UUIDs come from the same operating system's fallback.
        let (a, b) = (uuid::Uuid::now_v7(), uuid::Uuid::now_v7());
        seed[..16].copy_from_slice(a.as_bytes());
        seed[16..].copy_from_slice(b.as_bytes());
    }
    seed
}

/// A secret that nobody can guess.
pub(crate) fn secret() -> u64 {
    getrandom::u64().unwrap_or_else(|_| u64::from_le_bytes(seed()[..8].try_into().unwrap_or_default()))
}

/// A random id for messages and workflow ids that callers left out.
pub(crate) fn random() -> String {
    uuid::Uuid::now_v7().to_string()
}
