//! What this host lately saw of the executions' rows, so that most items are judged without asking.
//!
//! Only ever a guess: the statement that appends repeats the conditions. What an event id fixes (hash, time, status,
//! bytes) is right whenever the last event id is.

use std::collections::HashMap;

use relive_core::{Namespace, RunKey, WorkflowId, ports::ExecutionRow};

use crate::check::Head;

/// Heads of one generation; two are kept: 20 MB at most.
const GENERATION: usize = 32_768;

#[derive(Clone)]
pub(super) struct Known {
    pub(super) head: Head,
    pub(super) name: (Namespace, WorkflowId),
}

impl Known {
    pub(super) fn of(row: &ExecutionRow, log_count: u64) -> Self {
        let head = Head {
            status: row.status,
            epoch: row.epoch,
            last_event_id: row.last_event_id,
            last_hash: row.last_hash,
            last_timestamp: row.last_timestamp,
            last_inbound_id: row.last_inbound_id,
            applied_through: row.applied_through,
            command_count: row.command_count,
            history_bytes: row.history_bytes,
            log_count,
        };
        Self { head, name: (row.execution.namespace.clone(), row.execution.workflow_id.clone()) }
    }
}

/// The least recently used half goes when the other is full.
pub(super) struct Heads {
    young: HashMap<RunKey, Known>,
    old: HashMap<RunKey, Known>,
}

impl Heads {
    pub(super) fn new() -> Self {
        Self { young: HashMap::new(), old: HashMap::new() }
    }

    pub(super) fn get(&mut self, run: RunKey) -> Option<&Known> {
        if let Some(known) = self.old.remove(&run) {
            self.put(run, known);
        }
        self.young.get(&run)
    }

    /// Keeps a head that is not older than what is known.
    pub(super) fn put(&mut self, run: RunKey, known: Known) {
        self.old.remove(&run);
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        match self.young.get(&run) {
            Some(newer) if newer.head.last_event_id > known.head.last_event_id => {}
            _ => _ = self.young.insert(run, known),
        }
    }

    pub(super) fn forget(&mut self, run: RunKey) {
        self.young.remove(&run);
        self.old.remove(&run);
    }
}

#[cfg(test)]
mod tests {
    use relive_core::{Timestamp, canonical_hash::GENESIS, ports::Status};

    use super::*;

    fn known(last_event_id: u64) -> Known {
        let head = Head {
            status: Status::Running,
            epoch: 1,
            last_event_id,
            last_hash: GENESIS,
            last_timestamp: Timestamp(0),
            last_inbound_id: 1,
            applied_through: 1,
            command_count: 0,
            history_bytes: 0,
            log_count: 0,
        };
        Known { head, name: (Namespace::default(), WorkflowId::new("a").unwrap()) }
    }

    #[test]
    fn old_heads_go_and_used_ones_stay() {
        let mut heads = Heads::new();
        for run in 0..3 * GENERATION as u64 {
            heads.put(RunKey(run), known(1));
            assert!(heads.get(RunKey(0)).is_some(), "used all the time");
        }
        assert!(heads.young.len() + heads.old.len() <= 2 * GENERATION);
        assert!(heads.get(RunKey(1)).is_none());
        heads.put(RunKey(0), known(5));
        heads.put(RunKey(0), known(4));
        assert_eq!(heads.get(RunKey(0)).unwrap().head.last_event_id, 5, "a read that was overtaken");
        heads.forget(RunKey(0));
        assert!(heads.get(RunKey(0)).is_none());
    }
}
