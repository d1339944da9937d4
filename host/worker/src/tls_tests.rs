//! A worker's client and a host with TLS: one whose authority it was told to trust, and no other.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring, pki_types::PrivatePkcs8KeyDer},
};

use crate::{Failure, Worker, client::Client, failure::WorkerError};

/// A server for `localhost` that answers each request with the same, and the PEM file of its authority.
struct Server {
    address: SocketAddr,
    folder: TempDir,
}

impl Server {
    async fn start() -> Self {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().expect("a key"));
        let authority = authority.expect("an authority");
        let key = KeyPair::generate().expect("a key");
        let certificate = CertificateParams::new(["localhost".to_owned()]).expect("a name").signed_by(&key, &authority);
        let chain = vec![certificate.expect("a certificate").der().clone()];
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, PrivatePkcs8KeyDer::from(key.serialize_der()).into())
            .expect("a configuration");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let _ = stream.read(&mut [0; 4096]).await;
                let answer = b"HTTP/1.1 201 Created\r\ncontent-length: 9\r\nconnection: close\r\n\r\n{\"of\": 1}";
                let _ = stream.write_all(answer).await;
                let _ = stream.shutdown().await;
            }
        });
        let folder = tempfile::tempdir().expect("a folder");
        let text = STANDARD.encode(authority.der());
        let lines: Vec<&str> = text.as_bytes().chunks(64).map(|l| std::str::from_utf8(l).expect("base64")).collect();
        let pem = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"));
        std::fs::write(folder.path().join("ca.pem"), pem).expect("written");
        Self { address, folder }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }
}

async fn register(client: &Client) -> Result<Value, WorkerError> {
    client.post(&["workers"], &json!({"identity": "me"}), Duration::ZERO).await
}

#[tokio::test]
async fn a_host_of_a_private_authority_is_trusted_once_it_is_named() {
    let server = Server::start().await;
    let trusting = Client::trusting(&server.url(), "default", Some(&server.file("ca.pem"))).expect("a client");
    assert_eq!(register(&trusting).await.expect("an answer"), json!({"of": 1}));
    let stranger = Client::new(&server.url(), "default").expect("a client");
    let refused = register(&stranger).await.expect_err("its authority is not known");
    assert!(refused.may_pass() && refused.to_string().contains("UnknownIssuer"), "{refused}");
    // The same server under a name that its certificate does not have.
    let url = format!("https://{}", server.address);
    let other = Client::trusting(&url, "default", Some(&server.file("ca.pem"))).expect("a client");
    let refused = register(&other).await.expect_err("another name").to_string();
    assert!(refused.contains("not valid for name"), "{refused}");
}

#[tokio::test]
async fn what_is_no_authority_is_told_before_anything_is_sent() {
    let server = Server::start().await;
    std::fs::write(server.file("none.pem"), "hello").expect("written");
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    std::fs::write(server.file("broken.pem"), broken).expect("written");
    for (name, reason) in [("missing.pem", "missing.pem"), ("none.pem", "no certificate"), ("broken.pem", "broken.pem")]
    {
        let worker = Worker::builder(&server.url()).ca(&server.file(name));
        let error = worker.raw("a", |_| async { Err(Failure::canceled()) }).build().err().expect(name);
        assert!(matches!(error, WorkerError::Trust(_)) && error.to_string().contains(reason), "{error}");
    }
    for address in ["ftp://localhost", "localhost:1", "https://"] {
        assert!(matches!(Client::new(address, "default"), Err(WorkerError::Address(_))), "{address}");
    }
}
