//! Events that record an answer which the guest was given.

use serde::{Deserialize, Serialize};

/// The first live answer to `version(change-id, min, max)`; looked up by id on replay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VersionRecorded {
    pub change_id: String,
    pub version: u32,
}
