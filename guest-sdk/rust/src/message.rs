//! Messages: at most one open `next-message` promise a channel, kept after a lost `select`, so that no message falls
//! into a forgotten promise. A message that arrives while nobody waits is queued here, and reported as unread if the
//! workflow continues as new before it is taken.

use crate::runtime::{self, Runtime};
use crate::{host, Failure};
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// A message that was handed over and not taken yet.
struct Arrived {
    order: u64,
    id: Option<String>,
    outcome: Result<String, Failure>,
}

/// Somebody who awaits the channel.
struct Waiter {
    waker: Waker,
    canceled: bool,
}

/// What is known of one channel.
#[derive(Default)]
pub(crate) struct Channel {
    open: bool,
    arrived: VecDeque<Arrived>,
    /// In the order in which they began to wait, which is the order in which they are served.
    waiters: BTreeMap<u64, Waiter>,
    next_waiter: u64,
}

impl Channel {
    /// The waiters of this moment answer `canceled`. The promise stays open for later ones.
    pub(crate) fn cancel(&mut self) -> Vec<Waker> {
        let mut wakers = Vec::new();
        for waiter in self.waiters.values_mut() {
            waiter.canceled = true;
            wakers.push(waiter.waker.clone());
        }
        wakers
    }

    fn first(&self) -> Option<Waker> {
        self.waiters.values().next().map(|waiter| waiter.waker.clone())
    }
}

impl Runtime {
    /// A message arrived; returns whom to wake.
    pub(crate) fn deliver(
        &mut self,
        name: &str,
        id: Option<String>,
        outcome: Result<String, Failure>,
    ) -> Option<Waker> {
        let channel = self.channels.get_mut(name)?;
        channel.open = false;
        channel.arrived.push_back(Arrived { order: self.arrivals, id, outcome });
        self.arrivals += 1;
        channel.first()
    }

    /// The ids of messages handed over and not taken, in the order in which they arrived.
    pub(crate) fn unread(&mut self) -> Vec<String> {
        let channels = std::mem::take(&mut self.channels);
        let mut arrived: Vec<Arrived> = channels.into_values().flat_map(|channel| channel.arrived).collect();
        arrived.sort_by_key(|message| message.order);
        arrived.into_iter().filter_map(|message| message.id).collect()
    }

    /// Make sure that the channel has an open promise.
    fn open_channel(&mut self, name: &str) -> Result<(), Failure> {
        let open = self.channels.get(name).is_some_and(|channel| channel.open);
        if open {
            return Ok(());
        }
        self.flush();
        let promise = host::next_message(name)?;
        self.mailbox.insert(promise, name.to_owned());
        self.channels.entry(name.to_owned()).or_default().open = true;
        Ok(())
    }

    fn poll_message(&mut self, name: &str, waiter: &mut Option<u64>, waker: &Waker) -> Poll<Result<String, Failure>> {
        if !self.channels.contains_key(name) {
            self.channels.insert(name.to_owned(), Channel::default());
        }
        let Some(channel) = self.channels.get_mut(name) else {
            return Poll::Pending;
        };
        let canceled = waiter.and_then(|id| channel.waiters.get(&id)).is_some_and(|waiter| waiter.canceled);
        if canceled {
            self.leave(name, waiter);
            return Poll::Ready(Err(Failure::canceled("canceled by request")));
        }
        if let Some(message) = channel.arrived.pop_front() {
            self.leave(name, waiter);
            return Poll::Ready(message.outcome);
        }
        let id = *waiter.get_or_insert_with(|| {
            channel.next_waiter += 1;
            channel.next_waiter
        });
        channel.waiters.insert(id, Waiter { waker: waker.clone(), canceled: false });
        if let Err(failure) = self.open_channel(name) {
            self.leave(name, waiter);
            return Poll::Ready(Err(failure));
        }
        Poll::Pending
    }

    /// A waiter was served or went away: the next one's turn, if there is something for it.
    fn leave(&mut self, name: &str, waiter: &mut Option<u64>) {
        let Some(channel) = self.channels.get_mut(name) else {
            return;
        };
        if let Some(id) = waiter.take() {
            channel.waiters.remove(&id);
        }
        let next = channel.first();
        match (channel.arrived.is_empty(), next) {
            (false, Some(waker)) => waker.wake(),
            (true, Some(waker)) => {
                if self.open_channel(name).is_err() {
                    // It asks again itself, and is told why not.
                    waker.wake();
                }
            }
            (true, None) if !self.channels.get(name).is_some_and(|channel| channel.open) => {
                self.channels.remove(name);
            }
            (_, None) => {}
        }
    }
}

/// The next message of a channel, as a `T`. Made by [`message`].
///
/// Resolves to a [`Failure`] of code `decode-error` if the message is not a `T` (it is consumed all the same), and of
/// kind canceled if the execution is asked to cancel while this is awaited.
#[must_use = "futures do nothing unless awaited"]
pub struct Message<T> {
    channel: String,
    waiter: Option<u64>,
    value: PhantomData<fn() -> T>,
}

/// Await the next message that is sent to this execution on `channel`.
///
/// Messages wait in their channel, in the order received, until somebody awaits one. Dropping the future loses no
/// message. Several futures on one channel are served in the order in which they began to wait.
///
/// If the workflow declares its channels (`#[workflow(channels = ["go"])]`), this must be one of them: the host refuses
/// messages to others.
pub fn message<T: DeserializeOwned>(channel: impl Into<String>) -> Message<T> {
    Message { channel: channel.into(), waiter: None, value: PhantomData }
}

impl<T: DeserializeOwned> Future for Message<T> {
    type Output = Result<T, Failure>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let Message { channel, waiter, .. } = this;
        runtime::with(|runtime| runtime.poll_message(channel, waiter, context.waker())).map(|outcome| {
            let text = outcome?;
            serde_json::from_str(&text).map_err(|error| Failure::decode(channel, &error))
        })
    }
}

impl<T> Drop for Message<T> {
    fn drop(&mut self) {
        if self.waiter.is_some() {
            runtime::with(|runtime| runtime.leave(&self.channel, &mut self.waiter));
        }
    }
}
