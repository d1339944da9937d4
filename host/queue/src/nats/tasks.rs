//! The port of task queues over a JetStream work-queue stream.

use std::{collections::HashMap, time::Duration};

use async_nats::jetstream::{AckKind, Error, ErrorCode};
use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use relive_core::ports::{
    Fetched, PublishCount, QueueDepth, QueueError, QueueErrorKind, QueueName, Receipt, TaskMessage, TaskQueue,
};
use serde::Deserialize;

use super::{
    NatsQueue,
    publish::{Outgoing, Target},
    trouble,
};
use crate::wire;

/// Where acknowledgements go, as JetStream has it.
const ACK_PREFIX: &str = "$JS.ACK.";

/// What is of interest in the server's words on a stream or a consumer.
#[derive(Default, Deserialize)]
struct Info {
    error: Option<Error>,
    #[serde(default)]
    state: State,
    #[serde(default)]
    num_ack_pending: u64,
}

#[derive(Default, Deserialize)]
struct State {
    #[serde(default)]
    subjects: Option<HashMap<String, u64>>,
}

impl NatsQueue {
    fn outgoing(&self, task: &TaskMessage) -> Result<Outgoing, QueueError> {
        let body = wire::task_body(task).map_err(|error| {
            QueueError::new(QueueErrorKind::Invalid, format!("the task {} is not sendable: {error}", task.message_id()))
        })?;
        let headers = wire::headers([
            (wire::CORRELATION_ID, task.correlation_id.as_deref()),
            (wire::TRACE_ID, task.trace_id.as_deref()),
        ]);
        Ok(Outgoing { subject: self.link.names.task(&task.queue), id: task.message_id(), headers, body: body.into() })
    }

    async fn publish_tasks(&self, batch: &[TaskMessage]) -> Result<PublishCount, QueueError> {
        let outgoing = batch.iter().map(|task| self.outgoing(task)).collect::<Result<Vec<_>, _>>()?;
        self.publish_all(Target::Tasks, &outgoing).await
    }

    async fn fetch_some(&self, queue: &QueueName, max: usize, wait: Duration) -> Result<Fetched, QueueError> {
        self.layout.consumer(queue).await?;
        if let Some(fetched) = self.pull(queue, max, wait).await? {
            return Ok(fetched);
        }
        // The server was wiped, or the consumer forgotten.
        self.layout.forget().await;
        self.layout.consumer(queue).await?;
        self.pull(queue, max, wait).await?.ok_or_else(|| {
            self.link.unavailable(
                &format!("fetch from the task queue {queue}"),
                "its consumer is deleted as soon as it is made",
            )
        })
    }

    /// Answers for a delivery and waits until the server has taken it. Nobody there to take it: the message is gone.
    async fn answer(&self, action: &str, receipt: &Receipt, kind: AckKind) -> Result<(), QueueError> {
        if !receipt.0.starts_with(ACK_PREFIX) {
            let message = format!("{:?} is no receipt of a queue over NATS", receipt.0);
            return Err(QueueError::new(QueueErrorKind::Invalid, message));
        }
        self.link.request(action, receipt.0.to_string(), kind.into()).await.map(drop)
    }

    /// Words of the server on a stream or a consumer; nothing on one that is not there.
    async fn info(&self, subject: String, question: Bytes) -> Result<Info, QueueError> {
        let action = "look at a task queue";
        let Some(answer) = self.link.request(action, subject, question).await? else {
            return Err(trouble::no_streaming(&self.link));
        };
        let info: Info =
            serde_json::from_slice(&answer).map_err(|error| self.link.unavailable(action, &error.to_string()))?;
        match &info.error {
            None => Ok(info),
            Some(error)
                if [ErrorCode::STREAM_NOT_FOUND, ErrorCode::CONSUMER_NOT_FOUND].contains(&error.error_code()) =>
            {
                Ok(Info::default())
            }
            Some(error) => Err(trouble::answered(&self.link, action, error)),
        }
    }

    async fn depth_now(&self, queue: &QueueName) -> Result<QueueDepth, QueueError> {
        let names = &self.link.names;
        let (stream, subject) = (names.task_stream(), names.task(queue));
        let question = format!(r#"{{"subjects_filter":"{subject}"}}"#);
        let held = self.info(format!("$JS.API.STREAM.INFO.{stream}"), question.into()).await?;
        let consumer = names.consumer(queue);
        let out = self.info(format!("$JS.API.CONSUMER.INFO.{stream}.{consumer}"), Bytes::new()).await?;
        let held = held.state.subjects.and_then(|subjects| subjects.get(&subject).copied()).unwrap_or(0);
        let unanswered = out.num_ack_pending.min(held);
        Ok(QueueDepth { waiting: held - unanswered, unanswered })
    }
}

impl TaskQueue for NatsQueue {
    fn publish<'a>(&'a self, batch: &'a [TaskMessage]) -> BoxFuture<'a, Result<PublishCount, QueueError>> {
        self.publish_tasks(batch).boxed()
    }

    fn ensure_consumer<'a>(&'a self, queue: &'a QueueName) -> BoxFuture<'a, Result<(), QueueError>> {
        self.layout.consumer(queue).boxed()
    }

    fn fetch<'a>(
        &'a self,
        queue: &'a QueueName,
        max: usize,
        wait: Duration,
    ) -> BoxFuture<'a, Result<Fetched, QueueError>> {
        self.fetch_some(queue, max, wait).boxed()
    }

    fn ack<'a>(&'a self, receipt: &'a Receipt) -> BoxFuture<'a, Result<(), QueueError>> {
        self.answer("acknowledge a task", receipt, AckKind::Ack).boxed()
    }

    fn nak<'a>(&'a self, receipt: &'a Receipt, delay: Duration) -> BoxFuture<'a, Result<(), QueueError>> {
        let delay = (!delay.is_zero()).then_some(delay);
        self.answer("give a task back", receipt, AckKind::Nak(delay)).boxed()
    }

    fn in_progress<'a>(&'a self, receipt: &'a Receipt) -> BoxFuture<'a, Result<(), QueueError>> {
        self.answer("keep a task", receipt, AckKind::Progress).boxed()
    }

    fn term<'a>(&'a self, receipt: &'a Receipt) -> BoxFuture<'a, Result<(), QueueError>> {
        self.answer("delete a task's message", receipt, AckKind::Term).boxed()
    }

    fn depth<'a>(&'a self, queue: &'a QueueName) -> BoxFuture<'a, Result<QueueDepth, QueueError>> {
        self.depth_now(queue).boxed()
    }
}
