//! Group commit: one thread that appends whatever has queued up while the last commit was under way.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use relive_core::ports::{AppendError, AppendItem, Appended};

use crate::{abort, context::Context, message::Message};

/// Items of one commit: enough to amortise the sync, few enough to keep its latency.
const MAX_BATCH: usize = 512;

/// How often an idle committer looks whether the engine has ended.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Appends until the engine has ended. Each item's answer goes to its owner, with the item.
pub(crate) fn run(context: &Arc<Context>, items: &Receiver<AppendItem>) {
    let mut batch = Vec::with_capacity(MAX_BATCH);
    loop {
        let first = match items.recv_timeout(LOOK_EVERY) {
            Ok(first) => first,
            Err(RecvTimeoutError::Timeout) if !context.closed.load(Ordering::Acquire) => continue,
            Err(_) => return,
        };
        batch.push(first);
        batch.extend(items.try_iter().take(MAX_BATCH - 1));
        abort::point("before-commit");
        let results = append(context, &batch);
        abort::point("after-commit");
        debug_assert_eq!(results.len(), batch.len(), "one result an item");
        for (item, result) in batch.drain(..).zip(results) {
            let run = item.run;
            if let (Some(feed), Ok(_)) = (&context.feed, &result) {
                feed.committed(&item);
            }
            context.registry.post(run, Message::Appended(Box::new(item), result));
            context.stats.in_flight.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

fn append(context: &Context, batch: &[AppendItem]) -> Vec<Result<Appended, AppendError>> {
    let _span = tracing::debug_span!("append", items = batch.len()).entered();
    let began = Instant::now();
    let results = context.store.append(batch);
    context.metrics.appends.took(began.elapsed());
    context.metrics.batches.record(batch.len() as u64);
    let mut well = true;
    for error in results.iter().filter_map(|result| result.as_ref().err()) {
        context.metrics.append_refused(error);
        well &= !matches!(error, AppendError::Backend(_));
    }
    context.health.wrote(well);
    results
}
