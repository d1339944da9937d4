//! Outgoing HTTP: only to granted hosts. The host follows no redirects; a guest that does asks anew, and is checked anew.

use std::sync::Arc;

use http::uri::Uri;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks, default_send_request};

use crate::grants::{HostPattern, Scheme};

/// What remains of a request after its head was received.
type Transfer = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Sending = Box<dyn Future<Output = Result<(http::Response<WasiBody>, Transfer), Error>> + Send>;

pub(crate) struct Outbound(pub(crate) Arc<[HostPattern]>);

impl Outbound {
    fn admits(&self, uri: &Uri) -> bool {
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            _ => return false,
        };
        let Some(authority) = uri.authority() else {
            return false;
        };
        // A user in front of the host is nobody's need and many a parser's trap.
        if authority.as_str().contains('@') {
            return false;
        }
        let port = authority.port_u16().unwrap_or(scheme.default_port());
        self.0.iter().any(|pattern| pattern.admits(scheme, authority.host(), port))
    }
}

impl WasiHttpHooks for Outbound {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Sending {
        let uri = request.uri();
        if !self.admits(uri) {
            let (scheme, authority) = (uri.scheme_str(), uri.authority().map(http::uri::Authority::as_str));
            tracing::warn!(scheme, authority, "refused an HTTP request to a host that is not granted");
            return Box::new(async { Err(Error::HttpRequestDenied) });
        }
        Box::new(async move {
            let (response, transfer) = default_send_request(request, options).await?;
            Ok((response.map(WasiBody::new), Box::new(transfer) as Transfer))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(patterns: &[&str], uri: &str) -> bool {
        let patterns = patterns.iter().map(|p| p.parse().expect("a pattern")).collect();
        Outbound(patterns).admits(&uri.parse().expect("a URI"))
    }

    #[test]
    fn a_request_goes_to_granted_hosts_only() {
        assert!(check(&["example.com:443"], "https://example.com/a?b"));
        assert!(check(&["example.com:8080"], "http://EXAMPLE.com:8080/"));
        assert!(check(&["https://example.com"], "https://example.com/"));
        assert!(check(&["http://[::1]:80"], "http://[::1]/"));
        assert!(!check(&[], "https://example.com/"));
        assert!(!check(&["https://example.com"], "http://example.com:443/"));
        assert!(!check(&["example.com:443"], "http://example.com/"));
        assert!(!check(&["example.com:443"], "https://example.com.evil.org/"));
        assert!(!check(&["example.com:443"], "https://sub.example.com/"));
        assert!(!check(&["example.com:443"], "https://example.com@evil.org/"));
        assert!(!check(&["example.com:443"], "https://user@example.com/"));
        assert!(!check(&["example.com:443"], "https://example.com:444/"));
    }
}
