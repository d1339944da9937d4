//! The timer service: one thread that keeps the nearest timers in memory, in order, and wakes their owners when they
//! are due. All others stay in the store; memory does not grow with the number of sleepers.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::{Condvar, Mutex, MutexGuard};
use relive_core::{
    RunKey, ShardSet, Timestamp,
    ports::{HistoryStore, TimerRow},
};

use crate::{context::Context, message::Message, remote::QueueName};

/// Timers that are read from the store at once; twice as many are kept at most.
const WINDOW: usize = 8_192;
/// The thread looks at the clock this often even if nothing is due, in case the clock was set.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// The store's trouble is not made worse by asking at once again.
const STORE_PAUSE: Duration = Duration::from_millis(500);

struct Window {
    timers: BTreeSet<TimerRow>,
    /// When owners want to look at a task of theirs: a deadline, the time of the next attempt. In memory alone; what
    /// they follow from stands in the store.
    alarms: BTreeSet<TimerRow>,
    /// When gates of task queues are to be looked at.
    gates: BTreeSet<(Timestamp, QueueName)>,
    /// Timers up to here are all in memory; none: all of them are.
    horizon: Option<TimerRow>,
}

pub(crate) struct Timers {
    window: Mutex<Window>,
    changed: Condvar,
    ending: AtomicBool,
}

const FIRST: TimerRow = TimerRow { deadline: Timestamp(0), run: RunKey(0), command_no: 0 };

impl Timers {
    pub fn new() -> Self {
        let window = Mutex::new(Window {
            timers: BTreeSet::new(),
            alarms: BTreeSet::new(),
            gates: BTreeSet::new(),
            horizon: Some(FIRST),
        });
        Self { window, changed: Condvar::new(), ending: AtomicBool::new(false) }
    }

    /// Takes timers that were just committed. Those beyond the horizon stay in the store.
    pub fn add(&self, rows: &[TimerRow]) {
        if rows.is_empty() {
            return;
        }
        let mut window = self.window.lock();
        let first = window.timers.first().copied();
        for row in rows {
            if window.horizon.is_none_or(|h| *row <= h) {
                window.timers.insert(*row);
            }
        }
        if window.timers.len() > 2 * WINDOW {
            let cut = window.timers.iter().nth(WINDOW).copied();
            if let Some(cut) = cut {
                window.timers.split_off(&cut);
                window.horizon = window.timers.last().copied();
            }
        }
        if window.timers.first().copied() != first {
            self.changed.notify_one();
        }
    }

    /// Puts one alarm in the place of another.
    pub fn alarm(&self, before: Option<TimerRow>, after: Option<TimerRow>) {
        let mut window = self.window.lock();
        let first = window.alarms.first().copied();
        if let Some(before) = before {
            window.alarms.remove(&before);
        }
        if let Some(after) = after {
            window.alarms.insert(after);
            if window.alarms.first().copied() != first {
                self.changed.notify_one();
            }
        }
    }

    /// Other shards are this host's now: reads the window again.
    pub fn reset(&self) {
        let mut window = self.window.lock();
        window.timers.clear();
        window.horizon = Some(FIRST);
        self.changed.notify_one();
    }

    /// Looks at the gate of a task queue then.
    pub fn gate(&self, at: Timestamp, queue: QueueName) {
        let mut window = self.window.lock();
        let sooner = window.gates.first().is_none_or(|(first, _)| at < *first);
        window.gates.insert((at, queue));
        if sooner {
            self.changed.notify_one();
        }
    }

    /// Looks at the clock now (a test clock was moved, or the host stops).
    pub fn poke(&self) {
        let _window = self.window.lock();
        self.changed.notify_one();
    }

    pub fn stop(&self) {
        self.ending.store(true, Ordering::Release);
        self.poke();
    }

    /// Fires timers until it is stopped.
    pub fn run(&self, context: &Arc<Context>) {
        let mut window = self.window.lock();
        while !self.ending.load(Ordering::Acquire) {
            let now = context.clock.now();
            while window.timers.first().is_some_and(|t| t.deadline <= now) {
                let Some(timer) = window.timers.pop_first() else {
                    break;
                };
                context
                    .registry
                    .post(timer.run, Message::Timer { command_no: timer.command_no, deadline: timer.deadline });
            }
            while window.alarms.first().is_some_and(|t| t.deadline <= now) {
                let Some(alarm) = window.alarms.pop_first() else { break };
                context.registry.post(alarm.run, Message::Alarm { command_no: alarm.command_no });
            }
            let mut gates = Vec::new();
            while window.gates.first().is_some_and(|(at, _)| *at <= now) {
                gates.extend(window.gates.pop_first().map(|(_, queue)| queue));
            }
            if !gates.is_empty() {
                // What is served there may set the next look.
                MutexGuard::unlocked(&mut window, || gates.iter().for_each(|q| context.remote.queues.serve(q)));
                continue;
            }
            let alarm = window.alarms.first().map_or(LONGEST_WAIT, |t| Duration::from_nanos(t.deadline.since(now)));
            let gate = window.gates.first().map_or(LONGEST_WAIT, |(at, _)| Duration::from_nanos(at.since(now)));
            let wait = match (window.timers.first(), window.horizon) {
                (None, Some(horizon)) => {
                    match load(&*context.store, &context.ownership.owned(), &mut window, horizon) {
                        Ok(()) => continue,
                        Err(error) => {
                            tracing::warn!(%error, "failed to read timers");
                            STORE_PAUSE
                        }
                    }
                }
                (Some(timer), _) => Duration::from_nanos(timer.deadline.since(now)).min(LONGEST_WAIT),
                (None, None) => LONGEST_WAIT,
            };
            self.changed.wait_for(&mut window, wait.min(alarm).min(gate));
        }
    }
}

/// Reads the next window. The lock is held meanwhile, so that no timer falls between the read and the new horizon.
fn load(
    store: &dyn HistoryStore,
    shards: &ShardSet,
    window: &mut Window,
    horizon: TimerRow,
) -> Result<(), relive_core::ports::StoreError> {
    let rows = store.due_timers(shards, Some(horizon), Timestamp(u64::MAX), WINDOW)?;
    window.horizon = if rows.len() < WINDOW { None } else { rows.last().copied() };
    window.timers.extend(rows);
    Ok(())
}
