//! The clock port.

use crate::time::Timestamp;

/// Where timestamps come from: the store's clock, or a test's.
pub trait Clock: Send + Sync {
    /// Now. May jump; histories hold it to what never decreases.
    fn now(&self) -> Timestamp;

    /// The shared store's clock says `now`, a moment ago: a clock of a host among others goes by it from here on, so
    /// that a host whose own clock is wrong does no harm.
    fn store_says(&self, _now: Timestamp) {}
}
