//! The clock port.

use crate::time::Timestamp;

/// Where timestamps come from: the store's clock, or a test's.
pub trait Clock: Send + Sync {
    /// Now. May jump; histories hold it to what never decreases.
    fn now(&self) -> Timestamp;
}
