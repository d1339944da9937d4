//! A clock that tests move.

use std::sync::atomic::{AtomicU64, Ordering};

use relive_core::{Timestamp, ports::Clock};

/// Starts at a fixed point of 2026 and moves when it is told.
pub struct TestClock(AtomicU64);

impl Default for TestClock {
    fn default() -> Self {
        Self(AtomicU64::new(1_780_000_000_000_000_000))
    }
}

impl TestClock {
    /// Moves the clock by `nanos`, backwards if negative.
    pub fn advance(&self, nanos: i64) {
        let moved = self.0.load(Ordering::Acquire).saturating_add_signed(nanos);
        self.0.store(moved, Ordering::Release);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Acquire))
    }
}

/// The system's clock.
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }
}
