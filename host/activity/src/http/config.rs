//! What a deployment says of an http activity, its checks, and the form in which it is called.
//!
//! Owns the written form, in `relive.toml` and in the catalog. Must not know: how anything is sent.

use std::collections::BTreeMap;
use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use relive_core::json::{Json, JsonError};
use serde::{Deserialize, Serialize};
use url::{Host, Url};

use super::address::is_public;
use crate::failures::MAX_RESULT_BYTES;
use crate::grants::{HostPattern, MAX_HOSTS, Scheme};
use crate::protection::{BreakerSettings, Protection, ProtectionError};

/// Headers of one activity: they are sent with each attempt.
pub const MAX_HEADERS: usize = 32;
/// Bytes of all of them; servers take about 8 KiB of head.
pub const MAX_HEADER_BYTES: usize = 4 << 10;
/// The longest URL that servers and logs agree on.
pub const MAX_URL_BYTES: usize = 2_048;

/// Headers that the host sets, or that mean something to connections.
const RESERVED: [&str; 21] = [
    "accept",
    "accept-encoding",
    "connection",
    "content-digest",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "idempotency-key",
    "keep-alive",
    "proxy-connection",
    "relive-task-token",
    "signature",
    "signature-input",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "x-correlation-id",
];
/// Headers that carry secrets, which a manifest and a catalog are no place for.
const SECRET: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

/// How an http activity is called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpConfig {
    pub url: String,
    /// Sent with each attempt. They are shown to whoever may look: no secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Hosts that may be called; empty: the URL's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_hosts: Vec<HostPattern>,
    /// The grant to reach addresses that are not of the public internet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_private: bool,
    /// Bytes of the answer that are taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_response_bytes: Option<usize>,
    /// When its circuit breaker opens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaker: Option<BreakerSettings>,
    /// Attempts at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<usize>,
}

/// Why a configuration is refused. Fits "failed to {..}".
#[derive(Debug, thiserror::Error)]
pub enum HttpConfigError {
    #[error("read the configuration of an http activity: {0}")]
    Form(String),
    #[error("call `{url}`: {reason}")]
    Url { url: String, reason: String },
    #[error("call {target}: the host is not on allow_hosts; add it, or correct the URL")]
    NotAllowed { target: String },
    #[error("call {target}: it is no address of the public internet; grant it with allow_private = true")]
    Private { target: String },
    #[error("send the header `{name}`: {reason}")]
    Header { name: String, reason: &'static str },
    #[error("take answers of up to {found} bytes: a result has 1 to {MAX_RESULT_BYTES} bytes")]
    ResponseBytes { found: usize },
    #[error("take {what}: {found}, at most {limit} are allowed")]
    TooMany { what: &'static str, found: usize, limit: usize },
    #[error(transparent)]
    Protection(#[from] ProtectionError),
}

/// A checked configuration, ready to be called.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) uri: Uri,
    /// The URI's text, exactly as receivers see it: it is signed.
    pub(crate) text: String,
    pub(crate) headers: HeaderMap,
    pub(crate) allow_private: bool,
    pub(crate) max_response_bytes: usize,
    target: String,
}

impl Endpoint {
    /// `host:port`.
    pub(crate) fn target(&self) -> &str {
        &self.target
    }
}

impl HttpConfig {
    /// A configuration that says nothing but where.
    #[must_use]
    pub fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            headers: BTreeMap::new(),
            allow_hosts: Vec::new(),
            allow_private: false,
            max_response_bytes: None,
            breaker: None,
            concurrency: None,
        }
    }

    /// What it says of its breaker and its concurrency.
    #[must_use]
    pub fn protection(&self) -> Protection {
        Protection { breaker: self.breaker, concurrency: self.concurrency }
    }

    /// As the catalog keeps it.
    pub fn to_json(&self) -> Result<Json, JsonError> {
        Json::of(self)
    }

    /// From the catalog or from a request, checked.
    pub fn from_json(json: &Json) -> Result<Self, HttpConfigError> {
        let config: Self = serde_json::from_str(json.as_str()).map_err(|e| HttpConfigError::Form(e.to_string()))?;
        config.check()?;
        Ok(config)
    }

    /// Whether it can be called as it stands. Names are not looked up: an answer may change at any time.
    pub fn check(&self) -> Result<(), HttpConfigError> {
        self.protection().check()?;
        self.endpoint().map(|_| ())
    }

    /// `host:port`; empty if the configuration is wrong.
    #[must_use]
    pub fn target(&self) -> String {
        self.endpoint().map(|endpoint| endpoint.target).unwrap_or_default()
    }

    pub(crate) fn endpoint(&self) -> Result<Endpoint, HttpConfigError> {
        let refuse = |reason: &str| HttpConfigError::Url { url: self.shown(), reason: reason.to_owned() };
        if self.url.len() > MAX_URL_BYTES {
            return Err(refuse("a URL has up to 2,048 bytes"));
        }
        // The parser of browsers: what looks like a name and means an address (`0x7f.1`) comes out as one.
        let url = Url::parse(&self.url).map_err(|e| refuse(&e.to_string()))?;
        let scheme = match url.scheme() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(refuse("the scheme is http or https")),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refuse("a URL with a user or a password would show it to whoever may look"));
        }
        if url.fragment().is_some() {
            return Err(refuse("a fragment is not sent; leave it out"));
        }
        let host = url.host().ok_or_else(|| refuse("it names no host"))?;
        let port = url.port().unwrap_or(scheme.default_port());
        let target = format!("{host}:{port}");
        self.check_hosts(scheme, &host, port, &target)?;
        let max_response_bytes = self.max_response_bytes.unwrap_or(MAX_RESULT_BYTES);
        if !(1..=MAX_RESULT_BYTES).contains(&max_response_bytes) {
            return Err(HttpConfigError::ResponseBytes { found: max_response_bytes });
        }
        let text = url.to_string();
        let uri = text.parse().map_err(|e: http::uri::InvalidUri| refuse(&e.to_string()))?;
        let (headers, allow_private) = (self.header_map()?, self.allow_private);
        Ok(Endpoint { uri, text, headers, allow_private, max_response_bytes, target })
    }

    fn check_hosts(&self, scheme: Scheme, host: &Host<&str>, port: u16, target: &str) -> Result<(), HttpConfigError> {
        if self.allow_hosts.len() > MAX_HOSTS {
            let (what, found) = ("allowed hosts", self.allow_hosts.len());
            return Err(HttpConfigError::TooMany { what, found, limit: MAX_HOSTS });
        }
        let text = host.to_string();
        let admitted = self.allow_hosts.iter().any(|pattern| pattern.admits(scheme, &text, port));
        if !self.allow_hosts.is_empty() && !admitted {
            return Err(HttpConfigError::NotAllowed { target: target.to_owned() });
        }
        let address = match host {
            Host::Domain(_) => None,
            Host::Ipv4(v4) => Some(IpAddr::V4(*v4)),
            Host::Ipv6(v6) => Some(IpAddr::V6(*v6)),
        };
        if !self.allow_private && address.is_some_and(|address| !is_public(address)) {
            return Err(HttpConfigError::Private { target: target.to_owned() });
        }
        Ok(())
    }

    fn header_map(&self) -> Result<HeaderMap, HttpConfigError> {
        let bytes = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        for (what, found, limit) in
            [("headers", self.headers.len(), MAX_HEADERS), ("bytes of headers", bytes, MAX_HEADER_BYTES)]
        {
            if found > limit {
                return Err(HttpConfigError::TooMany { what, found, limit });
            }
        }
        let mut headers = HeaderMap::with_capacity(self.headers.len());
        for (name, value) in &self.headers {
            let refuse = |reason| HttpConfigError::Header { name: name.clone(), reason };
            let parsed: HeaderName = name.parse().map_err(|_| refuse("it is no name of a header"))?;
            if RESERVED.contains(&parsed.as_str()) {
                return Err(refuse("the host sets it, or a connection owns it"));
            }
            if SECRET.contains(&parsed.as_str()) {
                return Err(refuse("no secrets in a manifest; the receiver verifies the signature instead"));
            }
            let value: HeaderValue = value.parse().map_err(|_| refuse("its value is not printable ASCII"))?;
            if headers.insert(parsed, value).is_some() {
                return Err(refuse("it stands there twice"));
            }
        }
        Ok(headers)
    }

    /// The URL without what may be a secret in it, for messages.
    fn shown(&self) -> String {
        let text = self.url.split_once('@').map_or(self.url.as_str(), |(_, rest)| rest);
        text.chars().take(256).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(json: &str) -> Result<Endpoint, HttpConfigError> {
        HttpConfig::from_json(&Json::parse(json).expect("JSON"))?.endpoint()
    }

    #[test]
    fn a_url_is_brought_to_the_form_that_is_signed() {
        for (url, text, target) in [
            ("https://Example.com", "https://example.com/", "example.com:443"),
            ("https://example.com:443/a?b=c", "https://example.com/a?b=c", "example.com:443"),
            ("http://example.com:8080/ä", "http://example.com:8080/%C3%A4", "example.com:8080"),
            ("https://bücher.example/", "https://xn--bcher-kva.example/", "xn--bcher-kva.example:443"),
            ("https://[2606:4700::1111]/", "https://[2606:4700::1111]/", "[2606:4700::1111]:443"),
        ] {
            let endpoint = HttpConfig::new(url).endpoint().unwrap_or_else(|e| panic!("failed to {e}"));
            assert_eq!((endpoint.text.as_str(), endpoint.target()), (text, target));
            assert_eq!(endpoint.uri.to_string(), text);
        }
    }

    #[test]
    fn what_cannot_be_called_is_refused_with_its_reason() {
        for (json, reason) in [
            (r#"{"url":"ftp://example.com/"}"#, "http or https"),
            (r#"{"url":"example.com"}"#, "call `example.com`"),
            (r#"{"url":"https://user:pw@example.com/"}"#, "user or a password"),
            (r#"{"url":"https://example.com/#a"}"#, "fragment"),
            (r#"{"url":"http://127.0.0.1:1/"}"#, "allow_private"),
            (r#"{"url":"http://2130706433/"}"#, "allow_private"),
            (r#"{"url":"http://0x7f.1/"}"#, "allow_private"),
            (r#"{"url":"http://[::1]/"}"#, "allow_private"),
            (r#"{"url":"http://[::ffff:10.0.0.1]/"}"#, "allow_private"),
            (r#"{"url":"https://a.com/","allow_hosts":["b.com:443"]}"#, "allow_hosts"),
            (r#"{"url":"https://a.com/","allow_hosts":["http://a.com:443"]}"#, "allow_hosts"),
            (r#"{"url":"https://a.com/","max_response_bytes":0}"#, "1 to"),
            (r#"{"url":"https://a.com/","max_response_bytes":99999999}"#, "1 to"),
            (r#"{"url":"https://a.com/","headers":{"Host":"b"}}"#, "the host sets it"),
            (r#"{"url":"https://a.com/","headers":{"Authorization":"b"}}"#, "no secrets"),
            (r#"{"url":"https://a.com/","headers":{"a b":"c"}}"#, "no name"),
            (r#"{"url":"https://a.com/","headers":{"a":"c\r\nd: e"}}"#, "printable"),
            (r#"{"url":"https://a.com/","headers":{"a":"1","A":"2"}}"#, "twice"),
            (r#"{"url":"https://a.com/","follow":true}"#, "unknown field"),
            (r#"{"url":"https://a.com/","breaker":{"probes":0}}"#, "breaker.probes"),
            (r#"{"url":"https://a.com/","breaker":{"failures":3}}"#, "unknown field"),
            (r#"{"url":"https://a.com/","concurrency":0}"#, "concurrency"),
        ] {
            let error = endpoint(json).expect_err(json).to_string();
            assert!(error.contains(reason), "{json}: {error}");
            assert!(!error.contains("pw"), "{error}");
        }
        assert!(endpoint(r#"{"url":"http://127.0.0.1:1/","allow_private":true}"#).is_ok());
        assert!(endpoint(r#"{"url":"https://a.com/","allow_hosts":["b.com:443","https://A.com"]}"#).is_ok());
    }

    #[test]
    fn its_written_form_comes_back() {
        let config = HttpConfig { allow_private: true, ..HttpConfig::new("https://a.com/") };
        let json = config.to_json().expect("JSON");
        assert_eq!(json.as_str(), r#"{"url":"https://a.com/","allow_private":true}"#);
        assert_eq!(HttpConfig::from_json(&json).expect("a configuration"), config);
    }
}
