//! The engine's way to other hosts: what waits in their queues, and taking some of it for a worker that polls here. Asks
//! the routes that workers ask, marked as sent on, so that each host tells of its own alone.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Bytes,
    http::{HeaderValue, Method, Request, StatusCode, header},
};
use futures_util::{FutureExt, future::BoxFuture};
use http_body_util::{BodyExt, Full, Limited};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode as encoded};
use relive_core::Namespace;
use relive_engine::{PeerError, PeerPoll, Peers, QueueView};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use super::{FORWARDED_HEADER, peer::Peers as Pool};
/// A hundred tasks with payloads of 2 MiB each.
const MAX_ANSWER: usize = 256 << 20;
/// A poll that does not wait takes as long as a commit.
const PATIENCE: Duration = Duration::from_secs(10);

/// The other hosts over HTTP.
pub struct HttpPeers(Arc<Pool>);

#[derive(Serialize)]
struct PollBody<'a> {
    worker_id: &'a str,
    max_tasks: usize,
    wait_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    activities: Option<&'a [String]>,
}

#[derive(Deserialize)]
struct Polled {
    tasks: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Queues {
    task_queues: Vec<QueueView>,
}

#[derive(Default, Deserialize)]
struct Document {
    #[serde(default)]
    detail: String,
}

impl Default for HttpPeers {
    fn default() -> Self {
        Self(Arc::new(Pool::new()))
    }
}

impl HttpPeers {
    fn ask<T: DeserializeOwned + 'static>(
        &self,
        address: Arc<str>,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> BoxFuture<'static, Result<T, PeerError>> {
        let (pool, uri) = (self.0.clone(), format!("{}{path}", address.trim_end_matches('/')));
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header(FORWARDED_HEADER, HeaderValue::from_static("1"))
            .header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .body(Full::new(Bytes::from(body)));
        async move {
            let request = request.map_err(|_| PeerError::Unreached(address.clone()))?;
            match tokio::time::timeout(PATIENCE, exchange(&pool, request, &address)).await {
                Ok(answer) => answer,
                Err(_) => Err(PeerError::Broken(address)),
            }
        }
        .boxed()
    }
}

async fn exchange<T: DeserializeOwned>(
    pool: &Pool,
    request: Request<Full<Bytes>>,
    address: &Arc<str>,
) -> Result<T, PeerError> {
    let broken = || PeerError::Broken(address.clone());
    let response = match pool.request(request).await {
        Ok(response) => response,
        Err(error) if error.is_connect() => return Err(PeerError::Unreached(address.clone())),
        Err(_) => return Err(broken()),
    };
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(|_| broken())?.to_bytes();
    if status == StatusCode::OK {
        return serde_json::from_slice(&body).map_err(|_| broken());
    }
    let document: Document = serde_json::from_slice(&body).unwrap_or_default();
    Err(PeerError::Refused(format!("the host at {address} answered {status}: {}", document.detail)))
}

impl Peers for HttpPeers {
    fn queues(&self, address: Arc<str>, namespace: Namespace) -> BoxFuture<'static, Result<Vec<QueueView>, PeerError>> {
        let path = format!("/v1/namespaces/{}/task-queues?limit=1000", encoded(namespace.as_str(), NON_ALPHANUMERIC));
        let queues = self.ask::<Queues>(address, Method::GET, &path, Vec::new());
        async move { Ok(queues.await?.task_queues) }.boxed()
    }

    fn poll(&self, address: Arc<str>, poll: PeerPoll) -> BoxFuture<'static, Result<Vec<Box<RawValue>>, PeerError>> {
        let namespace = encoded(poll.namespace.as_str(), NON_ALPHANUMERIC);
        let queue = encoded(&poll.task_queue, NON_ALPHANUMERIC);
        let activities = poll.activities.as_deref();
        let body = PollBody { worker_id: &poll.worker, max_tasks: poll.max_tasks, wait_ms: 0, activities };
        let body = serde_json::to_vec(&body).unwrap_or_default();
        let path = format!("/v1/namespaces/{namespace}/task-queues/{queue}/poll");
        let polled = self.ask::<Polled>(address, Method::POST, &path, body);
        async move { Ok(polled.await?.tasks) }.boxed()
    }
}
