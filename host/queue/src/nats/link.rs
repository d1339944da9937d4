//! The connection: how it is made, how its loss is noticed, and requests that do not outlive it. Knows no stream.

use std::{future::Future, sync::Arc, time::Duration};

use async_nats::{
    Client, ConnectErrorKind, ConnectOptions, Event, RequestErrorKind, ServerAddr, ServerError,
    connection::State,
    jetstream::{Context, ContextBuilder},
};
use bytes::Bytes;
use parking_lot::Mutex;
use relive_core::ports::{QueueError, QueueErrorKind};
use tokio::sync::watch;

use super::options::NatsOptions;
use crate::names::{Names, unescape};

/// Publishes that may be without their acknowledgement at once, over all callers; further ones wait.
const MAX_UNACKNOWLEDGED: usize = 4_096;
/// JetStream as this crate uses it (consumers made strictly, several filters) came with this version.
const OLDEST_SERVER: (i64, i64, i64) = (2, 10, 0);

/// What the connection went through, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct History {
    pub connected: u64,
    pub lost: u64,
    /// Messages that were dropped because a listener was too slow.
    pub dropped: u64,
}

pub(crate) struct Link {
    pub client: Client,
    pub jetstream: Context,
    pub options: NatsOptions,
    pub names: Names,
    history: watch::Receiver<History>,
    /// The last thing that the server or the connection complained of.
    complaint: Arc<Mutex<Option<String>>>,
}

impl Link {
    pub async fn connect(options: NatsOptions) -> Result<Self, QueueError> {
        let invalid = |message: String| QueueError::new(QueueErrorKind::Invalid, message);
        let names = Names::new(&options.prefix).map_err(|error| invalid(error.to_string()))?;
        if options.limits.duplicate_window > options.limits.max_age {
            return Err(invalid("messages cannot be known by their ids for longer than they are kept; make the duplicate window at most the greatest age".into()));
        }
        let servers = addresses(&options)?;
        let (tell, history) = watch::channel(History::default());
        let complaint = Arc::new(Mutex::new(None));
        let connect = Self::settings(&options, &servers, tell, complaint.clone()).await?;
        let client = connect.connect(servers).await.map_err(|error| refused(&options, &error))?;
        let jetstream = ContextBuilder::new()
            .timeout(options.request_timeout)
            .max_ack_inflight(MAX_UNACKNOWLEDGED)
            .build(client.clone());
        let link = Self { client, jetstream, options, names, history, complaint };
        if link.is_connected() {
            link.check_version()?;
            // The client tells of it in its own time, and whoever counts connections must not take the first for another.
            let mut history = link.history();
            let told = history.wait_for(|now| now.connected > 0);
            if tokio::time::timeout(link.options.request_timeout, told).await.is_err() {
                tracing::debug!("NATS is connected and did not say so");
            }
        }
        Ok(link)
    }

    async fn settings(
        options: &NatsOptions,
        servers: &[ServerAddr],
        tell: watch::Sender<History>,
        complaint: Arc<Mutex<Option<String>>>,
    ) -> Result<ConnectOptions, QueueError> {
        let mut connect = ConnectOptions::new()
            .name(&options.name)
            .connection_timeout(options.request_timeout)
            .request_timeout(Some(options.request_timeout))
            .event_callback(move |event| {
                note(&event, &tell, &complaint);
                std::future::ready(())
            });
        // The client does not look at them itself.
        let decoded = |text: &str| unescape(text, '%').unwrap_or_else(|| text.to_owned());
        if let Some((user, server)) = servers.iter().find_map(|server| Some((server.username()?, server))) {
            connect = match server.password() {
                Some(password) => connect.user_and_password(decoded(user), decoded(password)),
                None => connect.token(decoded(user)),
            };
        }
        if let Some(file) = &options.credentials {
            connect = connect.credentials_file(file).await.map_err(|error| {
                let message = format!("the credentials for NATS cannot be read from {}: {error}", file.display());
                QueueError::new(QueueErrorKind::Invalid, message)
            })?;
        }
        if let Some(file) = &options.authorities {
            connect = connect.add_root_certificates(file.clone());
        }
        if options.wait_for_server {
            connect = connect.retry_on_initial_connect();
        }
        Ok(connect)
    }

    fn check_version(&self) -> Result<(), QueueError> {
        let (major, minor, patch) = OLDEST_SERVER;
        if self.client.is_server_compatible(major, minor, patch) {
            return Ok(());
        }
        let found = self.client.server_info().version;
        let message = format!(
            "the NATS server at {} is of version {found}; {major}.{minor} or later is needed",
            self.options.servers()
        );
        Err(QueueError::new(QueueErrorKind::Mismatch, message))
    }

    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// How often the connection was lost: what was known of the server before is not known any more.
    pub fn times_lost(&self) -> u64 {
        self.history.borrow().lost
    }

    pub fn history(&self) -> watch::Receiver<History> {
        self.history.clone()
    }

    /// The connection is gone, or the server silent.
    pub fn unavailable(&self, action: &str, why: &str) -> QueueError {
        let last = self.complaint.lock().as_ref().map(|last| format!("; last heard: {last}")).unwrap_or_default();
        let message = format!("could not {action}: {why} ({}{last})", self.options.servers());
        QueueError::new(QueueErrorKind::Unavailable, message)
    }

    /// What `work` gives, unless the connection is lost meanwhile or `patience` ends: nothing waits for an answer that
    /// a dead connection owes.
    pub async fn guarded<T>(
        &self,
        action: &str,
        patience: Duration,
        work: impl Future<Output = Result<T, QueueError>>,
    ) -> Result<T, QueueError> {
        let mut history = self.history.clone();
        let lost = history.borrow_and_update().lost;
        if !self.is_connected() {
            return Err(self.unavailable(action, "there is no connection to NATS"));
        }
        tokio::select! {
            done = work => done,
            () = tokio::time::sleep(patience) => {
                Err(self.unavailable(action, "NATS did not answer in time"))
            }
            _ = history.wait_for(|now| now.lost != lost) => {
                Err(self.unavailable(action, "the connection to NATS was lost"))
            }
        }
    }

    /// A request; `None`: nobody is there to answer it.
    pub async fn request(&self, action: &str, subject: String, payload: Bytes) -> Result<Option<Bytes>, QueueError> {
        self.guarded(action, self.options.request_timeout, async {
            match self.client.request(subject, payload).await {
                Ok(message) => Ok(Some(message.payload)),
                Err(error) if error.kind() == RequestErrorKind::NoResponders => Ok(None),
                Err(error) => Err(self.unavailable(action, &error.to_string())),
            }
        })
        .await
    }

    /// Returns when the server has seen everything that was sent to it before.
    pub async fn round_trip(&self, action: &str) -> Result<(), QueueError> {
        self.request(action, self.names.nobody(), Bytes::new()).await.map(drop)
    }

    pub async fn close(&self) {
        if let Err(error) = self.client.drain().await {
            tracing::debug!(%error, "the connection to NATS was closed already");
        }
    }
}

fn addresses(options: &NatsOptions) -> Result<Vec<ServerAddr>, QueueError> {
    let parsed = options.url.split(',').map(|url| {
        let server: ServerAddr = url.trim().parse().map_err(|error: std::io::Error| error.to_string())?;
        if server.host().is_empty() { Err("it names no host".to_owned()) } else { Ok(server) }
    });
    parsed.collect::<Result<_, String>>().map_err(|error| {
        let message = format!("{} is no address of a NATS server: {error}; write nats://host:port", options.servers());
        QueueError::new(QueueErrorKind::Invalid, message)
    })
}

/// Counts what happens to the connection and keeps what it complains of.
fn note(event: &Event, tell: &watch::Sender<History>, complaint: &Mutex<Option<String>>) {
    match event {
        Event::Connected => {
            tracing::info!("connected to NATS");
            *complaint.lock() = None;
            tell.send_modify(|history| history.connected += 1);
        }
        Event::Disconnected | Event::Closed => {
            tracing::warn!("the connection to NATS is lost; tasks wait in the store meanwhile");
            tell.send_modify(|history| history.lost += 1);
        }
        Event::SlowConsumer(_) | Event::ServerError(ServerError::SlowConsumer(_)) => {
            tell.send_modify(|history| history.dropped += 1);
        }
        Event::ServerError(_) | Event::ClientError(_) => {
            tracing::warn!(%event, "trouble with NATS");
            *complaint.lock() = Some(event.to_string());
        }
        Event::LameDuckMode | Event::Draining => tracing::info!(%event, "NATS"),
    }
}

fn refused(options: &NatsOptions, error: &async_nats::ConnectError) -> QueueError {
    let servers = options.servers();
    let (kind, advice) = match error.kind() {
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
            (QueueErrorKind::Refused, "check user, password or the file of credentials")
        }
        ConnectErrorKind::Tls => (QueueErrorKind::Refused, "check the scheme (tls://) and the authorities to trust"),
        ConnectErrorKind::ServerParse => (QueueErrorKind::Invalid, "write nats://host:port"),
        _ => (QueueErrorKind::Unavailable, "check that the server runs and is reached from here"),
    };
    QueueError::new(kind, format!("could not connect to NATS at {servers}: {error}; {advice}"))
}
