//! Signals over core NATS: one subject a shard, at most once, to whoever listens.

use async_nats::Subscriber;
use bytes::Bytes;
use futures_util::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use relive_core::{
    Shard,
    ports::{QueueError, Signal, Signals},
};
use std::sync::Arc;
use tokio::sync::watch;

use super::{
    NatsQueue,
    link::{History, Link},
};

const NOTIFY: &str = "send a signal";
const LISTEN: &str = "listen to signals";

/// Someone who listens. It holds the connection, so that its stream does not end under it.
struct Listener {
    link: Arc<Link>,
    heard: Subscriber,
    history: watch::Receiver<History>,
    /// As the connection was when the listener last knew that it hears everything.
    since: History,
}

impl Listener {
    /// The next signal; `None`: the connection was closed for good.
    async fn next(&mut self) -> Option<Signal> {
        loop {
            let (connected, dropped) = (self.since.connected, self.since.dropped);
            tokio::select! {
                message = self.heard.next() => {
                    let message = message?;
                    let shard = message.subject.rsplit('.').next().and_then(|number| number.parse().ok());
                    match shard {
                        Some(shard) => return Some(Signal::Happened(Shard(shard))),
                        None => tracing::debug!(subject = %message.subject, "a signal of no shard"),
                    }
                }
                now = self.history.wait_for(|now| now.connected != connected || now.dropped != dropped) => {
                    let Ok(now) = now.map(|now| *now) else { return None };
                    self.since = now;
                }
            }
            if (connected, dropped) != (self.since.connected, self.since.dropped) {
                // The subscription stands again before this returns, so that nothing is missed after the word.
                match self.link.round_trip(LISTEN).await {
                    Ok(()) => return Some(Signal::Missed),
                    // Away again: its return will be heard of.
                    Err(error) => tracing::debug!(%error, "signals are missed for longer"),
                }
            }
        }
    }
}

impl NatsQueue {
    async fn send_signal(&self, shard: Shard) -> Result<(), QueueError> {
        let link = &self.link;
        link.guarded(NOTIFY, link.options.request_timeout, async {
            let sent = link.client.publish(link.names.signal(shard), Bytes::new()).await;
            sent.map_err(|error| link.unavailable(NOTIFY, &error.to_string()))
        })
        .await
    }

    async fn listen(&self) -> Result<BoxStream<'static, Signal>, QueueError> {
        let link = self.link.clone();
        let mut history = link.history();
        let since = *history.borrow_and_update();
        let heard = link.guarded(LISTEN, link.options.request_timeout, async {
            let heard = link.client.subscribe(link.names.all_signals()).await;
            heard.map_err(|error| link.unavailable(LISTEN, &error.to_string()))
        });
        let heard = heard.await?;
        link.round_trip(LISTEN).await?;
        let listener = Listener { link, heard, history, since };
        let signals =
            stream::unfold(
                listener,
                |mut listener| async move { listener.next().await.map(|signal| (signal, listener)) },
            );
        Ok(signals.boxed())
    }
}

impl Signals for NatsQueue {
    fn notify(&self, shard: Shard) -> BoxFuture<'_, Result<(), QueueError>> {
        self.send_signal(shard).boxed()
    }

    fn subscribe(&self) -> BoxFuture<'_, Result<BoxStream<'static, Signal>, QueueError>> {
        self.listen().boxed()
    }
}
