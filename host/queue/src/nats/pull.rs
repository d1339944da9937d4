//! One fetch: a pull request to a queue's consumer, and what comes back into an inbox of its own. As nats.io's ADR-13 and
//! the server have it: `no_wait` with `expires` hands out what is there and ends with a status, or waits for the first.

use std::time::Duration;

use async_nats::{Message, jetstream};
use futures_util::StreamExt;
use relive_core::ports::{Delivery, Fetched, QueueError, QueueName, Receipt, TaskMessage};
use serde::Serialize;

use super::NatsQueue;
use crate::{limits::MAX_FETCH, wire};

#[derive(Serialize)]
struct PullRequest {
    batch: usize,
    no_wait: bool,
    /// Nanoseconds; 0: no waiting at all.
    #[serde(skip_serializing_if = "is_zero")]
    expires: u64,
}

fn is_zero(nanos: &u64) -> bool {
    *nanos == 0
}

/// What the server says beside messages.
enum Word {
    /// It still works on it.
    Alive,
    /// There is no more for this request.
    Done,
    /// There is no such consumer.
    Gone,
    /// It cannot serve the request.
    Trouble(String),
}

fn word_of(message: &Message) -> Option<Word> {
    let description = message.description.as_deref().unwrap_or_default();
    Some(match message.status?.as_u16() {
        100 => Word::Alive,
        404 | 408 => Word::Done,
        503 => Word::Gone,
        409 if description.contains("Consumer Deleted") => Word::Gone,
        code => Word::Trouble(format!("{code} {description}")),
    })
}

impl NatsQueue {
    /// Takes what is there, or waits for the first. `None`: the consumer is gone.
    pub(super) async fn pull(
        &self,
        queue: &QueueName,
        max: usize,
        wait: Duration,
    ) -> Result<Option<Fetched>, QueueError> {
        let link = &self.link;
        let action = format!("fetch from the task queue {queue}");
        let max = max.clamp(1, MAX_FETCH);
        let expires = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        let request = serde_json::to_vec(&PullRequest { batch: max, no_wait: true, expires })
            .map_err(|error| link.unavailable(&action, &error.to_string()))?;
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", link.names.task_stream(), link.names.consumer(queue));
        link.guarded(&action, wait.saturating_add(link.options.request_timeout), async {
            let inbox = link.client.new_inbox();
            let failed = |error: &dyn std::fmt::Display| link.unavailable(&action, &error.to_string());
            let mut answers = link.client.subscribe(inbox.clone()).await.map_err(|error| failed(&error))?;
            let sent = link.client.publish_with_reply(subject, inbox, request.into()).await;
            sent.map_err(|error| failed(&error))?;
            let mut fetched = Fetched::default();
            let mut seen = 0;
            while seen < max {
                let Some(message) = answers.next().await else { return Err(failed(&"the connection was closed")) };
                match word_of(&message) {
                    None => {
                        seen += 1;
                        self.sort(message, &mut fetched).await;
                    }
                    Some(Word::Alive) => {}
                    Some(Word::Done) => break,
                    // What was handed out before is worth more than what went wrong after it.
                    Some(_) if !fetched.is_empty() => break,
                    Some(Word::Gone) => return Ok(None),
                    Some(Word::Trouble(text)) => return Err(failed(&text)),
                }
            }
            Ok(Some(fetched))
        })
        .await
    }

    /// Puts a delivery where it belongs. What is no task's message is deleted: it would come again for ever.
    async fn sort(&self, message: Message, fetched: &mut Fetched) {
        let subject = message.subject.clone();
        match self.delivery(message) {
            Ok(delivery) if delivery.number > self.link.options.limits.max_deliver => fetched.exhausted.push(delivery),
            Ok(delivery) => fetched.ready.push(delivery),
            Err((reply, error)) => {
                tracing::warn!(%subject, error, "a message that is no task was deleted from a task queue");
                if let Some(reply) = reply
                    && let Err(error) = self.link.client.publish(reply, "+TERM".into()).await
                {
                    tracing::debug!(%error, "it was not deleted");
                }
            }
        }
    }

    fn delivery(&self, message: Message) -> Result<Delivery, (Option<async_nats::Subject>, String)> {
        let reply = message.reply.clone();
        let refused = |error: String| (reply.clone(), error);
        let task: TaskMessage =
            wire::task_of(&message.payload, message.headers.as_ref()).map_err(|error| refused(error.to_string()))?;
        if self.link.names.task(&task.queue) != message.subject.as_str() {
            return Err(refused(format!("it is of another queue, {}", task.queue)));
        }
        let Some(answer_to) = &reply else { return Err(refused("it cannot be answered".to_owned())) };
        let receipt = Receipt(answer_to.as_str().into());
        let message = jetstream::Message { message, context: self.link.jetstream.clone() };
        let info = message.info().map_err(|error| refused(error.to_string()))?;
        let number = u32::try_from(info.delivered).unwrap_or(u32::MAX);
        Ok(Delivery { task, receipt, number })
    }
}
