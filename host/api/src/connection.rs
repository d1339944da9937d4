//! What a request knows of the connection that it came over, and who may talk to a host without credentials.

use axum::http::{HeaderMap, header};
use tokio::sync::watch;

use crate::problem::Problem;

/// Put into every request by [`crate::serve`]; absent where the router is called directly.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Becomes true when the host shuts down: long polls answer at once then.
    pub stopping: watch::Receiver<bool>,
    /// The listener is bound to the loopback interface and asks for no credentials.
    pub loopback: bool,
}

impl Connection {
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Resolves when the host begins to shut down.
    pub async fn stopping(mut self) {
        if self.stopping.wait_for(|stopping| *stopping).await.is_err() {
            // The server is gone without a word; whoever waits here is about to be dropped.
            std::future::pending::<()>().await;
        }
    }

    /// Refuses what a browser sends on behalf of some other site: loopback is no protection against web pages (DNS
    /// rebinding, cross-site posts), since the browser runs on the same machine.
    pub fn check_origin(&self, headers: &HeaderMap) -> Result<(), Problem> {
        if !self.loopback {
            return Ok(());
        }
        let text = |name| headers.get(name).map(|value: &axum::http::HeaderValue| value.to_str().unwrap_or_default());
        if let Some(host) = text(header::HOST)
            && !is_loopback_host(host)
        {
            return Err(Problem::invalid(
                "foreign-host",
                format!("this host answers to loopback names alone, not to {host:?}; use http://127.0.0.1:PORT"),
            ));
        }
        if let Some(origin) = text(header::ORIGIN) {
            let host = origin.split_once("://").map_or("", |(_, host)| host);
            if !is_loopback_host(host) {
                return Err(Problem::invalid(
                    "foreign-origin",
                    format!(
                        "pages of {origin:?} may not talk to this host; call it from a program or from its own page"
                    ),
                ));
            }
        }
        Ok(())
    }
}

/// Whether `host[:port]` names this machine's loopback interface.
fn is_loopback_host(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::is_loopback_host;

    #[test]
    fn only_loopback_names_pass() {
        for host in ["localhost", "LOCALHOST:80", "127.0.0.1:7474", "127.1.2.3", "[::1]:7474", "[::1]"] {
            assert!(is_loopback_host(host), "{host}");
        }
        for host in
            ["", "evil.example", "127.0.0.1.evil.example:80", "0.0.0.0", "10.0.0.1:7474", "[::2]", "localhost.evil"]
        {
            assert!(!is_loopback_host(host), "{host}");
        }
    }
}
