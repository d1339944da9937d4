//! How many executions there are, for operators.

use crate::event::BlockReason;

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
