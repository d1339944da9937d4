//! What bounds a task queue, with the reasons for the numbers.

use std::time::Duration;

/// The largest batch that one fetch takes: what it was handed must be looked at within the time for acknowledgements.
pub(crate) const MAX_FETCH: usize = 1_000;

/// How a task queue treats its messages. All hosts of a cluster must have the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// A message that was handed out and not answered for is handed out again after this time. A host looks at it and
    /// answers within milliseconds; the time is for hosts that die.
    pub ack_wait: Duration,
    /// A message is handed out this often; after that it counts as exhausted.
    pub max_deliver: u32,
    /// Messages of all task queues together. More are refused: nobody takes them, and the store has them anyway.
    pub max_messages: u32,
    /// Messages are forgotten after this time; a sweep sends them again.
    pub max_age: Duration,
    /// For how long a message is known by its id, so that it is not taken twice.
    pub duplicate_window: Duration,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self {
            ack_wait: Duration::from_secs(30),
            max_deliver: 3,
            max_messages: 1_000_000,
            max_age: Duration::from_secs(24 * 3_600),
            duplicate_window: Duration::from_secs(120),
        }
    }
}
