//! The reconciler: every five minutes it holds the queues in memory against the task rows of the store, and says how
//! many tasks it had to put back and how many to remove. There should be none: each is a defect, or somebody who wrote
//! past the owner. What is to be done about a task is its owner's decision (`owner/remote.rs`); here it is only asked.

use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use crossbeam_channel::{RecvTimeoutError, Sender, unbounded};
use relive_core::{
    RunKey,
    ports::{StoreError, TaskRow},
};

use crate::{context::Context, message::Message, recovery};

/// How often it looks, by the host's clock.
pub(crate) const EVERY_NANOS: u64 = 300 * 1_000_000_000;
/// Rows that are read at once.
const PAGE: usize = 1_000;
/// Owners answer within this; what one does later is not counted.
const PATIENCE: Duration = Duration::from_secs(10);
/// How soon a host that stops is noticed meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What an owner did about a task that it was asked about; one that was in order is not told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reconciled {
    PutBack,
    Removed,
}

/// What one look came to.
#[derive(Debug, Default)]
struct Found {
    /// Open tasks in the store.
    tasks: u64,
    put_back: u64,
    removed: u64,
}

/// Looks once, and reports.
pub(crate) fn run(context: &Arc<Context>, stop: &dyn Fn() -> bool) {
    match look(context, stop) {
        Ok(Found { tasks, put_back: 0, removed: 0 }) => {
            tracing::info!(tasks, put_back = 0, removed = 0, "the reconciler found queues and store in agreement");
        }
        Ok(Found { tasks, put_back, removed }) => {
            tracing::warn!(tasks, put_back, removed, "the reconciler found queues and store in disagreement");
            context.stats.tasks_put_back.fetch_add(put_back, Ordering::Relaxed);
            context.stats.tasks_removed.fetch_add(removed, Ordering::Relaxed);
        }
        Err(error) => return tracing::warn!(%error, "the reconciler failed to read the store"),
    }
    context.stats.reconciled.fetch_add(1, Ordering::Relaxed);
}

fn look(context: &Arc<Context>, stop: &dyn Fn() -> bool) -> Result<Found, StoreError> {
    let queues = &context.remote.queues;
    // Before the rows are read: a task is in the store before it is in a queue.
    let mut rowless: HashSet<(RunKey, u64)> = queues.places().into_iter().collect();
    let shards = context.ownership.owned();
    let (answers, done) = unbounded();
    let mut found = Found::default();
    let mut after = None;
    loop {
        let page = context.store.open_tasks(&shards, after, PAGE)?;
        let now = context.clock.now();
        let held = |t: &TaskRow| t.paused || t.exhausted.is_some();
        let waits = |t: &TaskRow| t.queue.is_some() && t.claim.is_none() && !held(t) && t.due_at <= now;
        for task in &page {
            rowless.remove(&(task.run, task.command_no));
            if waits(task) && queues.attempt_of(task.run, task.command_no) != Some(task.attempt) {
                ask(context, task.run, task.command_no, &answers, stop);
            }
        }
        found.tasks += page.len() as u64;
        after = page.last().map(|t| (t.run, t.command_no));
        if page.len() < PAGE || stop() {
            break;
        }
    }
    for (run, command_no) in rowless {
        if !shards.contains(run.shard()) {
            // Another host's by now, which has it in its own queues.
            queues.remove(run, command_no);
            found.removed += 1;
        } else if queues.attempt_of(run, command_no).is_some() {
            ask(context, run, command_no, &answers, stop);
        }
    }
    drop(answers);
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until && !stop() {
        match done.recv_timeout(LOOK_EVERY) {
            Ok(Reconciled::PutBack) => found.put_back += 1,
            Ok(Reconciled::Removed) => found.removed += 1,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    Ok(found)
}

fn ask(context: &Arc<Context>, run: RunKey, command_no: u64, answer: &Sender<Reconciled>, stop: &dyn Fn() -> bool) {
    context.registry.post(run, Message::Reconcile { command_no, answer: answer.clone() });
    recovery::wait_for_room(context, stop);
}
