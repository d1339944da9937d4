//! Workers over NATS: requests under `<prefix>.workers.<namespace>.<operation>`, answered by whichever host takes them.
//! What an operation means is the HTTP API's: each becomes one of its requests. `docs/workers-nats.md` is the contract.

use std::{collections::BTreeMap, future::Future, pin::pin, sync::Arc, time::Duration};

use async_nats::{HeaderMap, Message, Subject};
use bytes::Bytes;
use futures_util::{StreamExt, future::BoxFuture};
use relive_core::ports::QueueError;
use serde_json::value::{RawValue, to_raw_value};
use tokio::{sync::Semaphore, task::JoinSet};

use super::{NatsQueue, link::Link};
use crate::{
    names::{escape, unescape},
    wire,
};

/// Hosts share requests: each goes to one of them.
const GROUP: &str = "hosts";
/// Requests that a host has at once: nearly all of them are polls that wait, and cost little.
const MAX_REQUESTS: usize = 10_000;
/// The longest that a poll waits. Nobody tells the host that a worker has gone, so it must not wait for it for long.
const MAX_POLL: Duration = Duration::from_secs(5);
/// At the end, answers that are under way may take this long; polls are cut.
const DRAIN: Duration = Duration::from_secs(2);
/// What headers and the protocol may take of a message.
const ROOM_FOR_HEADERS: usize = 2_048;
const LISTEN: &str = "listen to workers";
/// The status of HTTP that the answer would have there.
const STATUS: &str = "Relive-Status";
/// How many messages the answer takes, if it is not one.
const PARTS: &str = "Relive-Parts";

/// A worker's request, as one of the HTTP API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerRequest {
    pub method: &'static str,
    /// From `/v1` on, encoded.
    pub path: String,
    /// JSON.
    pub body: Bytes,
    pub correlation_id: Option<String>,
    /// As the header of the same name.
    pub authorization: Option<String>,
}

/// What it is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerAnswer {
    pub status: u16,
    /// JSON.
    pub body: Bytes,
}

impl WorkerAnswer {
    /// A problem document, as the HTTP API has them.
    #[must_use]
    pub fn problem(status: u16, code: &str, detail: &str) -> Self {
        let kind = format!("urn:relive:problem:{code}");
        let document = serde_json::json!({"type": kind, "status": status, "code": code, "detail": detail});
        Self { status, body: document.to_string().into() }
    }
}

/// A part of an operation's path: text, or the field of the body that stands there.
#[derive(Clone, Copy)]
enum Part {
    Is(&'static str),
    Field(&'static str),
}
use Part::{Field, Is};

/// What workers may ask, and the requests that it is.
const OPERATIONS: [(&str, &str, &[Part]); 11] = [
    ("register", "POST", &[Is("workers")]),
    ("beat", "POST", &[Is("workers"), Field("worker_id"), Is("beat")]),
    ("leave", "DELETE", &[Is("workers"), Field("worker_id")]),
    ("poll", "POST", &[Is("task-queues"), Field("task_queue"), Is("poll")]),
    ("complete", "POST", &[Is("tasks"), Field("token"), Is("complete")]),
    ("fail", "POST", &[Is("tasks"), Field("token"), Is("fail")]),
    ("cancel", "POST", &[Is("tasks"), Field("token"), Is("cancel")]),
    ("heartbeat", "POST", &[Is("tasks"), Field("token"), Is("heartbeat")]),
    ("defer", "POST", &[Is("tasks"), Field("token"), Is("defer")]),
    ("answer", "POST", &[Is("tasks"), Is("complete")]),
    ("claim", "POST", &[Is("tasks"), Is("claim")]),
];

type Fields = BTreeMap<String, Box<RawValue>>;

/// The request that a message is; else why it is none.
fn request_of(subject: &str, headers: Option<&HeaderMap>, body: &[u8]) -> Result<WorkerRequest, WorkerAnswer> {
    let mut tokens = subject.rsplit('.');
    let (operation, namespace) = (tokens.next().unwrap_or_default(), tokens.next().unwrap_or_default());
    let Some((_, method, parts)) = OPERATIONS.iter().find(|(name, ..)| *name == operation) else {
        let known = OPERATIONS.map(|(name, ..)| name).join(", ");
        let detail = format!("{operation:?} is no operation of workers; there are {known}");
        return Err(WorkerAnswer::problem(404, "unknown-operation", &detail));
    };
    let invalid = |detail: String| WorkerAnswer::problem(400, "invalid-body", &detail);
    let namespace =
        unescape(namespace, '=').ok_or_else(|| invalid(format!("{namespace:?} is no namespace's token")))?;
    let body = if body.is_empty() { b"{}" } else { body };
    let mut fields: Fields =
        serde_json::from_slice(body).map_err(|error| invalid(format!("the body is no JSON object: {error}")))?;
    let mut path = format!("/v1/namespaces/{}", encode(&namespace));
    for part in *parts {
        path.push('/');
        match part {
            Is(text) => path.push_str(text),
            Field(name) => {
                let value = fields.remove(*name);
                let text = value.and_then(|value| serde_json::from_str::<String>(value.get()).ok());
                let text = text.filter(|text| !text.is_empty());
                let text = text.ok_or_else(|| invalid(format!("the field {name:?} is missing or no text")))?;
                path.push_str(&encode(&text));
            }
        }
    }
    if operation == "poll" {
        shorten(&mut fields);
    }
    let body = serde_json::to_vec(&fields).map_err(|error| invalid(error.to_string()))?;
    let header = |name: &str| headers?.get(name).map(|value| value.as_str().to_owned());
    let correlation_id = header(wire::CORRELATION_ID).and_then(|value| unescape(&value, '%'));
    Ok(WorkerRequest { method, path, body: body.into(), correlation_id, authorization: header("Authorization") })
}

/// A poll waits no longer than it may.
fn shorten(fields: &mut Fields) {
    let most = MAX_POLL.as_millis() as u64;
    let asked = fields.get("wait_ms").and_then(|value| value.get().parse::<u64>().ok());
    if asked.is_some_and(|asked| asked > most)
        && let Ok(value) = to_raw_value(&most)
    {
        fields.insert("wait_ms".to_owned(), value);
    }
}

fn encode(segment: &str) -> String {
    escape(segment, '%', |byte| byte.is_ascii_alphanumeric() || b"-_~".contains(&byte))
}

impl NatsQueue {
    /// Answers workers until `stop` is ready, also over reconnects. Any number of hosts may: each request goes to one.
    pub async fn serve_workers(
        &self,
        desk: impl Fn(WorkerRequest) -> BoxFuture<'static, WorkerAnswer> + Send + Sync + 'static,
        stop: impl Future<Output = ()>,
    ) -> Result<(), QueueError> {
        let (link, desk) = (&self.link, Arc::new(desk));
        let requests = link.guarded(LISTEN, link.options.request_timeout, async {
            let requests = link.client.queue_subscribe(link.names.all_workers(), GROUP.to_owned()).await;
            requests.map_err(|error| link.unavailable(LISTEN, &error.to_string()))
        });
        let mut requests = requests.await?;
        link.round_trip(LISTEN).await?;
        let slots = Arc::new(Semaphore::new(MAX_REQUESTS));
        let (mut running, mut stop) = (JoinSet::new(), pin!(stop));
        loop {
            tokio::select! {
                () = &mut stop => break,
                Some(_) = running.join_next(), if !running.is_empty() => {}
                message = requests.next() => {
                    let Some(message) = message else {
                        return Err(link.unavailable(LISTEN, "the connection was closed"));
                    };
                    let (link, desk, slot) = (link.clone(), desk.clone(), slots.clone().try_acquire_owned());
                    running.spawn(async move {
                        let Some(reply) = message.reply.clone() else { return };
                        let answer = match (slot.as_ref(), request(&message)) {
                            (Err(_), _) => WorkerAnswer::problem(429, "too-many-requests", "the host has too many requests at once"),
                            (_, Err(refused)) => refused,
                            (_, Ok(request)) => desk(request).await,
                        };
                        send(&link, reply, answer).await;
                    });
                }
            }
        }
        // From here on others are asked; what was on its way here is told to ask them. Polls of this host end without a
        // word.
        let drained = async {
            if requests.drain().await.is_ok() {
                while let Some(message) = requests.next().await {
                    if let Some(reply) = message.reply {
                        let gone = WorkerAnswer::problem(503, "shutting-down", "this host is ending; ask again");
                        send(link, reply, gone).await;
                    }
                }
            }
            // The server knows of it before anybody is told that this host has ended.
            if let Err(error) = link.round_trip(LISTEN).await {
                tracing::debug!(%error, "the server may send requests for a moment yet");
            }
            while running.join_next().await.is_some() {}
        };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            tracing::debug!(requests = running.len(), "cut requests of workers off that did not end in time");
        }
        Ok(())
    }
}

fn request(message: &Message) -> Result<WorkerRequest, WorkerAnswer> {
    request_of(&message.subject, message.headers.as_ref(), &message.payload)
}

/// Sends an answer, in as many messages as it takes.
async fn send(link: &Link, reply: Subject, answer: WorkerAnswer) {
    let most = link.client.max_payload().saturating_sub(ROOM_FOR_HEADERS).max(1);
    let parts = answer.body.len().div_ceil(most).max(1);
    for part in 0..parts {
        let body = answer.body.slice(part * most..((part + 1) * most).min(answer.body.len()));
        let mut headers = HeaderMap::new();
        if part == 0 {
            headers.insert(STATUS, answer.status.to_string());
        }
        if part == 0 && parts > 1 {
            headers.insert(PARTS, parts.to_string());
        }
        if let Err(error) = link.client.publish_with_headers(reply.clone(), headers, body).await {
            tracing::debug!(%error, "an answer to a worker was not sent; it asks again");
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(subject: &str, body: &str) -> Result<(String, String), u16> {
        let request = request_of(subject, None, body.as_bytes()).map_err(|answer| answer.status)?;
        Ok((format!("{} {}", request.method, request.path), String::from_utf8(request.body.to_vec()).unwrap()))
    }

    #[test]
    fn operations_are_requests_of_the_api() {
        for (operation, body, request, rest) in [
            ("register", r#"{"identity":"me"}"#, "POST /v1/namespaces/a%2Eb/workers", r#"{"identity":"me"}"#),
            ("beat", r#"{"worker_id":"w/1"}"#, "POST /v1/namespaces/a%2Eb/workers/w%2F1/beat", "{}"),
            ("leave", r#"{"worker_id":".."}"#, "DELETE /v1/namespaces/a%2Eb/workers/%2E%2E", "{}"),
            (
                "poll",
                r#"{"task_queue":"q.1","wait_ms":60000,"max_tasks":1.0}"#,
                "POST /v1/namespaces/a%2Eb/task-queues/q%2E1/poll",
                r#"{"max_tasks":1.0,"wait_ms":5000}"#,
            ),
            (
                "complete",
                r#"{"token":"t","result":{"a": 1e400}}"#,
                "POST /v1/namespaces/a%2Eb/tasks/t/complete",
                r#"{"result":{"a": 1e400}}"#,
            ),
            ("answer", r#"{"answers":[]}"#, "POST /v1/namespaces/a%2Eb/tasks/complete", r#"{"answers":[]}"#),
        ] {
            let found = parsed(&format!("relive.workers.a=2Eb.{operation}"), body);
            assert_eq!(found, Ok((request.to_owned(), rest.to_owned())));
        }
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for (subject, body, status) in [
            ("relive.workers.default.dance", "{}", 404),
            ("relive.workers.default.beat", "", 400),
            ("relive.workers.default.beat", "[]", 400),
            ("relive.workers.default.beat", r#"{"worker_id":1}"#, 400),
            ("relive.workers.default.beat", r#"{"worker_id":""}"#, 400),
            ("relive.workers.=.beat", r#"{"worker_id":"w"}"#, 400),
        ] {
            assert_eq!(parsed(subject, body), Err(status), "{subject} {body}");
        }
    }
}
