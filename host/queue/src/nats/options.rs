//! How a host reaches NATS and what it wants there.

use std::{path::PathBuf, time::Duration};

use crate::limits::QueueLimits;

/// Settings of a connection. All hosts of a cluster need the same `prefix`, `limits` and `replicas`.
#[derive(Clone, Debug)]
pub struct NatsOptions {
    /// One URL or several with commas: `nats://host:4222`, `tls://user:password@host`, `nats://token@host`. All servers
    /// accept the same credentials.
    pub url: String,
    /// The first token of every subject, and the beginning of streams' names. It belongs to one store.
    pub prefix: String,
    /// What the server's monitoring calls the connection, such as the host's id.
    pub name: String,
    pub limits: QueueLimits,
    /// How many servers of a NATS cluster keep each message.
    pub replicas: usize,
    /// How long the server may take to answer.
    pub request_timeout: Duration,
    /// A file of credentials, as `nsc` makes them.
    pub credentials: Option<PathBuf>,
    /// Certificates of authorities to trust beside the usual ones (PEM).
    pub authorities: Option<PathBuf>,
    /// Go on without a server, and find it later: every call fails as unavailable until then.
    pub wait_for_server: bool,
}

impl NatsOptions {
    /// The usual settings. A path of the URL is the prefix: `nats://host:4222/test`.
    #[must_use]
    pub fn new(url: &str) -> Self {
        let rest = url.rsplit_once("://").map_or(url, |(_, rest)| rest);
        let (url, path) = match rest.split_once('/') {
            Some((_, path)) => (&url[..url.len() - path.len() - 1], path.trim_end_matches('/')),
            None => (url, ""),
        };
        Self {
            url: url.to_owned(),
            prefix: if path.is_empty() { "relive" } else { path }.to_owned(),
            name: "relive".to_owned(),
            limits: QueueLimits::default(),
            replicas: 1,
            request_timeout: Duration::from_secs(5),
            credentials: None,
            authorities: None,
            wait_for_server: false,
        }
    }

    /// The servers without user and password, for messages.
    pub(crate) fn servers(&self) -> String {
        let bare = |url: &str| {
            let (scheme, rest) = url.trim().split_once("://").unwrap_or(("nats", url.trim()));
            format!("{scheme}://{}", rest.rsplit_once('@').map_or(rest, |(_, host)| host))
        };
        self.url.split(',').map(bare).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_the_prefix() {
        for (url, bare, prefix) in [
            ("nats://a:4222", "nats://a:4222", "relive"),
            ("nats://a:4222/", "nats://a:4222", "relive"),
            ("nats://a:4222/t-1", "nats://a:4222", "t-1"),
            ("nats://a, tls://b/t", "nats://a, tls://b", "t"),
            ("a:4222", "a:4222", "relive"),
            ("nats://", "nats://", "relive"),
        ] {
            let options = NatsOptions::new(url);
            assert_eq!((&*options.url, &*options.prefix), (bare, prefix), "{url}");
        }
    }

    #[test]
    fn messages_name_servers_without_passwords() {
        let options = NatsOptions::new("nats://me:se@cret@a:4222, tls://b,c:1");
        assert_eq!(options.servers(), "nats://a:4222, tls://b, nats://c:1");
    }
}
