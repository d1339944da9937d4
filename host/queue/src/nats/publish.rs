//! Publishing into a stream: batches, message ids, and a stream that turns out to be gone.

use async_nats::{HeaderMap, jetstream::message::PublishMessage};
use bytes::Bytes;
use relive_core::ports::{PublishCount, QueueError};

use super::{NatsQueue, trouble};

/// Messages of a batch that are on their way at once: the server answers for each, and the time it has is for all.
const IN_FLIGHT: usize = 1_000;

#[derive(Clone, Copy)]
pub(super) enum Target {
    Tasks,
    Events,
}

pub(super) struct Outgoing {
    pub subject: String,
    /// What the server tells duplicates by.
    pub id: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl NatsQueue {
    /// Publishes all, or fails with any of them published.
    pub(super) async fn publish_all(&self, into: Target, all: &[Outgoing]) -> Result<PublishCount, QueueError> {
        let mut count = PublishCount::default();
        for chunk in all.chunks(IN_FLIGHT) {
            self.make(into).await?;
            let published = match self.publish_some(chunk).await? {
                Some(published) => published,
                None => {
                    // The server was wiped, or the stream deleted.
                    self.layout.forget().await;
                    self.make(into).await?;
                    self.publish_some(chunk).await?.ok_or_else(|| {
                        self.link.unavailable("publish", "the stream is deleted as soon as it is made")
                    })?
                }
            };
            count.accepted += published.accepted;
            count.duplicates += published.duplicates;
        }
        Ok(count)
    }

    async fn make(&self, into: Target) -> Result<(), QueueError> {
        match into {
            Target::Tasks => self.layout.task_stream().await,
            Target::Events => self.layout.event_stream().await,
        }
    }

    /// `None`: there is no such stream.
    async fn publish_some(&self, chunk: &[Outgoing]) -> Result<Option<PublishCount>, QueueError> {
        let link = &self.link;
        let action = format!("publish {} messages", chunk.len());
        link.guarded(&action, link.options.request_timeout, async {
            let mut acknowledgements = Vec::with_capacity(chunk.len());
            for message in chunk {
                let publish = PublishMessage::build()
                    .payload(message.body.clone())
                    .headers(message.headers.clone())
                    .message_id(&message.id);
                match link.jetstream.send_publish(message.subject.clone(), publish).await {
                    Ok(acknowledgement) => acknowledgements.push(acknowledgement),
                    Err(error) => return trouble::of_publish(link, &action, &error).map_or(Ok(None), Err),
                }
            }
            let mut count = PublishCount::default();
            for acknowledgement in acknowledgements {
                match acknowledgement.await {
                    Ok(known) if known.duplicate => count.duplicates += 1,
                    Ok(_) => count.accepted += 1,
                    Err(error) => return trouble::of_publish(link, &action, &error).map_or(Ok(None), Err),
                }
            }
            Ok(Some(count))
        })
        .await
    }
}
