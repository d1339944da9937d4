//! How many executions there are, for operators.

use super::Status;
use crate::{event::BlockReason, ids::Digest, time::Timestamp};

/// Open executions, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    pub running: u64,
    /// Those that need an operator, by reason; reasons without any may be left out.
    pub blocked: Vec<(BlockReason, u64)>,
    /// Running ones with inbound events that were not applied.
    pub behind: u64,
    /// Activities whose last attempt was never answered, and that are held for an operator.
    pub failed_tasks: u64,
}

/// Runs of a workflow on one component that stand the same way, counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionCount {
    pub digest: Digest,
    pub status: Status,
    pub runs: u64,
    /// When the oldest of them began.
    pub oldest: Timestamp,
}
