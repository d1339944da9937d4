//! Who wants to know that something was committed: followers of runs, and followers of the list. A hint and nothing
//! more: what changed is read from the store. Where nobody follows, a commit pays one atomic load for it, and one more
//! where an execution begins, ends or is blocked.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use relive_core::RunKey;
use tokio::sync::watch;

/// Changes of the list that are remembered for those who come back: seconds at the highest rate of starts, days at the
/// usual ones. Who was away for longer begins with a fresh list.
const REMEMBERED: usize = 4_096;

#[derive(Default)]
pub(crate) struct Changes {
    /// Followers of runs; zero spares commits the lock.
    followers: AtomicUsize,
    runs: Mutex<HashMap<RunKey, watch::Sender<()>>>,
    /// Somebody has followed the list since the start: from then on changes are remembered.
    listed: AtomicBool,
    list: Mutex<Recent>,
    list_changed: watch::Sender<()>,
}

/// The last changes, numbered from 1.
#[derive(Default)]
struct Recent {
    runs: VecDeque<RunKey>,
    /// The number of the newest.
    last: u64,
}

/// What a follower of the list has missed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Missed {
    /// Executions that began, ended or were blocked, each once, and the number of the last change among them.
    Runs(Vec<RunKey>, u64),
    /// More than is remembered.
    TooMuch,
}

impl Changes {
    /// Something was committed for the run.
    pub fn appended(&self, run: RunKey) {
        if self.followers.load(Ordering::Acquire) > 0
            && let Some(sender) = self.runs.lock().get(&run)
        {
            sender.send_replace(());
        }
    }

    /// The run began, ended, was blocked or unblocked.
    pub fn restated(&self, run: RunKey) {
        if !self.listed.load(Ordering::Acquire) {
            return;
        }
        let mut list = self.list.lock();
        list.last += 1;
        list.runs.push_back(run);
        if list.runs.len() > REMEMBERED {
            list.runs.pop_front();
        }
        drop(list);
        self.list_changed.send_replace(());
    }

    /// Follows a run. Whoever reads the store after this misses nothing.
    pub fn follow(self: &Arc<Self>, run: RunKey) -> Watch {
        self.followers.fetch_add(1, Ordering::AcqRel);
        let receiver = self.runs.lock().entry(run).or_insert_with(|| watch::Sender::new(())).subscribe();
        Watch { changes: self.clone(), run, receiver }
    }

    /// Follows the list: the number of the last change so far, and what tells of further ones.
    pub fn follow_list(&self) -> (u64, watch::Receiver<()>) {
        self.listed.store(true, Ordering::Release);
        let receiver = self.list_changed.subscribe();
        (self.list.lock().last, receiver)
    }

    /// What changed after number `after`, at most `limit` changes.
    pub fn since(&self, after: u64, limit: usize) -> Missed {
        let list = self.list.lock();
        let first = list.last - list.runs.len() as u64;
        let Some(skip) = after.checked_sub(first).filter(|_| after <= list.last) else { return Missed::TooMuch };
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        let mut runs = Vec::new();
        let mut last = after;
        for run in list.runs.iter().skip(skip).take(limit) {
            last += 1;
            if !runs.contains(run) {
                runs.push(*run);
            }
        }
        Missed::Runs(runs, last)
    }
}

/// One follower of a run.
pub(crate) struct Watch {
    changes: Arc<Changes>,
    run: RunKey,
    receiver: watch::Receiver<()>,
}

impl Watch {
    /// What is committed from here on is a change; what was before is about to be read.
    pub fn mark(&mut self) {
        self.receiver.borrow_and_update();
    }

    /// Resolves when something was committed since the mark.
    pub async fn changed(&mut self) {
        // The sender lives as long as its last follower.
        let _ = self.receiver.changed().await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut runs = self.changes.runs.lock();
        // This one is counted still.
        if runs.get(&self.run).is_some_and(|sender| sender.receiver_count() <= 1) {
            runs.remove(&self.run);
        }
        self.changes.followers.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_follower_hears_of_its_run_alone_and_of_nothing_twice() {
        let changes = Arc::new(Changes::default());
        changes.appended(RunKey(1));
        let mut watch = changes.follow(RunKey(1));
        let other = changes.follow(RunKey(1));
        watch.mark();
        assert!(watch.changed().now_or_never().is_none(), "what was before is read anyway");
        changes.appended(RunKey(2));
        assert!(watch.changed().now_or_never().is_none());
        changes.appended(RunKey(1));
        changes.appended(RunKey(1));
        assert!(watch.changed().now_or_never().is_some());
        assert!(watch.changed().now_or_never().is_none());
        drop((watch, other));
        assert!(changes.runs.lock().is_empty());
        assert_eq!(changes.followers.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_list_remembers_so_much_and_no_more() {
        let changes = Changes::default();
        changes.restated(RunKey(1));
        let (at, mut told) = changes.follow_list();
        assert_eq!(at, 0, "nobody followed");
        for run in [5, 6, 5, 7] {
            changes.restated(RunKey(run));
        }
        assert!(told.changed().now_or_never().is_some());
        assert_eq!(changes.since(0, 3), Missed::Runs(vec![RunKey(5), RunKey(6)], 3));
        assert_eq!(changes.since(3, 3), Missed::Runs(vec![RunKey(7)], 4));
        assert_eq!(changes.since(4, 3), Missed::Runs(vec![], 4));
        assert_eq!(changes.since(5, 3), Missed::TooMuch, "of another host's life");
        for run in 0..REMEMBERED as u64 {
            changes.restated(RunKey(run));
        }
        assert_eq!(changes.since(3, 1), Missed::TooMuch);
        assert_eq!(changes.since(4, 1), Missed::Runs(vec![RunKey(0)], 5));
    }
}
