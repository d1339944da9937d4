//! One cell an execution: a mailbox and the owner's state behind a lock that only the pool takes. The registry hands
//! messages to cells, makes cells on demand, and lets go of idle ones without losing a message.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use crossbeam_channel::Sender;
use parking_lot::Mutex;
use relive_core::RunKey;

use crate::{message::Message, owner::Owner};

/// Locks over the map of cells; more than any number of threads that would contend.
const SHARDS: usize = 64;

#[derive(Default)]
struct Mailbox {
    queue: VecDeque<Message>,
    /// The cell is in the run queue or on a thread.
    scheduled: bool,
}

pub(crate) struct Cell {
    pub run: RunKey,
    mailbox: Mutex<Mailbox>,
    pub owner: Mutex<Owner>,
}

impl Cell {
    /// Takes everything that arrived. Empty: the cell is not scheduled any more, and the caller must let go of it.
    pub fn take(&self) -> VecDeque<Message> {
        let mut mailbox = self.mailbox.lock();
        let queue = std::mem::take(&mut mailbox.queue);
        mailbox.scheduled = !queue.is_empty();
        queue
    }
}

pub(crate) struct Registry {
    shards: Vec<Mutex<HashMap<RunKey, Arc<Cell>>>>,
    ready: Sender<Arc<Cell>>,
}

impl Registry {
    pub fn new(ready: Sender<Arc<Cell>>) -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), ready }
    }

    fn shard(&self, run: RunKey) -> &Mutex<HashMap<RunKey, Arc<Cell>>> {
        &self.shards[(run.0 as usize) % SHARDS]
    }

    /// Puts a message into the cell's mailbox, making the cell if there is none.
    pub fn post(&self, run: RunKey, message: Message) {
        let mut shard = self.shard(run).lock();
        let cell = shard
            .entry(run)
            .or_insert_with(|| Arc::new(Cell { run, mailbox: Mutex::default(), owner: Mutex::new(Owner::new(run)) }));
        let mut mailbox = cell.mailbox.lock();
        mailbox.queue.push_back(message);
        if !std::mem::replace(&mut mailbox.scheduled, true) {
            // A send fails only once the pool is gone; then nobody is left to care.
            let _ = self.ready.send(cell.clone());
        }
    }

    /// Queues a cell that is still scheduled once more.
    pub fn again(&self, cell: Arc<Cell>) {
        let _ = self.ready.send(cell);
    }

    /// Puts a message into the mailbox of a cell that exists.
    pub fn post_if_present(&self, run: RunKey, message: Message) {
        let present = self.shard(run).lock().contains_key(&run);
        if present {
            self.post(run, message);
        }
    }

    /// Lets go of a cell that has nothing in its mailbox and whose owner is idle. Both are asked here, where nothing
    /// can be posted meanwhile: a message that came after the caller looked may have put an item in flight since.
    pub fn release(&self, run: RunKey) {
        let mut shard = self.shard(run).lock();
        let idle = shard.get(&run).is_some_and(|cell| {
            let mailbox = cell.mailbox.lock();
            let settled = mailbox.queue.is_empty() && !mailbox.scheduled;
            settled && cell.owner.try_lock().is_some_and(|owner| owner.is_idle())
        });
        if idle {
            shard.remove(&run);
        }
    }

    pub fn len(&self) -> usize {
        self.shards.iter().map(|s| s.lock().len()).sum()
    }

    pub fn contains(&self, run: RunKey) -> bool {
        self.shard(run).lock().contains_key(&run)
    }

    /// All runs that have a cell now.
    pub fn runs(&self) -> Vec<RunKey> {
        self.shards.iter().flat_map(|s| s.lock().keys().copied().collect::<Vec<_>>()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_in_use_is_kept() {
        let (ready, _rest) = crossbeam_channel::unbounded();
        let registry = Registry::new(ready);
        let run = RunKey(1);
        registry.post(run, Message::Wake);
        registry.release(run);
        assert!(registry.contains(run), "its mailbox holds a message");
        let cell = registry.shard(run).lock()[&run].clone();
        cell.take();
        cell.take();
        let owner = cell.owner.lock();
        registry.release(run);
        assert!(registry.contains(run), "somebody works on it");
        drop(owner);
        registry.release(run);
        assert!(!registry.contains(run));
    }
}
