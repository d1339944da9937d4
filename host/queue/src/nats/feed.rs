//! The event feed: a stream that other systems read, one subject an event type. What a reader sees is documented in
//! `docs/event-feed.md`.

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use relive_core::ports::{EventFeed, FeedEvent, PublishCount, QueueError};

use super::{
    NatsQueue,
    publish::{Outgoing, Target},
};
use crate::wire;

/// What an event's subject, id and headers may take of a message.
const ROOM_FOR_HEADERS: usize = 8 * 1_024;

impl NatsQueue {
    fn event(&self, event: &FeedEvent, max_payload: usize) -> Outgoing {
        // An event that the server would refuse must not stop those behind it: its reader can ask the API for it.
        let fits = event.body.as_str().len() + ROOM_FOR_HEADERS <= max_payload;
        let body = if fits { Bytes::copy_from_slice(event.body.as_str().as_bytes()) } else { Bytes::new() };
        let (run, event_id) = (event.run.to_string(), event.event_id.to_string());
        let headers = wire::headers([
            ("Relive-Namespace", Some(event.namespace.as_str())),
            ("Relive-Workflow", Some(&*event.workflow)),
            ("Relive-Workflow-Id", Some(event.workflow_id.as_str())),
            ("Relive-Run-Id", Some(run.as_str())),
            ("Relive-Event-Id", Some(event_id.as_str())),
            ("Relive-Event-Type", Some(&*event.event_type)),
            ("Relive-Body", (!fits).then_some("omitted")),
            (wire::CORRELATION_ID, event.correlation_id.as_deref()),
            (wire::TRACE_ID, event.trace_id.as_deref()),
        ]);
        let subject = self.link.names.event(&event.namespace, &event.workflow, &event.event_type);
        Outgoing { subject, id: event.message_id(), headers, body }
    }
}

impl EventFeed for NatsQueue {
    fn publish_events<'a>(&'a self, batch: &'a [FeedEvent]) -> BoxFuture<'a, Result<PublishCount, QueueError>> {
        async move {
            let max_payload = self.link.client.max_payload();
            let outgoing: Vec<_> = batch.iter().map(|event| self.event(event, max_payload)).collect();
            self.publish_all(Target::Events, &outgoing).await
        }
        .boxed()
    }
}
