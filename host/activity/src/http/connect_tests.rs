//! Connections with TLS: to a server whose certificate is trusted for the name, and to no other.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig, crypto::ring, pki_types::PrivatePkcs8KeyDer};

use super::connect::{Connector, tls};

/// A server that answers 204 to whoever agrees on TLS with it, and the client's trust in its authority.
async fn server(name: &str) -> (SocketAddr, Arc<ClientConfig>) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().expect("a key")).expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new([name.to_owned()]).expect("a name").signed_by(&key, &authority);
    let chain = vec![certificate.expect("a certificate").der().clone()];
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, PrivatePkcs8KeyDer::from(key.serialize_der()).into())
        .expect("a configuration");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await;
            let _ = stream.shutdown().await;
        }
    });
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).expect("an authority");
    let trust = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    (address, Arc::new(trust))
}

async fn post(trust: Arc<ClientConfig>, url: String) -> Result<StatusCode, String> {
    let client = Client::builder(TokioExecutor::new()).build(Connector::new(trust, true));
    let request = Request::post(url).body(Full::new(Bytes::from_static(b"{}"))).expect("a request");
    let answered = client.request(request).await;
    answered.map(|answer| answer.status()).map_err(|error| format!("{error:?}"))
}

#[tokio::test]
async fn a_certificate_is_trusted_for_its_name() {
    let (address, trust) = server("localhost").await;
    let url = format!("https://localhost:{}/", address.port());
    assert_eq!(post(trust.clone(), url.clone()).await, Ok(StatusCode::NO_CONTENT));
    // The same server under a name that its certificate does not have.
    let refused = post(trust, format!("https://{address}/")).await.expect_err("another name");
    assert!(refused.contains("NotValidForName"), "{refused}");
    // An authority that the world does not know.
    let refused = post(tls().expect("a configuration"), url).await.expect_err("unknown");
    assert!(refused.contains("UnknownIssuer"), "{refused}");
    let (address, trust) = server("127.0.0.1").await;
    assert_eq!(post(trust, format!("https://{address}/")).await, Ok(StatusCode::NO_CONTENT));
}
