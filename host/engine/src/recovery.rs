//! Recovery and sweep: finding executions that have something to do and that nobody holds. Both are the same walk
//! over the store's indexes; executions that wait for nothing that is due are not touched.

use std::{sync::Arc, time::Duration};

use relive_core::{
    RunKey, ShardSet,
    ports::{StoreError, TaskRow},
};

use crate::{context::Context, message::Message, remote::Recovery};

/// Rows that are read at once.
const PAGE: usize = 1_000;
/// Cells in memory beyond which the walk waits: the pool is behind.
const MANY_CELLS: usize = 20_000;
/// A timer that is overdue by this much was lost on its way.
const OVERDUE: u64 = 5_000_000_000;

/// Waits until the pool has caught up.
pub(crate) fn wait_for_room(context: &Context, stop: &dyn Fn() -> bool) {
    while context.registry.len() > MANY_CELLS && !stop() {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Has the sweep look through shards that came to this host.
pub(crate) fn ask(context: &Context, shards: &ShardSet) {
    let mut asked = context.recovering.lock();
    shards.iter().for_each(|shard| asked.insert(shard));
}

/// Wakes executions of the shards with unapplied inbound events, with open tasks that nobody runs, or with overdue timers.
/// Returns how many were woken. What waits in a queue for workers is left there, unless the host is `recovering` and has
/// yet to put it there. `stop` says when to give up.
pub(crate) fn walk(
    context: &Arc<Context>,
    shards: &ShardSet,
    recovering: Option<&Arc<Recovery>>,
    stop: &dyn Fn() -> bool,
) -> Result<u64, StoreError> {
    let mut woken = 0;
    let mut wake = |run: RunKey| {
        let held = context.registry.contains(run);
        woken += u64::from(!held);
        // One that is held now may be on its way out.
        if recovering.is_some() || !held {
            context.registry.post(run, Message::Wake);
        }
        wait_for_room(context, stop);
    };
    let mut after = RunKey(0);
    loop {
        let page = context.store.needs_wake(shards, after, PAGE)?;
        page.iter().for_each(|run| wake(*run));
        after = page.last().copied().unwrap_or(after);
        if page.len() < PAGE || stop() {
            break;
        }
    }
    let mut after = None;
    loop {
        let page = context.store.open_tasks(shards, after, PAGE)?;
        let mut last = None;
        let now = context.clock.now();
        let parked = |t: &TaskRow| {
            let waits = t.paused || t.due_at > now || context.remote.queues.holds(t.run, t.command_no, t.attempt);
            let parked = t.exhausted.is_some() || (t.queue.is_some() && waits);
            recovering.is_none() && t.claim.is_none() && parked
        };
        for task in page.iter().filter(|task| !parked(task)) {
            if let Some(recovery) = recovering.filter(|_| task.claim.is_some()) {
                context.registry.post(task.run, Message::Recover(recovery.clone()));
            }
            if last.replace(task.run) != Some(task.run) {
                wake(task.run);
            }
        }
        after = page.last().map(|t| (t.run, t.command_no));
        if page.len() < PAGE || stop() {
            break;
        }
    }
    let overdue = relive_core::Timestamp(context.clock.now().0.saturating_sub(OVERDUE));
    for timer in context.store.due_timers(shards, None, overdue, PAGE)? {
        context.registry.post(timer.run, Message::Timer { command_no: timer.command_no, deadline: timer.deadline });
    }
    Ok(woken)
}
