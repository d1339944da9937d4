//! Task queues, signals and the event feed over NATS: `link` is the connection, `layout` what stands on the server,
//! `tasks`, `signals` and `feed` the ports, `pull` a fetch, `workers` their requests, `trouble` the server's errors in the ports' words.

mod feed;
mod layout;
mod link;
mod options;
mod publish;
mod pull;
mod signals;
mod tasks;
mod trouble;
mod workers;

use std::sync::Arc;

use relive_core::ports::QueueError;

use self::{layout::Layout, link::Link};

pub use self::{
    options::NatsOptions,
    workers::{WorkerAnswer, WorkerRequest},
};

/// A connection to a NATS server or cluster, and everything that is done over it. It reconnects by itself for ever; what
/// the server lost meanwhile is made again when it is needed.
pub struct NatsQueue {
    link: Arc<Link>,
    layout: Layout,
}

impl NatsQueue {
    /// Connects. Fails if no server is reached or none accepts the credentials, unless
    /// [`NatsOptions::wait_for_server`] says otherwise; nothing is made on the server yet.
    pub async fn connect(options: NatsOptions) -> Result<Self, QueueError> {
        let link = Arc::new(Link::connect(options).await?);
        let layout = Layout::new(link.clone());
        Ok(Self { link, layout })
    }

    /// Whether the server is reached right now, for a readiness check.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.link.is_connected()
    }

    /// Makes the stream of tasks, so that a host hears of trouble when it starts: no JetStream, a stream with other
    /// limits, no permission.
    pub async fn prepare(&self) -> Result<(), QueueError> {
        self.layout.task_stream().await
    }

    /// Sends what was not sent yet and ends the connection; calls that are under way fail.
    pub async fn close(&self) {
        self.link.close().await;
    }
}
