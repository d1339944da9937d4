//! Talking to other hosts: one pool of connections, and what became of a request.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, Request, StatusCode, Uri, header},
    response::Response,
};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use serde::Deserialize;

use super::{Asked, FORWARDED_HEADER, MOVED};
use crate::{
    envelope::{CORRELATION_HEADER, CorrelationId},
    trace::{TRACEPARENT, Trace},
};

/// A host that does not take a connection for so long is as good as dead.
const CONNECT: Duration = Duration::from_secs(2);
/// Connections that nobody used for so long are closed, before the other side does it in the middle of a request.
const IDLE: Duration = Duration::from_secs(10);
/// Problem documents are small; one that is larger is handed on as it is read.
const MAX_PROBLEM: usize = 64 << 10;
/// What belongs to one connection alone (RFC 9110, 7.6.1), and what the client library sets itself.
const HOP: [header::HeaderName; 6] = [
    header::CONNECTION,
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::ORIGIN,
];

#[derive(Clone)]
pub(super) struct Peers(Client<HttpConnector, Full<Bytes>>);

pub(super) type Gone = hyper_util::client::legacy::Error;

/// What became of a request that was sent on.
pub(super) enum Sent {
    Answer(Response),
    /// Nothing was done: the other host does not own it any more, or does not take connections.
    Moved,
    /// The connection broke: nobody knows whether it was done.
    Broken,
}

#[derive(Deserialize)]
struct Document {
    code: String,
}

impl Peers {
    pub fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(connector);
        Self(client)
    }

    pub async fn request(&self, request: Request<Full<Bytes>>) -> Result<hyper::Response<hyper::body::Incoming>, Gone> {
        self.0.request(request).await
    }

    pub async fn send(&self, address: &str, asked: &Asked) -> Sent {
        let Some(request) = outgoing(address, asked) else { return Sent::Moved };
        let response = match self.request(request).await {
            Ok(response) => response,
            Err(error) if error.is_connect() => {
                tracing::debug!(%error, address, "the owner takes no connection");
                return Sent::Moved;
            }
            Err(error) => {
                tracing::warn!(%error, address, "the owner was lost in the middle of a request");
                return Sent::Broken;
            }
        };
        let (mut parts, body) = response.into_parts();
        HOP.iter().for_each(|name| drop(parts.headers.remove(name)));
        if parts.status != StatusCode::SERVICE_UNAVAILABLE {
            return Sent::Answer(Response::from_parts(parts, Body::new(body)));
        }
        let Ok(body) = Limited::new(body, MAX_PROBLEM).collect().await else { return Sent::Broken };
        let body = body.to_bytes();
        match serde_json::from_slice::<Document>(&body) {
            Ok(document) if MOVED.contains(&document.code.as_str()) || document.code == "shutting-down" => Sent::Moved,
            _ => Sent::Answer(Response::from_parts(parts, Body::from(body))),
        }
    }
}

fn outgoing(address: &str, asked: &Asked) -> Option<Request<Full<Bytes>>> {
    let path = asked.parts.uri.path_and_query()?.as_str();
    let uri: Uri = format!("{}{path}", address.trim_end_matches('/')).parse().ok()?;
    let mut request = Request::new(Full::new(asked.body.clone()));
    *request.method_mut() = asked.parts.method.clone();
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    for (name, value) in asked.parts.headers.iter().filter(|(name, _)| !HOP.contains(name)) {
        headers.append(name, value.clone());
    }
    headers.insert(FORWARDED_HEADER, HeaderValue::from_static("1"));
    if let Some(id) = asked.parts.extensions.get::<CorrelationId>()
        && let Ok(id) = HeaderValue::from_str(id.as_str())
    {
        headers.insert(CORRELATION_HEADER, id);
    }
    let parent = asked.parts.extensions.get::<Trace>().and_then(|trace| trace.passed_on());
    if let Some(Ok(parent)) = parent.map(|parent| HeaderValue::from_str(&parent.to_string())) {
        headers.insert(TRACEPARENT, parent);
    }
    Some(request)
}
