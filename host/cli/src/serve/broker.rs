//! The broker of a cluster: whether it may be used, and connecting. It carries hints, so a host starts without it if it is
//! away, and does not if it can never work.

use std::sync::Arc;

use relive_core::ports::{QueueError, QueueErrorKind};
use relive_queue::{NatsOptions, NatsQueue};

use crate::{
    dev,
    exit::{Exit, Failure},
};

/// Who reaches the broker can be a worker: other machines need credentials there, or `--insecure` here.
pub fn check(url: &str, insecure: bool) -> Result<(), Failure> {
    let scheme = url.split_once("://").map(|(scheme, _)| scheme);
    if !matches!(scheme, Some("nats" | "tls")) {
        return Err(Failure::usage(format!("{url:?} is no address of a broker"))
            .hint("give --queue as nats://127.0.0.1:4222, or tls://USER:PASSWORD@HOST:4222"));
    }
    let with_credentials = |url: &str| url.split_once("://").is_some_and(|(_, rest)| rest.contains('@'));
    if insecure || dev::loopback_nats(url).is_ok() || url.split(',').all(with_credentials) {
        return Ok(());
    }
    let message = format!("{url} is reached by other machines, and nobody is asked for credentials there");
    Err(Failure::new(Exit::Usage, "not-loopback", message)
        .hint("give the broker a user and a password (nats://USER:PASSWORD@HOST:4222), or say --insecure on a network of your own"))
}

/// Connects, and makes sure that the broker can do what it is needed for.
pub async fn open(url: &str, host_id: &str, replicas: u32) -> Result<Arc<NatsQueue>, Failure> {
    let replicas = usize::try_from(replicas).unwrap_or(1);
    let options = NatsOptions { name: format!("relive {host_id}"), replicas, ..NatsOptions::new(url) };
    let connected = match NatsQueue::connect(options.clone()).await {
        Err(error) if error.kind == QueueErrorKind::Unavailable => {
            tracing::warn!(%error, "the broker is not reached; hosts ask each other until it is");
            NatsQueue::connect(NatsOptions { wait_for_server: true, ..options }).await
        }
        connected => connected,
    };
    let queue = connected.map_err(|error| unusable(&error))?;
    match queue.prepare().await {
        Ok(()) => {}
        Err(error) if error.kind.is_transient() => tracing::warn!(%error, "the broker is not ready yet"),
        Err(error) => return Err(unusable(&error)),
    }
    Ok(Arc::new(queue))
}

fn unusable(error: &QueueError) -> Failure {
    let (code, hint) = match error.kind {
        QueueErrorKind::Refused => ("queue-refused", "check user, password and permissions in --queue"),
        QueueErrorKind::NoStreaming => ("queue-no-jetstream", "start nats-server with JetStream: nats-server -js"),
        QueueErrorKind::Mismatch => (
            "queue-mismatch",
            "hosts of one cluster need the same settings; delete the stream (it holds hints only), or use another prefix: nats://HOST:PORT/PREFIX",
        ),
        QueueErrorKind::Invalid => ("queue-invalid", "give --queue as nats://HOST:PORT"),
        QueueErrorKind::Unavailable | QueueErrorKind::Full => ("queue-unavailable", "see the broker's log"),
    };
    Failure::new(Exit::Usage, code, format!("failed to use the broker: {error}")).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_need_credentials() {
        for good in
            ["nats://127.0.0.1:4222", "nats://localhost:1/p", "tls://me:secret@a.example", "nats://t@a,nats://t@b"]
        {
            assert!(check(good, false).is_ok(), "{good}");
        }
        for (bad, code) in [
            ("nats://10.0.0.1:4222", "not-loopback"),
            ("nats://t@a,nats://b", "not-loopback"),
            ("127.0.0.1:4222", "usage"),
            ("http://127.0.0.1:4222", "usage"),
        ] {
            let failure = check(bad, false).expect_err(bad);
            assert_eq!((failure.exit, failure.code.as_str()), (Exit::Usage, code), "{bad}");
        }
        assert!(check("nats://10.0.0.1:4222", true).is_ok());
    }
}
