//! The event feed: what was committed is published for other systems, in the order of each run, at least once.
//!
//! ```text
//! committer: appended --queue--> feed: decode, publish, delete from the outbox
//! store: outbox ------read------> what a former host left, what did not fit into the queue, what could not be deleted
//! ```
//!
//! The outbox is the truth and the queue a short cut past reading it. Whenever the queue may lack something (it was full,
//! or shards came from another host), the feed goes by the outbox until that is empty, then by the queue again; what it
//! meets twice it publishes twice, under the same id.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use relive_core::{
    Json, RunKey,
    codec::StoredEvent,
    ports::{AppendItem, EventFeed, ExecutionRow, FeedEvent, Outbox, QueueError, StoreError, Unpublished},
};
use tokio::runtime::Handle;

use crate::context::Context;

/// Appends that wait to be published; beyond that the outbox alone knows of them.
const QUEUE: usize = 10_000;
/// Appends that are published together: the broker acknowledges them side by side.
const BATCH: usize = 200;
/// Rows of the outbox that are read at once.
const READ: usize = 500;
/// Without anything in the queue, the outbox is looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Between two tries while the broker or the store is in trouble.
const PAUSE: Duration = Duration::from_secs(1);
/// How often an idle feed looks whether the engine has ended.
const IDLE: Duration = Duration::from_millis(100);
/// Runs whose names are remembered.
const NAMES: usize = 10_000;

/// What a host publishes with.
#[derive(Clone)]
pub struct FeedParts {
    pub outbox: Arc<dyn Outbox>,
    pub feed: Arc<dyn EventFeed>,
}

/// Events of one append.
struct Fresh {
    unpublished: Unpublished,
    events: Vec<StoredEvent>,
}

/// The committer's and the keeper's side.
pub(crate) struct Feed {
    queue: Sender<Fresh>,
    /// The queue lacks something that the outbox has.
    behind: AtomicBool,
}

/// The thread's side.
pub(crate) struct Publisher {
    parts: FeedParts,
    fresh: Receiver<Fresh>,
    names: HashMap<RunKey, Option<Arc<ExecutionRow>>>,
    /// Nothing is published now, and that was told.
    trouble: bool,
    looked: Instant,
}

impl Feed {
    pub fn new(parts: FeedParts) -> (Self, Publisher) {
        let (queue, fresh) = crossbeam_channel::bounded(QUEUE);
        // What the host before left comes first.
        let feed = Self { queue, behind: AtomicBool::new(true) };
        let looked = Instant::now();
        (feed, Publisher { parts, fresh, names: HashMap::new(), trouble: false, looked })
    }

    /// The item is committed.
    pub fn committed(&self, item: &AppendItem) {
        let (Some(first), Some(last)) = (item.events.first(), item.events.last()) else { return };
        let unpublished = Unpublished { run: item.run, first: first.event_id, last: last.event_id };
        let fresh = Fresh { unpublished, events: item.events.clone() };
        if self.queue.try_send(fresh).is_err() {
            self.behind();
        }
        if let Some(next) = &item.successor {
            self.committed(next);
        }
    }

    /// Shards came to this host, or the queue was full: the outbox knows more than the queue.
    pub fn behind(&self) {
        self.behind.store(true, Ordering::Release);
    }
}

impl Publisher {
    pub fn run(mut self, context: &Arc<Context>, runtime: &Handle) {
        let Some(feed) = &context.feed else { return };
        while !context.closed.load(Ordering::Acquire) {
            let catch_up = feed.behind.swap(false, Ordering::AcqRel) || self.looked.elapsed() >= LOOK_EVERY;
            let done = if catch_up { self.catch_up(context, runtime) } else { self.go_on(context, runtime) };
            match done {
                Ok(()) => self.well(context),
                Err(what) => {
                    if !std::mem::replace(&mut self.trouble, true) {
                        tracing::warn!(what, "events are not published; trying again until they are");
                    }
                    feed.behind();
                    std::thread::sleep(PAUSE);
                }
            }
        }
    }

    fn well(&mut self, context: &Context) {
        if std::mem::take(&mut self.trouble) {
            tracing::info!("events are published again");
        }
        if self.fresh.is_empty() {
            context.metrics.outbox_lag.store(0, Ordering::Relaxed);
        }
    }

    /// Publishes what has queued up.
    fn go_on(&mut self, context: &Context, runtime: &Handle) -> Result<(), String> {
        let first = match self.fresh.recv_timeout(IDLE) {
            Ok(first) => first,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Ok(()),
        };
        let mut batch = vec![first];
        batch.extend(self.fresh.try_iter().take(BATCH - 1));
        note_lag(context, &batch);
        self.publish(context, runtime, &batch)
    }

    /// Publishes what the outbox has, until it is empty. What is in the queue is there as well.
    fn catch_up(&mut self, context: &Context, runtime: &Handle) -> Result<(), String> {
        let mut after = None;
        loop {
            let owned = context.ownership.owned();
            let rows = self.parts.outbox.unpublished(&owned, after, READ).map_err(|e| e.to_string())?;
            after = rows.last().copied();
            for rows in rows.chunks(BATCH) {
                let batch: Result<Vec<Fresh>, StoreError> = rows.iter().map(|row| read(context, *row)).collect();
                let batch = batch.map_err(|e| e.to_string())?;
                note_lag(context, &batch);
                self.publish(context, runtime, &batch)?;
            }
            if rows.len() < READ {
                break;
            }
        }
        self.looked = Instant::now();
        Ok(())
    }

    fn publish(&mut self, context: &Context, runtime: &Handle, batch: &[Fresh]) -> Result<(), String> {
        let mut events = Vec::new();
        for fresh in batch {
            let Some(row) = self.row(context, fresh.unpublished.run)? else { continue };
            events.extend(fresh.events.iter().filter_map(|event| outgoing(&row, event)));
        }
        let published = runtime.block_on(self.parts.feed.publish_events(&events));
        published.map_err(|error: QueueError| error.to_string())?;
        let rows: Vec<Unpublished> = batch.iter().map(|fresh| fresh.unpublished).collect();
        self.parts.outbox.published(&rows).map_err(|e| e.to_string())
    }

    /// Whose events they are.
    fn row(&mut self, context: &Context, run: RunKey) -> Result<Option<Arc<ExecutionRow>>, String> {
        if let Some(row) = self.names.get(&run) {
            return Ok(row.clone());
        }
        if self.names.len() >= NAMES {
            self.names.clear();
        }
        let row = context.store.execution(run).map_err(|e| e.to_string())?.map(Arc::new);
        self.names.insert(run, row.clone());
        Ok(row)
    }
}

/// How long the oldest of these has been there.
fn note_lag(context: &Context, batch: &[Fresh]) {
    let oldest = batch.iter().flat_map(|fresh| fresh.events.first()).map(|event| event.timestamp).min();
    let lag = oldest.map_or(0, |oldest| context.clock.now().since(oldest));
    context.metrics.outbox_lag.store(lag, Ordering::Relaxed);
}

fn read(context: &Context, row: Unpublished) -> Result<Fresh, StoreError> {
    let count = usize::try_from(row.last.saturating_sub(row.first) + 1).unwrap_or(usize::MAX);
    let events = context.store.read_from(row.run, row.first, count)?;
    Ok(Fresh { unpublished: row, events })
}

/// The event as other systems get it; one that cannot be read is the checker's matter.
fn outgoing(row: &ExecutionRow, event: &StoredEvent) -> Option<FeedEvent> {
    let decoded = match event.decode() {
        Ok(decoded) => decoded,
        Err(error) => {
            tracing::error!(run = row.key.0, event = event.event_id, %error, "an event cannot be read, and is not published");
            return None;
        }
    };
    Some(FeedEvent {
        namespace: row.execution.namespace.clone(),
        workflow: row.workflow.clone(),
        workflow_id: row.execution.workflow_id.clone(),
        run: row.execution.run_id,
        event_id: event.event_id,
        event_type: decoded.event_type().to_string().into(),
        trace_id: decoded.body.trace_id.clone(),
        correlation_id: decoded.body.correlation_id.clone().or_else(|| row.correlation_id.clone()),
        body: Json::of(&decoded).ok()?,
    })
}
