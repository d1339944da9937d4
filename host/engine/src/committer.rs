//! Group commit: one thread that appends whatever has queued up while the last commit was under way.

use std::sync::{Arc, atomic::Ordering};

use crossbeam_channel::Receiver;
use relive_core::ports::AppendItem;

use crate::{abort, context::Context, message::Message};

/// Items of one commit: enough to amortise the sync, few enough to keep its latency.
const MAX_BATCH: usize = 512;

/// Appends until all senders are gone. Each item's answer goes to its owner, with the item.
pub(crate) fn run(context: &Arc<Context>, items: &Receiver<AppendItem>) {
    let mut batch = Vec::with_capacity(MAX_BATCH);
    while let Ok(first) = items.recv() {
        batch.push(first);
        batch.extend(items.try_iter().take(MAX_BATCH - 1));
        abort::point("before-commit");
        let results = context.store.append(&batch);
        abort::point("after-commit");
        debug_assert_eq!(results.len(), batch.len(), "one result an item");
        for (item, result) in batch.drain(..).zip(results) {
            let run = item.run;
            context.registry.post(run, Message::Appended(Box::new(item), result));
            context.stats.in_flight.fetch_sub(1, Ordering::AcqRel);
        }
    }
}
