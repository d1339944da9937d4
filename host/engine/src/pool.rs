//! The threads that run turns. They are the operating system's, which preempts them: a guest that burns CPU costs
//! its share and no more. A monitor notices a thread that burns CPU in one cell, lets it be overtaken by a fresh
//! thread, and lowers its priority; the overtaken thread retires after its turn. While no thread has a cell, the
//! monitor is parked.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering},
    },
    thread::{JoinHandle, Thread},
    time::{Duration, Instant},
};

use crossbeam_channel::Receiver;
use parking_lot::Mutex;

use crate::{cell::Cell, context::Context, owner, threads};

/// Threads at once, overtaken ones included: beyond it guests wait for fuel to end their neighbours.
const SLOTS: usize = 128;
/// How often the monitor looks.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// A visit shorter than this is not looked at closely.
const SHORT: Duration = Duration::from_millis(1);
/// CPU time in one cell, counted from the first close look, after which the thread is overtaken. Another thread costs
/// about a hundredth of it, so an honest guest that is long at work loses little.
const BURNT: Duration = Duration::from_millis(3);
/// Longer in one cell than this, and the thread is overtaken whatever it does: it may wait for the disk.
const OVERTAKE_AFTER: Duration = Duration::from_millis(20);
/// Priority of an overtaken thread; it cannot be raised again without privileges, so the thread retires.
const OVERTAKEN_NICE: i32 = 19;
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

/// What the monitor knows of a slot: the visit that it saw there first, and the thread's CPU time at that moment.
#[derive(Clone, Copy, Default)]
struct Seen {
    since: u64,
    cpu: Option<Duration>,
}

pub(crate) struct Pool {
    context: Arc<Context>,
    ready: Receiver<Arc<Cell>>,
    slots: Vec<Slot>,
    began: Instant,
    threads: Mutex<Vec<JoinHandle<()>>>,
    monitor: OnceLock<Thread>,
    /// The monitor sleeps until somebody takes a cell.
    parked: AtomicBool,
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
            monitor: OnceLock::new(),
            parked: AtomicBool::new(false),
            ending: AtomicBool::new(false),
        });
        for _ in 0..workers {
            pool.clone().spawn_worker()?;
        }
        let monitor = pool.clone();
        let thread = threads::spawn("relive-monitor".to_owned(), move || monitor.watch())?;
        let _ = pool.monitor.set(thread.thread().clone());
        pool.threads.lock().push(thread);
        Ok(pool)
    }

    /// Lets all threads end once they are through with what they have, and waits for them.
    pub fn stop(&self) {
        self.ending.store(true, Ordering::Release);
        self.wake_monitor();
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
            // Before the look at `parked`, as the monitor's looks are the other way round: one of the two sees.
            slot.since.store(self.elapsed() + 1, Ordering::SeqCst);
            if self.parked.load(Ordering::SeqCst) {
                self.wake_monitor();
            }
            self.visit(&cell, owner::Thread { slot: index });
            slot.since.store(0, Ordering::Release);
        }
        slot.taken.store(false, Ordering::Release);
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX - 1)
    }

    fn visit(&self, cell: &Arc<Cell>, thread: owner::Thread) {
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

    fn wake_monitor(&self) {
        if self.parked.swap(false, Ordering::SeqCst)
            && let Some(monitor) = self.monitor.get()
        {
            monitor.unpark();
        }
    }

    fn watch(self: Arc<Self>) {
        let mut seen = [Seen::default(); SLOTS];
        while !self.ending.load(Ordering::Acquire) {
            std::thread::sleep(LOOK_EVERY);
            let now = self.elapsed();
            let mut busy = false;
            for (slot, seen) in self.slots.iter().zip(&mut seen) {
                let since = slot.since.load(Ordering::Acquire);
                busy |= since != 0;
                if since != 0 && seen.is_long(slot, since, now) && !slot.overtaken.swap(true, Ordering::AcqRel) {
                    self.clone().overtake(slot);
                }
            }
            if !busy {
                self.park();
            }
        }
    }

    /// Until a thread takes a cell, or the pool ends.
    fn park(&self) {
        self.parked.store(true, Ordering::SeqCst);
        let idle = || self.slots.iter().all(|s| s.since.load(Ordering::SeqCst) == 0);
        while self.parked.load(Ordering::SeqCst) && !self.ending.load(Ordering::Acquire) && idle() {
            std::thread::park();
        }
        self.parked.store(false, Ordering::SeqCst);
    }

    fn overtake(self: Arc<Self>, slot: &Slot) {
        let tid = rustix::process::Pid::from_raw(slot.tid.load(Ordering::Acquire));
        if let Err(error) = rustix::process::setpriority_process(tid, OVERTAKEN_NICE) {
            tracing::debug!(%error, "failed to lower a thread's priority");
        }
        if let Err(error) = self.spawn_worker() {
            tracing::warn!(%error, "failed to start another turn thread");
        }
    }
}

impl Seen {
    /// Whether the visit that began at `since` is long, as far as the monitor saw it.
    fn is_long(&mut self, slot: &Slot, since: u64, now: u64) -> bool {
        if slot.overtaken.load(Ordering::Acquire) {
            return false;
        }
        let spent = Duration::from_nanos(now.saturating_sub(since));
        if spent < SHORT {
            return false;
        }
        let cpu = || cpu_time(slot.tid.load(Ordering::Acquire));
        if self.since != since {
            *self = Self { since, cpu: cpu() };
            return false;
        }
        let burnt = || self.cpu.zip(cpu()).is_some_and(|(then, now)| now.saturating_sub(then) >= BURNT);
        spent >= OVERTAKE_AFTER || burnt()
    }
}

/// CPU time that a thread of this process has had; `None` where the kernel does not say. A thread that waits for a
/// processor has none, however long it is in its cell.
fn cpu_time(tid: i32) -> Option<Duration> {
    let text = std::fs::read_to_string(format!("/proc/self/task/{tid}/schedstat")).ok()?;
    text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}
