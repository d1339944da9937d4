//! Clocks of hosts: the machine's, and the one that goes by the store that hosts share.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use parking_lot::RwLock;
use relive_core::{Timestamp, ports::Clock};

/// This machine's clock.
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }
}

/// The store's clock, as of the last beat, and the time since by a clock that nobody can set.
pub struct StoreClock(RwLock<(Timestamp, Instant)>);

impl StoreClock {
    /// Begins with the machine's clock, until the store says more.
    #[must_use]
    pub fn new() -> Self {
        Self(RwLock::new((SystemClock.now(), Instant::now())))
    }
}

impl Default for StoreClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for StoreClock {
    fn now(&self) -> Timestamp {
        let (at, taken) = *self.0.read();
        Timestamp(at.0.saturating_add(u64::try_from(taken.elapsed().as_nanos()).unwrap_or(u64::MAX)))
    }

    fn store_says(&self, now: Timestamp) {
        *self.0.write() = (now, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_sets_the_clock() {
        let clock = StoreClock::new();
        clock.store_says(Timestamp(1_000));
        let now = clock.now();
        assert!(now >= Timestamp(1_000) && now < Timestamp(3_600_000_000_000), "{now:?}");
    }
}
