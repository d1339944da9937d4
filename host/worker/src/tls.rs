//! Whom a worker trusts to be its host, over `https://`: hosts with a certificate of Mozilla's authorities, which are
//! built in, and of those in a PEM file, for private ones.

use std::{path::Path, sync::Arc};

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use tokio_rustls::rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};

use crate::failure::WorkerError;

/// A connector over `http` that speaks TLS where the address says so, and trusts the authorities in `ca` too.
pub(crate) fn connector(
    mut http: HttpConnector,
    ca: Option<&Path>,
) -> Result<HttpsConnector<HttpConnector>, WorkerError> {
    // Both schemes come here.
    http.enforce_http(false);
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = ca {
        add(&mut roots, path)?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| WorkerError::Trust(format!("set up TLS: {e}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1().wrap_connector(http))
}

fn add(roots: &mut RootCertStore, path: &Path) -> Result<(), WorkerError> {
    let refused = |what: String| WorkerError::Trust(format!("read the authorities in {}: {what}", path.display()));
    let certificates = CertificateDer::pem_file_iter(path).map_err(|e| refused(e.to_string()))?;
    let before = roots.len();
    for certificate in certificates {
        let certificate = certificate.map_err(|e| refused(e.to_string()))?;
        roots.add(certificate).map_err(|e| refused(e.to_string()))?;
    }
    if roots.len() == before {
        return Err(refused("there is no certificate in it (`-----BEGIN CERTIFICATE-----`)".to_owned()));
    }
    Ok(())
}
