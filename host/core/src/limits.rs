//! Every limit of the core, with its reason. Limits that a run is held to are copied into its start event
//! ([`RunLimits`]), so that a replay years later decides as the first life did.

use serde::{Deserialize, Serialize};

/// Names end up in metrics, subjects and file names.
pub const MAX_NAME_BYTES: usize = 128;
/// A caller's key must fit an index row and a URL.
pub const MAX_ID_BYTES: usize = 256;
/// Deeper JSON is nobody's data, and recursion costs stack.
pub const MAX_JSON_DEPTH: usize = 128;
/// The largest `random-bytes` answer; more would be a way to make the host allocate.
pub const MAX_RANDOM_BYTES: u32 = 65_536;
/// Log text of one line; longer lines are cut, not refused.
pub const MAX_LOG_BYTES: usize = 16 * 1024;
/// Log lines and published values of one turn: they are held in memory until the turn commits.
pub const MAX_LOGS_PER_TURN: usize = 1_000;
/// Published keys of one turn.
pub const MAX_PUBLISHES_PER_TURN: usize = 1_000;
/// Change ids of one run: their answers live in memory and in every snapshot.
pub const MAX_VERSIONS: usize = 1_000;
/// A turn may issue this many commands: they are held in memory and committed as one item.
pub const MAX_COMMANDS_PER_TURN: usize = 2_000;
/// Bytes that one turn may ask the host to keep (inputs, options, published values, log lines): they are held until it
/// commits.
pub const MAX_BYTES_PER_TURN: usize = 16 << 20;
/// What a text in a list counts beside its own bytes: a list of a million empty ones is not free to hold.
pub const HELD_TEXT_BYTES: usize = 32;
/// Command numbers and event ids of one run fit in 24 bits (the stores' row keys rely on it).
pub const MAX_EVENT_ID: u64 = (1 << 24) - 1;
/// The longest duration that a guest may ask for: 100 years of nanoseconds.
pub const MAX_DURATION_NANOS: u64 = 100 * 365 * 86_400 * 1_000_000_000;
/// An activity attempt that says nothing else ends after 300 s.
pub const DEFAULT_START_TO_CLOSE_NANOS: u64 = 300 * 1_000_000_000;
/// Turns that trapped, overran or ran out of memory are tried this often before the execution is blocked.
pub const MAX_TURN_TRIES: u32 = 3;
/// An execution that took the process down this often is quarantined.
pub const MAX_CRASHES: u32 = 3;
/// Messages are refused (429) beyond this share of the event limit; completions and timers always enter.
pub const MESSAGE_SHARE_OF_EVENTS: (u64, u64) = (95, 100);

/// What a run is held to from its first event to its last, recorded in its start event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunLimits {
    /// Events of the run's history.
    pub events: u64,
    /// Stored bytes of the run's history.
    pub history_bytes: u64,
    /// Bytes of one payload.
    pub payload_bytes: u32,
    /// Promises open at once.
    pub pending_promises: u32,
    /// Linear memory of the guest, in bytes.
    pub memory_bytes: u64,
    /// Table elements of the guest.
    pub table_elements: u32,
    /// Fuel between two points where the guest waits: about two seconds of computing. What the host does for the guest
    /// meanwhile has as much of its own: a call costs 100, a byte that goes over 2.
    pub turn_fuel: u64,
}

impl Default for RunLimits {
    fn default() -> Self {
        Self {
            events: 51_200,
            history_bytes: 50 << 20,
            payload_bytes: 2 << 20,
            pending_promises: 2_000,
            memory_bytes: 64 << 20,
            table_elements: 100_000,
            turn_fuel: 2_000_000_000,
        }
    }
}

impl RunLimits {
    /// From this many events on, continue-as-new is advised: a fifth of the limit.
    #[must_use]
    pub fn advise_after(&self) -> u64 {
        self.events / 5
    }

    /// From this many events on, no message enters.
    #[must_use]
    pub fn messages_until(&self) -> u64 {
        self.events / MESSAGE_SHARE_OF_EVENTS.1 * MESSAGE_SHARE_OF_EVENTS.0
    }
}
