//! Memory images that were stored or thrown away. They ride on commits that happen anyway, and the guest never sees
//! them.

use serde::{Deserialize, Serialize};

/// A memory image was stored with this event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotCreated {
    /// The last event that the image covers.
    pub through: u64,
    /// Its size at rest.
    pub bytes: u64,
}

/// A memory image could not be used; the execution was relived from its history instead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotDiscarded {
    /// The last event that the image said it covers.
    pub through: u64,
    pub reason: String,
}
