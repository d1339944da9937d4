//! Connections: a name is looked up, its addresses are judged, and one of those that passed is connected to. There is
//! no second look-up between the check and the connection, so a name that changes its mind gains nothing.
//!
//! No proxy of the environment is used: the policy is about who is reached.

use std::future::Future;
use std::io::{Error as IoError, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use http::uri::Scheme;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName};
use tower::Service;

use super::address::is_public;

/// Looking up, connecting and shaking hands, together. A host that is up needs far less.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// One address; the next is tried then.
const ADDRESS_TIME: Duration = Duration::from_secs(3);
/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;

/// Why there is no connection. Fits "failed to {..}".
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("look up {host}: {source}")]
    Lookup { host: String, source: IoError },
    #[error(
        "connect to {host}: it leads to {address}, which is no address of the public internet; grant it with allow_private = true"
    )]
    Private { host: String, address: IpAddr },
    #[error("connect to {host}: {source}")]
    Connect { host: String, source: IoError },
    #[error("agree on TLS with {host}: {source}")]
    Tls { host: String, source: IoError },
    #[error("connect to {host}: not done within {CONNECT_TIME:?}")]
    Late { host: String },
}

/// Connects for one pool: connections are shared only among those who may have made them.
#[derive(Clone)]
pub(super) struct Connector {
    tls: TlsConnector,
    allow_private: bool,
}

impl Connector {
    pub(super) fn new(tls: Arc<ClientConfig>, allow_private: bool) -> Self {
        Self { tls: tls.into(), allow_private }
    }

    async fn connect(self, uri: Uri) -> Result<TokioIo<Stream>, ConnectError> {
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        let https = uri.scheme() == Some(&Scheme::HTTPS);
        let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
        let connecting = async {
            let stream = self.tcp(&host, port).await?;
            if !https {
                return Ok(Stream::Plain(stream));
            }
            let refused = |source| ConnectError::Tls { host: host.clone(), source };
            let name = ServerName::try_from(host.clone()).map_err(|e| refused(IoError::other(e)))?;
            let stream = self.tls.connect(name, stream).await.map_err(refused)?;
            Ok(Stream::Tls(Box::new(stream)))
        };
        match tokio::time::timeout(CONNECT_TIME, connecting).await {
            Ok(connected) => connected.map(TokioIo::new),
            Err(_) => Err(ConnectError::Late { host }),
        }
    }

    async fn tcp(&self, host: &str, port: u16) -> Result<TcpStream, ConnectError> {
        let mut failure = IoError::other("the name has no address");
        for address in self.addresses(host, port).await? {
            let late = |_| IoError::new(std::io::ErrorKind::TimedOut, format!("no answer within {ADDRESS_TIME:?}"));
            match tokio::time::timeout(ADDRESS_TIME, TcpStream::connect(address)).await.map_err(late).flatten() {
                Ok(stream) => {
                    // Requests are small and waited for.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Err(error) => failure = error,
            }
        }
        Err(ConnectError::Connect { host: host.to_owned(), source: failure })
    }

    /// The addresses that may be connected to. If there are others only, that is the error.
    async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, ConnectError> {
        let found: Vec<SocketAddr> = match host.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, port)],
            Err(_) => {
                let looked_up = tokio::net::lookup_host((host, port)).await;
                looked_up.map_err(|source| ConnectError::Lookup { host: host.to_owned(), source })?.collect()
            }
        };
        judge(host, &found, self.allow_private)
    }
}

fn judge(host: &str, found: &[SocketAddr], allow_private: bool) -> Result<Vec<SocketAddr>, ConnectError> {
    let allowed = found.iter().filter(|address| allow_private || is_public(address.ip()));
    let allowed: Vec<SocketAddr> = allowed.copied().take(MAX_ADDRESSES).collect();
    match found.first() {
        Some(first) if allowed.is_empty() => Err(ConnectError::Private { host: host.to_owned(), address: first.ip() }),
        _ => Ok(allowed),
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<TokioIo<Stream>, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

/// TLS as browsers trust it: Mozilla's roots, built in.
pub(super) fn tls() -> Result<Arc<ClientConfig>, tokio_rustls::rustls::Error> {
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// A connection.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<(), IoError>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, IoError>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), IoError>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), IoError>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<Result<usize, IoError>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_private_addresses_alone_is_refused_and_its_public_ones_are_kept() {
        let addresses: Vec<SocketAddr> =
            ["127.0.0.1:80", "8.8.8.8:80", "[::1]:80"].map(|a| a.parse().expect("an address")).to_vec();
        assert_eq!(judge("a", &addresses, false).expect("one"), [addresses[1]]);
        assert_eq!(judge("a", &addresses, true).expect("all"), addresses);
        let refused = judge("a", &addresses[..1], false).expect_err("private");
        assert!(matches!(refused, ConnectError::Private { .. }));
        assert!(judge("a", &[], false).expect("none").is_empty());
    }
}
