//! The client of all http activities: two pools of connections, the signing key, and how an answer is read.
//!
//! Must not know: tasks, failures, configurations.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use relive_core::json::Json;

use super::connect::{Connector, tls};
use super::key::SigningKey;

/// Idle connections to one host that are kept.
const MAX_IDLE: usize = 256;
/// How long: below what servers keep theirs, so that few close while a request is on its way.
const IDLE_TIME: Duration = Duration::from_secs(15);
/// The longest pause within an answer. Until it begins, the attempt's own deadline counts.
pub(super) const READ_TIME: Duration = Duration::from_secs(30);

type Pool = Client<Connector, Full<Bytes>>;

/// Sends what http activities ask for. Cheap to clone.
#[derive(Clone)]
pub struct HttpHost(Arc<Inner>);

struct Inner {
    /// Connections to public addresses.
    public: Pool,
    /// Connections of those who may reach any: never lent to the others.
    private: Pool,
    key: SigningKey,
}

/// The client could not be set up: a defect of the build.
#[derive(Debug, thiserror::Error)]
pub enum HttpHostError {
    #[error("set up TLS: {0}")]
    Tls(String),
}

/// Why an answer could not be read.
#[derive(Debug)]
pub(super) enum ReadError {
    TooLarge,
    Slow,
    Lost(hyper::Error),
}

impl HttpHost {
    /// A client that signs with `key`.
    pub fn new(key: SigningKey) -> Result<Self, HttpHostError> {
        let tls = tls().map_err(|e| HttpHostError::Tls(e.to_string()))?;
        let pool = |allow_private| {
            Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE_TIME)
                .pool_max_idle_per_host(MAX_IDLE)
                .build(Connector::new(tls.clone(), allow_private))
        };
        Ok(Self(Arc::new(Inner { public: pool(false), private: pool(true), key })))
    }

    /// The public key, for receivers.
    #[must_use]
    pub fn jwks(&self) -> Json {
        self.0.key.jwks()
    }

    pub(super) fn key(&self) -> &SigningKey {
        &self.0.key
    }

    pub(super) async fn send(
        &self,
        request: Request<Full<Bytes>>,
        allow_private: bool,
    ) -> Result<Response<Incoming>, Error> {
        let pool = if allow_private { &self.0.private } else { &self.0.public };
        pool.request(request).await
    }
}

/// Reads a body of at most `limit` bytes. What is longer is not read to its end: its connection is closed.
pub(super) async fn read(mut body: Incoming, limit: usize) -> Result<Bytes, ReadError> {
    use hyper::body::Body;
    if body.size_hint().lower() > limit as u64 {
        return Err(ReadError::TooLarge);
    }
    let mut whole = BytesMut::new();
    loop {
        let frame = match tokio::time::timeout(READ_TIME, body.frame()).await {
            Err(_) => return Err(ReadError::Slow),
            Ok(None) => return Ok(whole.freeze()),
            Ok(Some(frame)) => frame.map_err(ReadError::Lost)?,
        };
        if let Ok(data) = frame.into_data() {
            if whole.len() + data.len() > limit {
                return Err(ReadError::TooLarge);
            }
            // Most answers come in one piece, which need not be copied.
            if whole.is_empty() && body.is_end_stream() {
                return Ok(data);
            }
            whole.extend_from_slice(&data);
        }
    }
}
