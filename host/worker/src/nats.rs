//! The same requests over NATS: subjects instead of paths, as `docs/workers-nats.md` has them. Knows no activity.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use async_nats::{Client, ConnectOptions, HeaderMap, ServerAddr, connection::State};
use futures_util::StreamExt;
use hyper::{Method, body::Bytes};
use tokio::sync::OnceCell;

use crate::failure::WorkerError;

/// How long an answer may take, beyond what a poll waits. A host that dies does not break a connection here.
const ANSWER: Duration = Duration::from_secs(10);
/// A hundred tasks with payloads of 2 MiB each.
const MAX_ANSWER_BYTES: usize = 256 << 20;
/// What the protocol may take of a message.
const ROOM_FOR_HEADERS: usize = 1_024;
const NO_RESPONDERS: u16 = 503;

/// A server of NATS, and the hosts behind it.
pub(crate) struct Bus {
    url: String,
    /// `<prefix>.workers.<namespace>.`
    subjects: String,
    ca: Option<PathBuf>,
    client: OnceCell<Client>,
}

impl Bus {
    /// `server` is like `nats://user:password@host:4222/prefix`; all but the host may be absent.
    /// The authorities in the PEM file `ca` are trusted beside the well-known ones.
    pub fn new(server: &str, namespace: &str, ca: Option<&Path>) -> Result<Self, WorkerError> {
        let rest = server.split_once("://").map_or(server, |(_, rest)| rest);
        let (url, prefix) = match rest.split_once('/') {
            Some((_, path)) => (&server[..server.len() - path.len() - 1], path.trim_end_matches('/')),
            None => (server, ""),
        };
        let address: Option<ServerAddr> = url.parse().ok();
        let token = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        if address.is_none_or(|address| address.host().is_empty()) || !token(prefix) {
            return Err(WorkerError::Address(server.to_owned()));
        }
        let prefix = if prefix.is_empty() { "relive" } else { prefix };
        let subjects = format!("{prefix}.workers.{}.", escape(namespace));
        Ok(Self { url: url.to_owned(), subjects, ca: ca.map(Path::to_owned), client: OnceCell::new() })
    }

    async fn client(&self) -> Result<&Client, WorkerError> {
        let connection = |error: &dyn std::fmt::Display| WorkerError::Connection(error.to_string());
        let client = self.client.get_or_try_init(|| async {
            let address: ServerAddr = self.url.parse().map_err(|_| WorkerError::Address(self.url.clone()))?;
            let mut options = ConnectOptions::new().name("relive-worker");
            if let Some(user) = address.username() {
                options = match address.password() {
                    Some(password) => options.user_and_password(decode(user), decode(password)),
                    None => options.token(decode(user)),
                };
            }
            if let Some(ca) = &self.ca {
                options = options.add_root_certificates(ca.clone());
            }
            options.connect(address).await.map_err(|error| connection(&error))
        });
        let client = client.await?;
        // The client would keep the request until the server is back; here the caller decides when to ask again.
        if client.connection_state() == State::Connected {
            Ok(client)
        } else {
            Err(WorkerError::Connection("the connection to NATS is lost".to_owned()))
        }
    }

    /// A request of the API, with its answer's status and body.
    pub async fn call(
        &self,
        method: &Method,
        segments: &[&str],
        body: Vec<u8>,
        wait: Duration,
    ) -> Result<(u16, Bytes), WorkerError> {
        let (operation, field) = operation(method, segments)
            .ok_or_else(|| WorkerError::Answer(format!("{segments:?} is no request over NATS")))?;
        let body = with_field(body, field);
        let client = self.client().await?;
        if body.len() + ROOM_FOR_HEADERS > client.max_payload() {
            return Err(WorkerError::Refused {
                status: 413,
                code: "payload-too-large".to_owned(),
                detail: format!(
                    "{} bytes are more than the NATS server takes; raise its max_payload, or reach the host by HTTP",
                    body.len()
                ),
            });
        }
        let asked = ask(client, format!("{}{operation}", self.subjects), body.into());
        let late = || WorkerError::Connection("no answer came in time".to_owned());
        tokio::time::timeout(wait + ANSWER, asked).await.map_err(|_| late())?
    }
}

async fn ask(client: &Client, subject: String, body: Bytes) -> Result<(u16, Bytes), WorkerError> {
    let connection = |error: &dyn std::fmt::Display| WorkerError::Connection(error.to_string());
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.map_err(|error| connection(&error))?;
    client.publish_with_reply(subject, inbox, body).await.map_err(|error| connection(&error))?;
    let mut next = async || answers.next().await.ok_or_else(|| connection(&"the connection was closed"));
    let first = next().await?;
    if first.status.is_some_and(|status| status.as_u16() == NO_RESPONDERS) {
        return Err(connection(&"no host listens on NATS"));
    }
    let number = |headers: &HeaderMap, name: &str| headers.get(name).and_then(|value| value.as_str().parse().ok());
    let headers = first.headers.unwrap_or_default();
    let status: usize = number(&headers, "Relive-Status")
        .ok_or_else(|| WorkerError::Answer("it has no status; does something else answer there?".to_owned()))?;
    let parts = number(&headers, "Relive-Parts").unwrap_or(1);
    let status = u16::try_from(status).unwrap_or(500);
    if parts <= 1 {
        return Ok((status, first.payload));
    }
    let mut whole = first.payload.to_vec();
    for _ in 1..parts {
        whole.extend_from_slice(&next().await?.payload);
        if whole.len() > MAX_ANSWER_BYTES {
            return Err(WorkerError::Answer(format!("it has more than {MAX_ANSWER_BYTES} bytes")));
        }
    }
    Ok((status, whole.into()))
}

/// What a request of the API is called over NATS, and the field that a part of its path becomes.
fn operation<'a>(method: &Method, segments: &[&'a str]) -> Option<(&'a str, Option<(&'static str, &'a str)>)> {
    Some(match segments {
        ["workers"] => ("register", None),
        ["workers", id] if method == Method::DELETE => ("leave", Some(("worker_id", id))),
        ["workers", id, "beat"] => ("beat", Some(("worker_id", id))),
        ["task-queues", queue, "poll"] => ("poll", Some(("task_queue", queue))),
        ["tasks", "complete"] => ("answer", None),
        ["tasks", token, verb] => (verb, Some(("token", token))),
        _ => return None,
    })
}

/// The body, a JSON object or nothing, with one field more.
fn with_field(body: Vec<u8>, field: Option<(&str, &str)>) -> Vec<u8> {
    let Some((name, value)) = field else { return body };
    let first = serde_json::json!({ name: value }).to_string();
    let rest = body.strip_prefix(b"{").filter(|rest| *rest != b"}");
    match rest {
        Some(rest) => [first.trim_end_matches('}').as_bytes(), b",", rest].concat(),
        None => first.into_bytes(),
    }
}

/// A name as one token of a subject.
fn escape(name: &str) -> String {
    let mut token = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            token.push(char::from(byte));
        } else {
            token.push_str(&format!("={byte:02X}"));
        }
    }
    token
}

/// What stands in a URL percent-encoded.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| first == b'%');
        bytes.push(escaped.unwrap_or(first));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_path_becomes_a_field() {
        for (body, whole) in [
            ("", r#"{"token":"a\"}"}"#),
            ("null", r#"{"token":"a\"}"}"#),
            ("{}", r#"{"token":"a\"}"}"#),
            (r#"{"details":{"n":1}}"#, r#"{"token":"a\"}","details":{"n":1}}"#),
        ] {
            let found = with_field(body.as_bytes().to_vec(), Some(("token", "a\"}")));
            assert_eq!(String::from_utf8(found).unwrap(), whole);
        }
    }

    #[test]
    fn passwords_may_hold_any_character() {
        for (text, plain) in
            [("", ""), ("p%40ss%25", "p@ss%"), ("100%", "100%"), ("%zz%4", "%zz%4"), ("%C3%A9", "\u{e9}")]
        {
            assert_eq!(decode(text), plain, "{text}");
        }
    }

    #[test]
    fn addresses_have_a_host_and_perhaps_a_prefix() {
        let subjects = |server| Bus::new(server, "a.b", None).map(|bus| (bus.url, bus.subjects));
        let found = subjects("nats://me:pw@h:1/t-1").unwrap();
        assert_eq!(found, ("nats://me:pw@h:1".to_owned(), "t-1.workers.a=2Eb.".to_owned()));
        assert_eq!(subjects("nats://h").unwrap().1, "relive.workers.a=2Eb.");
        for bad in ["nats://", "nats://h/a.b", "nats://h/a/b", "nats:///x"] {
            assert!(subjects(bad).is_err(), "{bad}");
        }
    }
}
