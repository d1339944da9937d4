//! Attempts that failed and are followed by another, for operators: their events ride on a later commit, and until
//! then history does not show them.

use std::collections::HashMap;

use parking_lot::Mutex;
use relive_core::{Failure, RunKey};

/// An activity between two attempts, or in a later one.
#[derive(Clone, Debug)]
pub(crate) struct Retrying {
    /// The attempt that is due or running.
    pub attempt: u32,
    /// What the one before had to say.
    pub last_failure: Failure,
}

#[derive(Default)]
pub(crate) struct Attempts {
    retrying: Mutex<HashMap<(RunKey, u64), Retrying>>,
}

impl Attempts {
    pub fn failed(&self, run: RunKey, command_no: u64, retrying: Retrying) {
        self.retrying.lock().insert((run, command_no), retrying);
    }

    /// The activity is resolved, given up, or somebody else's.
    pub fn forget(&self, run: RunKey, command_no: u64) {
        let mut retrying = self.retrying.lock();
        if !retrying.is_empty() {
            retrying.remove(&(run, command_no));
        }
    }

    pub fn of(&self, run: RunKey, command_no: u64) -> Option<Retrying> {
        self.retrying.lock().get(&(run, command_no)).cloned()
    }
}
