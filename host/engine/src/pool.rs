//! The threads that run turns. They are the operating system's, which preempts them: a guest that burns CPU costs
//! its share and no more. A monitor notices a thread that is long in one cell, lets it be overtaken by a fresh
//! thread, and lowers its priority; the overtaken thread retires after its turn.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crossbeam_channel::Receiver;
use parking_lot::Mutex;

use crate::{cell::Cell, context::Context, owner::Thread, threads};

/// Threads at once, overtaken ones included: beyond it guests wait for fuel to end their neighbours.
const SLOTS: usize = 128;
/// Longer in one cell than this, and the thread is overtaken.
const OVERTAKE_AFTER: Duration = Duration::from_millis(20);
/// How often the monitor looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Priority of an overtaken thread; it cannot be raised again without privileges, so the thread retires.
const OVERTAKEN_NICE: i32 = 10;
/// Mailboxes that one visit of a cell may empty before others get their turn.
const ROUNDS: usize = 16;

#[derive(Default)]
struct Slot {
    taken: AtomicBool,
    /// ns since the pool began, plus one, when the thread took its cell; 0 while it waits.
    since: AtomicU64,
    overtaken: AtomicBool,
    tid: AtomicI32,
}

pub(crate) struct Pool {
    context: Arc<Context>,
    ready: Receiver<Arc<Cell>>,
    slots: Vec<Slot>,
    began: Instant,
    threads: Mutex<Vec<JoinHandle<()>>>,
    ending: AtomicBool,
}

impl Pool {
    pub fn start(context: Arc<Context>, ready: Receiver<Arc<Cell>>) -> std::io::Result<Arc<Self>> {
        let workers = context.config.workers.clamp(1, SLOTS / 2);
        let slots = (0..SLOTS).map(|_| Slot::default()).collect();
        let pool = Arc::new(Self {
            context,
            ready,
            slots,
            began: Instant::now(),
            threads: Mutex::default(),
            ending: AtomicBool::new(false),
        });
        for _ in 0..workers {
            pool.clone().spawn_worker()?;
        }
        let monitor = pool.clone();
        let thread = threads::spawn("relive-monitor".to_owned(), move || monitor.watch())?;
        pool.threads.lock().push(thread);
        Ok(pool)
    }

    /// Lets all threads end once they are through with what they have, and waits for them.
    pub fn stop(&self) {
        self.ending.store(true, Ordering::Release);
        for thread in std::mem::take(&mut *self.threads.lock()) {
            let _ = thread.join();
        }
    }

    /// Whether no thread has a cell and none waits for one.
    pub fn is_quiet(&self) -> bool {
        self.ready.is_empty() && self.slots.iter().all(|s| s.since.load(Ordering::Acquire) == 0)
    }

    fn spawn_worker(self: Arc<Self>) -> std::io::Result<bool> {
        let free = self.slots.iter().position(|s| !s.taken.swap(true, Ordering::AcqRel));
        let Some(slot) = free else { return Ok(false) };
        self.slots[slot].overtaken.store(false, Ordering::Release);
        let pool = self.clone();
        let thread = threads::spawn(format!("relive-turn-{slot}"), move || pool.work(slot))?;
        let mut threads = self.threads.lock();
        threads.retain(|t| !t.is_finished());
        threads.push(thread);
        Ok(true)
    }

    fn work(&self, index: usize) {
        let slot = &self.slots[index];
        slot.tid.store(rustix::thread::gettid().as_raw_nonzero().get(), Ordering::Release);
        while !self.ending.load(Ordering::Acquire) && !slot.overtaken.load(Ordering::Acquire) {
            let Ok(cell) = self.ready.recv_timeout(Duration::from_millis(500)) else {
                continue;
            };
            slot.since.store(self.elapsed() + 1, Ordering::Release);
            self.visit(&cell, Thread { slot: index });
            slot.since.store(0, Ordering::Release);
        }
        slot.taken.store(false, Ordering::Release);
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX - 1)
    }

    fn visit(&self, cell: &Arc<Cell>, thread: Thread) {
        let mut owner = cell.owner.lock();
        for _ in 0..ROUNDS {
            let messages = cell.take();
            if messages.is_empty() {
                let idle = owner.is_idle();
                drop(owner);
                if idle {
                    self.context.registry.release(cell.run);
                }
                return;
            }
            owner.handle(&self.context, thread, messages);
        }
        drop(owner);
        self.context.registry.again(cell.clone());
    }

    fn watch(self: Arc<Self>) {
        while !self.ending.load(Ordering::Acquire) {
            std::thread::sleep(LOOK_EVERY);
            let now = self.elapsed();
            for slot in &self.slots {
                let since = slot.since.load(Ordering::Acquire);
                let long = since != 0 && now.saturating_sub(since) > OVERTAKE_AFTER.as_nanos() as u64;
                if long && !slot.overtaken.swap(true, Ordering::AcqRel) {
                    let tid = rustix::process::Pid::from_raw(slot.tid.load(Ordering::Acquire));
                    if let Err(error) = rustix::process::setpriority_process(tid, OVERTAKEN_NICE) {
                        tracing::debug!(%error, "failed to lower a thread's priority");
                    }
                    if let Err(error) = self.clone().spawn_worker() {
                        tracing::warn!(%error, "failed to start another turn thread");
                    }
                }
            }
        }
    }
}
