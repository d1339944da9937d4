//! Locks by workflow id, for starts that look before they start: between the look and the commit nobody else may start
//! the same id after a look of its own. Ordinary starts take none: the store itself refuses a second open run.

use std::hash::{BuildHasher, RandomState};

use relive_core::{Namespace, WorkflowId};
use tokio::sync::{Mutex, MutexGuard};

/// A start holds one for a commit or two, about a millisecond; this many let hundreds of starts at once go into the
/// same group commit.
const STRIPES: usize = 1_024;

pub(crate) struct Stripes {
    locks: Vec<Mutex<()>>,
    state: RandomState,
}

impl Default for Stripes {
    fn default() -> Self {
        Self { locks: (0..STRIPES).map(|_| Mutex::new(())).collect(), state: RandomState::new() }
    }
}

impl Stripes {
    pub async fn lock(&self, namespace: &Namespace, id: &WorkflowId) -> MutexGuard<'_, ()> {
        // The remainder is below the number of locks, which fits.
        let at = self.state.hash_one((namespace, id)) as usize % self.locks.len();
        self.locks[at].lock().await
    }
}
