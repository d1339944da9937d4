//! The client: one host, one namespace, over HTTP with pooled connections or over NATS, a limit on time and size of every
//! answer.

use std::{path::Path, sync::Arc, time::Duration};

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    Method, Request,
    body::Bytes,
    header::{CONTENT_TYPE, HeaderValue},
};
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{Client as Pool, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{failure::WorkerError, nats::Bus, tls, wire::Problem};

/// A host that is up accepts at once.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer may take, beyond what a poll waits.
const ANSWER: Duration = Duration::from_secs(30);
/// A hundred tasks with payloads of 2 MiB each.
const MAX_ANSWER_BYTES: usize = 256 << 20;
/// Shorter than the time after which hosts and proxies close what is idle.
const IDLE: Duration = Duration::from_secs(20);

/// How long a poll waits at the host.
const WAIT: Duration = Duration::from_secs(30);
/// Over NATS the host does not learn that a worker has gone: it waits no longer than this.
const WAIT_OVER_NATS: Duration = Duration::from_secs(5);

/// Talks to one host about one namespace. Cheap to clone.
#[derive(Clone)]
pub struct Client(Way);

#[derive(Clone)]
enum Way {
    Http(Arc<Http>),
    Nats(Arc<Bus>),
}

struct Http {
    pool: Pool<HttpsConnector<HttpConnector>, Full<Bytes>>,
    base: String,
}

impl Client {
    /// `server` is the host's address, such as `http://127.0.0.1:7474` or `https://relive.example.com`, or that of NATS:
    /// `nats://127.0.0.1:4222`.
    pub fn new(server: &str, namespace: &str) -> Result<Self, WorkerError> {
        Self::trusting(server, namespace, None)
    }

    /// The same, and the authorities in the PEM file `ca` are trusted beside the well-known ones.
    pub fn trusting(server: &str, namespace: &str, ca: Option<&Path>) -> Result<Self, WorkerError> {
        if server.starts_with("nats://") || server.starts_with("tls://") {
            return Ok(Self(Way::Nats(Arc::new(Bus::new(server, namespace, ca)?))));
        }
        Ok(Self(Way::Http(Arc::new(Http::new(server, namespace, ca)?))))
    }

    /// How long a poll may ask to wait.
    pub(crate) fn longest_wait(&self) -> Duration {
        match self.0 {
            Way::Http(_) => WAIT,
            Way::Nats(_) => WAIT_OVER_NATS,
        }
    }

    /// How large a request with several answers may be; the host takes 2 MB and a little by HTTP, NATS as a rule 1 MB.
    pub(crate) fn batch_bytes(&self) -> usize {
        match self.0 {
            Way::Http(_) => 1 << 20,
            Way::Nats(_) => 1 << 19,
        }
    }

    /// Posts JSON to a path of the namespace; `segments` are encoded. `wait` is how long the host may let it wait.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        body: &impl Serialize,
        wait: Duration,
    ) -> Result<T, WorkerError> {
        let body = serde_json::to_vec(body).map_err(|e| WorkerError::Answer(e.to_string()))?;
        self.call(Method::POST, segments, body, wait).await
    }

    pub(crate) async fn delete(&self, segments: &[&str]) -> Result<serde::de::IgnoredAny, WorkerError> {
        self.call(Method::DELETE, segments, Vec::new(), Duration::ZERO).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        segments: &[&str],
        body: Vec<u8>,
        wait: Duration,
    ) -> Result<T, WorkerError> {
        let (status, bytes) = match &self.0 {
            Way::Http(http) => http.call(method, segments, body, wait).await?,
            Way::Nats(bus) => bus.call(&method, segments, body, wait).await?,
        };
        if (200..300).contains(&status) {
            return serde_json::from_slice(&bytes).map_err(|e| WorkerError::Answer(e.to_string()));
        }
        let problem: Problem = serde_json::from_slice(&bytes).unwrap_or_default();
        let code = if problem.code.is_empty() { format!("status {status}") } else { problem.code };
        Err(WorkerError::Refused { status, code, detail: problem.detail })
    }
}

impl Http {
    fn new(server: &str, namespace: &str, ca: Option<&Path>) -> Result<Self, WorkerError> {
        let server = server.trim_end_matches('/');
        let address = || WorkerError::Address(server.to_owned());
        let uri: hyper::Uri = server.parse().map_err(|_| address())?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none_or(str::is_empty) {
            return Err(address());
        }
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT));
        let pool = Pool::builder(TokioExecutor::new()).pool_idle_timeout(IDLE).build(tls::connector(connector, ca)?);
        Ok(Self { pool, base: format!("{server}/v1/namespaces/{}", encode(namespace)) })
    }

    async fn call(
        &self,
        method: Method,
        segments: &[&str],
        body: Vec<u8>,
        wait: Duration,
    ) -> Result<(u16, Bytes), WorkerError> {
        let mut uri = self.base.clone();
        for segment in segments {
            uri.push('/');
            uri.push_str(&encode(segment));
        }
        let json = HeaderValue::from_static("application/json");
        let request = Request::builder().method(method).uri(uri).header(CONTENT_TYPE, json);
        let request = request.body(Full::from(body)).map_err(|e| WorkerError::Answer(e.to_string()))?;
        let late = || WorkerError::Connection("no answer came in time".to_owned());
        tokio::time::timeout(wait + ANSWER, self.exchange(request)).await.map_err(|_| late())?
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<(u16, Bytes), WorkerError> {
        let response = self.pool.request(request).await.map_err(|e| WorkerError::Connection(chain(&e)))?;
        let status = response.status().as_u16();
        match Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await {
            Ok(body) => Ok((status, body.to_bytes())),
            Err(error) if error.is::<LengthLimitError>() => {
                Err(WorkerError::Answer(format!("it has more than {MAX_ANSWER_BYTES} bytes")))
            }
            Err(error) => Err(WorkerError::Connection(error.to_string())),
        }
    }
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

/// Percent-encodes one path segment.
fn encode(segment: &str) -> String {
    let mut text = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~') {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}
