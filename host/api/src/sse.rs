//! Server-sent events (the HTML standard's `text/event-stream`): live streams whose events carry ids, so that a client
//! that comes back with `Last-Event-ID` goes on after the last one that it saw. A stream holds one read's worth of
//! events; it reads on only when the client has taken those, so a slow client costs nothing but its connection.

use std::{convert::Infallible, future::Future, time::Duration};

use axum::{
    Extension,
    body::{Body, Bytes},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use relive_core::ports::Status;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::{
    connection::Connection,
    extract,
    page::{self, List, Position},
    problem::Problem,
};

pub const MEDIA_TYPE: &str = "text/event-stream";
const LAST_EVENT_ID: &str = "last-event-id";
/// Proxies cut connections off that are quiet for a minute or so.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// What one read takes at most. Payloads have up to 2 MB, so a chunk of the largest has tens of megabytes.
pub const CHUNK: usize = 32;
/// The first bytes: a client that waits for the answer has it, and knows how soon to come back (ms).
const GREETING: &str = "retry: 1000\n: following\n\n";
const ALIVE: &str = ": keep-alive\n\n";

/// What a stream is made of.
pub trait Source: Send + 'static {
    /// Appends what is new, and says how to go on.
    fn read(&mut self, out: &mut Text) -> impl Future<Output = Result<Next, Problem>> + Send;
    /// Resolves when something was committed since the last read began.
    fn changed(&mut self) -> impl Future<Output = ()> + Send;
}

/// How a stream goes on after a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// There may be more at once.
    Read,
    /// Everything was read.
    Wait,
    /// Nothing comes any more.
    End,
}

/// Events as text.
#[derive(Default)]
pub struct Text(String);

impl Text {
    /// Appends an event. Users' JSON may hold line breaks between its tokens; they become lines of one event.
    pub fn event(&mut self, name: &str, id: Option<&str>, data: &impl Serialize) -> Result<(), Problem> {
        let data = serde_json::to_string(data).map_err(|error| {
            tracing::error!(%error, "an event of a stream cannot be written");
            Problem::internal()
        })?;
        if let Some(id) = id {
            self.field("id", id);
        }
        self.field("event", name);
        data.split(['\n', '\r']).for_each(|line| self.field("data", line));
        self.0.push('\n');
        Ok(())
    }

    fn field(&mut self, name: &str, value: &str) {
        self.0.extend([name, ": ", value, "\n"]);
    }
}

/// Whether the request asks for a stream: by `?follow=true`, or as browsers' `EventSource` does.
pub fn is_wanted(headers: &HeaderMap, follow: bool) -> bool {
    let accepted = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    follow || accepted.is_some_and(|types| types.contains(MEDIA_TYPE))
}

/// What comes over a channel, an event each.
pub trait Emit: Send + 'static {
    /// Appends it; whether it was the last.
    fn emit(self, out: &mut Text) -> Result<bool, Problem>;
}

/// A stream of what somebody tells who is at work.
pub struct Told<T> {
    told: mpsc::Receiver<T>,
    next: Option<T>,
    over: bool,
}

impl<T: Emit> Told<T> {
    pub fn new(told: mpsc::Receiver<T>) -> Self {
        Self { told, next: None, over: false }
    }
}

impl<T: Emit> Source for Told<T> {
    async fn read(&mut self, out: &mut Text) -> Result<Next, Problem> {
        for _ in 0..CHUNK {
            let told = match self.next.take() {
                Some(told) => told,
                None => match self.told.try_recv() {
                    Ok(told) => told,
                    Err(mpsc::error::TryRecvError::Empty) => return Ok(Next::Wait),
                    Err(mpsc::error::TryRecvError::Disconnected) => return Ok(Next::End),
                },
            };
            if told.emit(out)? {
                out.event("end", None, &serde_json::json!({}))?;
                return Ok(Next::End);
            }
        }
        Ok(Next::Read)
    }

    async fn changed(&mut self) {
        if self.next.is_none() && !self.over {
            self.next = self.told.recv().await;
            self.over = self.next.is_none();
        }
    }
}

/// Where a client that comes back stands.
pub fn last_event<P: Position>(headers: &HeaderMap, list: List) -> Result<Option<P>, Problem> {
    let id = extract::header(headers, LAST_EVENT_ID)?.filter(|id| !id.is_empty());
    id.map(|id| page::decode(list, id)).transpose()
}

/// How the stream of a run goes on after a chunk of so many items. A run that had ended before it was read has nothing
/// after what it gave.
pub fn go_on(out: &mut Text, items: usize, ended: Option<Status>) -> Result<Next, Problem> {
    match ended {
        _ if items == CHUNK => Ok(Next::Read),
        None => Ok(Next::Wait),
        Some(status) => {
            out.event("end", None, &End { status })?;
            Ok(Next::End)
        }
    }
}

/// The data of the last event of a stream.
#[derive(Serialize)]
struct End {
    status: Status,
}

/// Tells a client that comes back after the end not to come again: `EventSource` stops at this status.
pub fn nothing_left() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

enum State {
    Greet,
    Read,
    Wait,
    End,
}

struct Stream<S> {
    source: S,
    state: State,
    connection: Option<Connection>,
}

/// The answer that streams until the source ends, the client goes, or the host shuts down.
pub fn answer(source: impl Source, connection: Option<Extension<Connection>>) -> Response {
    let stream = Stream { source, state: State::Greet, connection: connection.map(|Extension(c)| c) };
    let frames = stream::unfold(stream, |mut stream| async {
        stream.next().await.map(|frame| (Ok::<Bytes, Infallible>(frame), stream))
    });
    let mut response = Body::from_stream(frames).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies that buffer answers would hold events back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

impl<S: Source> Stream<S> {
    /// The next bytes; none at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            match self.state {
                State::Greet => {
                    self.state = State::Read;
                    return Some(Bytes::from_static(GREETING.as_bytes()));
                }
                State::Read => {
                    if let Some(frame) = self.read().await {
                        return Some(frame);
                    }
                }
                State::Wait => {
                    let stopping = stopping(self.connection.clone());
                    tokio::select! {
                        biased;
                        () = stopping => self.state = State::End,
                        () = self.source.changed() => self.state = State::Read,
                        () = tokio::time::sleep(KEEP_ALIVE) => return Some(Bytes::from_static(ALIVE.as_bytes())),
                    }
                }
                State::End => return None,
            }
        }
    }

    /// Reads, and says what there was to read.
    async fn read(&mut self) -> Option<Bytes> {
        if self.connection.as_ref().is_some_and(Connection::is_stopping) {
            self.state = State::End;
            return None;
        }
        let mut text = Text::default();
        self.state = match self.source.read(&mut text).await {
            Ok(Next::Read) => State::Read,
            Ok(Next::Wait) => State::Wait,
            Ok(Next::End) => State::End,
            Err(problem) => {
                // The status is out already; the client comes back and is told by an answer of its own.
                tracing::warn!(?problem, "a stream broke off");
                State::End
            }
        };
        (!text.0.is_empty()).then(|| Bytes::from(text.0))
    }
}

/// Resolves when the host begins to shut down.
pub async fn stopping(connection: Option<Connection>) {
    match connection {
        Some(connection) => connection.stopping().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    #[test]
    fn line_breaks_in_users_json_stay_within_their_event() {
        let raw: &RawValue = serde_json::from_str("{\"a\":\r\n1,\r\"b\":\n2}").expect("JSON");
        let mut text = Text::default();
        text.event("event", Some("1h00"), &raw).map_err(|p| format!("{p:?}")).expect("an event");
        assert_eq!(text.0, "id: 1h00\nevent: event\ndata: {\"a\":\ndata: \ndata: 1,\ndata: \"b\":\ndata: 2}\n\n");
    }

    #[test]
    fn a_stream_is_asked_for_by_query_or_by_header() {
        let mut headers = HeaderMap::new();
        assert!(!is_wanted(&headers, false));
        assert!(is_wanted(&headers, true));
        headers.insert(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
        assert!(is_wanted(&headers, false));
    }
}
