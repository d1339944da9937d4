//! Those who wait for the end of a run.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use relive_core::RunKey;
use tokio::sync::oneshot;

use crate::views::ResultView;

/// How a run ended, handed to whoever waits.
pub(crate) type Ended = Arc<ResultView>;

#[derive(Default)]
pub(crate) struct Waiters {
    runs: Mutex<HashMap<RunKey, Vec<oneshot::Sender<Ended>>>>,
}

impl Waiters {
    /// Registers before the caller looks at the row, so that no end falls between.
    pub fn wait(&self, run: RunKey) -> oneshot::Receiver<Ended> {
        let (sender, receiver) = oneshot::channel();
        let mut runs = self.runs.lock();
        let waiting = runs.entry(run).or_default();
        waiting.retain(|w| !w.is_closed());
        waiting.push(sender);
        receiver
    }

    /// Forgets those who gave up.
    pub fn prune(&self, run: RunKey) {
        let mut runs = self.runs.lock();
        if let Some(waiting) = runs.get_mut(&run) {
            waiting.retain(|w| !w.is_closed());
            if waiting.is_empty() {
                runs.remove(&run);
            }
        }
    }

    pub fn end(&self, run: RunKey, ended: &Ended) {
        for waiter in self.runs.lock().remove(&run).unwrap_or_default() {
            let _ = waiter.send(ended.clone());
        }
    }
}
