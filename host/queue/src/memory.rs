//! Task queues and signals within one process: for tests, and for a host that has nobody to talk to. The same contract
//! as over NATS, deadlines and duplicates included.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, ready},
    stream::{self, BoxStream, StreamExt},
};
use parking_lot::Mutex;
use relive_core::{
    Shard,
    ports::{
        Delivery, Fetched, PublishCount, QueueDepth, QueueError, QueueErrorKind, QueueName, Receipt, Signal, Signals,
        TaskMessage, TaskQueue,
    },
};
use tokio::{
    sync::{Notify, broadcast, broadcast::error::RecvError},
    time::Instant,
};

use crate::limits::{MAX_FETCH, QueueLimits};

/// Signals that a listener may be behind before it misses some.
const SIGNALS_KEPT: usize = 4_096;

struct Entry {
    task: TaskMessage,
    /// How often it was handed out.
    number: u32,
    /// Until when somebody has it, or nobody may have it; `None`: it is ready.
    until: Option<Instant>,
    /// Whether somebody has it.
    out: bool,
}

#[derive(Default)]
struct Queue {
    ready: VecDeque<u64>,
    /// When messages that are not ready will be.
    deadlines: BTreeSet<(Instant, u64)>,
    wake: Arc<Notify>,
}

#[derive(Default)]
struct Inner {
    queues: HashMap<QueueName, Queue>,
    entries: HashMap<u64, Entry>,
    next: u64,
    /// Ids of messages that were taken, and when, the oldest first.
    seen: HashMap<String, Instant>,
    seen_order: VecDeque<(Instant, String)>,
}

/// Task queues and signals in memory.
pub struct MemoryQueue {
    limits: QueueLimits,
    inner: Mutex<Inner>,
    signals: broadcast::Sender<Shard>,
}

impl MemoryQueue {
    #[must_use]
    pub fn new(limits: QueueLimits) -> Self {
        Self { limits, inner: Mutex::default(), signals: broadcast::channel(SIGNALS_KEPT).0 }
    }

    fn publish_now(&self, batch: &[TaskMessage]) -> Result<PublishCount, QueueError> {
        let mut inner = self.inner.lock();
        let now = Instant::now();
        inner.forget_seen(now, self.limits.duplicate_window);
        let mut count = PublishCount::default();
        for task in batch {
            let id = task.message_id();
            if inner.seen.contains_key(&id) {
                count.duplicates += 1;
                continue;
            }
            if inner.entries.len() >= self.limits.max_messages as usize {
                let limit = self.limits.max_messages;
                return Err(QueueError::new(
                    QueueErrorKind::Full,
                    format!("the task queues hold {limit} messages, which is all that they may"),
                ));
            }
            inner.seen.insert(id.clone(), now);
            inner.seen_order.push_back((now, id));
            inner.add(task.clone());
            count.accepted += 1;
        }
        Ok(count)
    }

    async fn fetch_some(&self, name: &QueueName, max: usize, wait: Duration) -> Fetched {
        let end = Instant::now() + wait;
        let wake = self.inner.lock().queues.entry(name.clone()).or_default().wake.clone();
        loop {
            let woken = wake.notified();
            tokio::pin!(woken);
            // From here on a wake-up counts, also one that comes before the wait below.
            woken.as_mut().enable();
            let now = Instant::now();
            let (fetched, next) = self.inner.lock().take(name, max.clamp(1, MAX_FETCH), now, &self.limits);
            if !fetched.is_empty() || now >= end {
                return fetched;
            }
            let until = next.map_or(end, |next| next.min(end));
            tokio::select! {
                () = woken => {}
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }

    /// Lets `change` loose on a message that somebody has or had; one that is gone is left alone.
    fn answer(&self, receipt: &Receipt, change: impl FnOnce(&mut Inner, u64)) -> Result<(), QueueError> {
        let number = receipt.0.strip_prefix("memory:").and_then(|number| number.parse().ok()).ok_or_else(|| {
            QueueError::new(QueueErrorKind::Invalid, format!("{:?} is no receipt of a queue in memory", receipt.0))
        })?;
        let mut inner = self.inner.lock();
        if inner.entries.contains_key(&number) {
            change(&mut inner, number);
        }
        Ok(())
    }

    /// The message is not ready before `until`.
    fn postpone(&self, receipt: &Receipt, by: Duration, out: bool) -> Result<(), QueueError> {
        self.answer(receipt, |inner, number| inner.put_off(number, Instant::now() + by, out))
    }
}

impl Inner {
    fn forget_seen(&mut self, now: Instant, window: Duration) {
        while let Some((at, _)) = self.seen_order.front()
            && now.duration_since(*at) > window
        {
            if let Some((_, id)) = self.seen_order.pop_front() {
                self.seen.remove(&id);
            }
        }
    }

    fn add(&mut self, task: TaskMessage) {
        self.next += 1;
        let number = self.next;
        let queue = self.queues.entry(task.queue.clone()).or_default();
        queue.ready.push_back(number);
        queue.wake.notify_waiters();
        self.entries.insert(number, Entry { task, number: 0, until: None, out: false });
    }

    /// Hands out what is ready at `now`, and says when more will be.
    fn take(&mut self, name: &QueueName, max: usize, now: Instant, limits: &QueueLimits) -> (Fetched, Option<Instant>) {
        let Self { queues, entries, .. } = self;
        let queue = queues.entry(name.clone()).or_default();
        while let Some(&(at, number)) = queue.deadlines.first()
            && at <= now
        {
            queue.deadlines.pop_first();
            // What comes again goes before what is new, as on the broker.
            queue.ready.push_front(number);
            if let Some(entry) = entries.get_mut(&number) {
                (entry.until, entry.out) = (None, false);
            }
        }
        let mut fetched = Fetched::default();
        while fetched.ready.len() + fetched.exhausted.len() < max
            && let Some(number) = queue.ready.pop_front()
        {
            let Some(entry) = entries.get_mut(&number) else { continue };
            let until = now + limits.ack_wait;
            entry.number += 1;
            (entry.until, entry.out) = (Some(until), true);
            queue.deadlines.insert((until, number));
            let receipt = Receipt(format!("memory:{number}").into());
            let delivery = Delivery { task: entry.task.clone(), receipt, number: entry.number };
            let kind = if entry.number > limits.max_deliver { &mut fetched.exhausted } else { &mut fetched.ready };
            kind.push(delivery);
        }
        (fetched, queue.deadlines.first().map(|(at, _)| *at))
    }

    fn put_off(&mut self, number: u64, until: Instant, out: bool) {
        let Self { queues, entries, .. } = self;
        // Somebody's time ran out before they said so: the message is for all again.
        let Some(entry) = entries.get_mut(&number).filter(|entry| entry.out) else { return };
        let queue = queues.entry(entry.task.queue.clone()).or_default();
        if let Some(before) = entry.until {
            queue.deadlines.remove(&(before, number));
        }
        (entry.until, entry.out) = (Some(until), out);
        queue.deadlines.insert((until, number));
        queue.wake.notify_waiters();
    }

    fn remove(&mut self, number: u64) {
        let Some(entry) = self.entries.remove(&number) else { return };
        if let Some(queue) = self.queues.get_mut(&entry.task.queue) {
            match entry.until {
                Some(before) => drop(queue.deadlines.remove(&(before, number))),
                None => queue.ready.retain(|ready| *ready != number),
            }
        }
    }
}

impl TaskQueue for MemoryQueue {
    fn publish<'a>(&'a self, batch: &'a [TaskMessage]) -> BoxFuture<'a, Result<PublishCount, QueueError>> {
        ready(self.publish_now(batch)).boxed()
    }

    fn ensure_consumer<'a>(&'a self, _: &'a QueueName) -> BoxFuture<'a, Result<(), QueueError>> {
        ready(Ok(())).boxed()
    }

    fn fetch<'a>(
        &'a self,
        queue: &'a QueueName,
        max: usize,
        wait: Duration,
    ) -> BoxFuture<'a, Result<Fetched, QueueError>> {
        self.fetch_some(queue, max, wait).map(Ok).boxed()
    }

    fn ack<'a>(&'a self, receipt: &'a Receipt) -> BoxFuture<'a, Result<(), QueueError>> {
        ready(self.answer(receipt, Inner::remove)).boxed()
    }

    fn nak<'a>(&'a self, receipt: &'a Receipt, delay: Duration) -> BoxFuture<'a, Result<(), QueueError>> {
        ready(self.postpone(receipt, delay, false)).boxed()
    }

    fn in_progress<'a>(&'a self, receipt: &'a Receipt) -> BoxFuture<'a, Result<(), QueueError>> {
        ready(self.postpone(receipt, self.limits.ack_wait, true)).boxed()
    }

    fn term<'a>(&'a self, receipt: &'a Receipt) -> BoxFuture<'a, Result<(), QueueError>> {
        self.ack(receipt)
    }

    fn depth<'a>(&'a self, queue: &'a QueueName) -> BoxFuture<'a, Result<QueueDepth, QueueError>> {
        let inner = self.inner.lock();
        let of_queue = inner.entries.values().filter(|entry| entry.task.queue == *queue);
        let (out, waiting): (Vec<_>, Vec<_>) = of_queue.partition(|entry| entry.out);
        ready(Ok(QueueDepth { waiting: waiting.len() as u64, unanswered: out.len() as u64 })).boxed()
    }
}

impl Signals for MemoryQueue {
    fn notify(&self, shard: Shard) -> BoxFuture<'_, Result<(), QueueError>> {
        // Nobody listens: nobody needs to hear.
        let _ = self.signals.send(shard);
        ready(Ok(())).boxed()
    }

    fn subscribe(&self) -> BoxFuture<'_, Result<BoxStream<'static, Signal>, QueueError>> {
        let listener = self.signals.subscribe();
        let heard = stream::unfold(listener, |mut listener| async move {
            match listener.recv().await {
                Ok(shard) => Some((Signal::Happened(shard), listener)),
                Err(RecvError::Lagged(_)) => Some((Signal::Missed, listener)),
                Err(RecvError::Closed) => None,
            }
        });
        ready(Ok(heard.boxed())).boxed()
    }
}

impl Default for MemoryQueue {
    fn default() -> Self {
        Self::new(QueueLimits::default())
    }
}
