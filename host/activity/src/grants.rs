//! Grants: what an activity's deployment allows it, nothing by default.
//!
//! Owns their written form (in `relive.toml` and in the catalog) and the checks that need no file system. Must not
//! know: how WASI enforces them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use relive_core::json::{Json, JsonError};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::protection::{BreakerSettings, Protection, ProtectionError};

/// Directories of one activity: each is an open file descriptor for as long as it is loaded.
pub const MAX_DIRECTORIES: usize = 16;
/// Hosts of one activity; looked through for each request.
pub const MAX_HOSTS: usize = 64;
/// Environment variables of one activity.
pub const MAX_ENV: usize = 128;
/// Bytes of the environment: it is copied into every instance.
pub const MAX_ENV_BYTES: usize = 32 << 10;
/// A guest's path or a host's name: longer ones exist nowhere.
const MAX_TEXT_BYTES: usize = 255;

/// What an activity may reach.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Grants {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub directories: Vec<DirGrant>,
    /// Where it may send HTTP requests.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub http: Vec<HostPattern>,
    /// All that it sees of an environment.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// When the activity's circuit breaker opens. It stands here in the catalog; in a manifest, beside the grants.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<BreakerSettings>,
    /// Attempts at once; the same holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<usize>,
}

/// A directory of the host, under a name of the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirGrant {
    pub host: PathBuf,
    pub guest: String,
    #[serde(default)]
    pub access: Access,
}

/// What may be done in a granted directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    #[default]
    ReadOnly,
    ReadWrite,
}

/// Why grants are refused. Fits "failed to {..}".
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    #[error("grant {what}: {found}, at most {limit} are allowed")]
    TooMany { what: &'static str, found: usize, limit: usize },
    #[error("grant a directory as `{guest}`: {reason}")]
    GuestPath { guest: String, reason: &'static str },
    #[error("grant the variable `{name}`: {reason}")]
    Variable { name: String, reason: &'static str },
    #[error("grant HTTP to `{text}`: {reason}")]
    Host { text: String, reason: &'static str },
    #[error("open the granted directory {}: {source}; make it, or correct the grant and deploy again", path.display())]
    Directory { path: PathBuf, source: std::io::Error },
    #[error("read the grants: {0}")]
    Form(String),
    #[error(transparent)]
    Protection(#[from] ProtectionError),
}

impl Grants {
    /// As the catalog keeps them. An error means a path that is not UTF-8.
    pub fn to_json(&self) -> Result<Json, JsonError> {
        Json::of(self)
    }

    /// From the catalog, checked.
    pub fn from_json(json: &Json) -> Result<Self, GrantError> {
        let grants: Self = serde_json::from_str(json.as_str()).map_err(|e| GrantError::Form(e.to_string()))?;
        grants.check()?;
        Ok(grants)
    }

    /// What they say of the breaker and of concurrency.
    #[must_use]
    pub fn protection(&self) -> Protection {
        Protection { breaker: self.breaker, concurrency: self.concurrency }
    }

    /// Whether the grants are within their limits and consistent.
    pub fn check(&self) -> Result<(), GrantError> {
        self.protection().check()?;
        let bytes = self.env.iter().map(|(name, value)| name.len() + value.len()).sum();
        for (what, found, limit) in [
            ("directories", self.directories.len(), MAX_DIRECTORIES),
            ("HTTP hosts", self.http.len(), MAX_HOSTS),
            ("environment variables", self.env.len(), MAX_ENV),
            ("bytes of environment", bytes, MAX_ENV_BYTES),
        ] {
            if found > limit {
                return Err(GrantError::TooMany { what, found, limit });
            }
        }
        let mut guests = BTreeSet::new();
        for DirGrant { guest, .. } in &self.directories {
            let refuse = |reason| Err(GrantError::GuestPath { guest: guest.clone(), reason });
            if guest.is_empty() || guest.len() > MAX_TEXT_BYTES || guest.contains('\0') {
                return refuse("a guest's path has 1 to 255 bytes, none of them zero");
            }
            if !guests.insert(guest.as_str()) {
                return refuse("the guest's path is granted twice");
            }
        }
        for (name, value) in &self.env {
            let refuse = |reason| Err(GrantError::Variable { name: name.clone(), reason });
            if name.is_empty() || name.contains(['=', '\0']) {
                return refuse("a variable's name is not empty and holds neither '=' nor a zero byte");
            }
            if value.contains('\0') {
                return refuse("a variable's value holds no zero byte");
            }
        }
        Ok(())
    }
}

/// Without the values of variables: they may be secrets.
impl fmt::Debug for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let env: Vec<&String> = self.env.keys().collect();
        f.debug_struct("Grants")
            .field("directories", &self.directories)
            .field("http", &self.http)
            .field("env", &env)
            .field("breaker", &self.breaker)
            .field("concurrency", &self.concurrency)
            .finish()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port of an authority that names none.
    #[must_use]
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// A host that may be asked: `host:port` (by either scheme), `https://host`, `http://host:port`. Compared exactly,
/// without regard to case: no wildcards, no addresses for names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPattern {
    scheme: Option<Scheme>,
    /// Lower case; an IPv6 address stands in brackets.
    host: String,
    port: u16,
}

impl HostPattern {
    /// Whether a request to the host may be sent.
    #[must_use]
    pub fn admits(&self, scheme: Scheme, host: &str, port: u16) -> bool {
        self.scheme.is_none_or(|s| s == scheme) && self.port == port && self.host.eq_ignore_ascii_case(host)
    }
}

impl FromStr for HostPattern {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Self, GrantError> {
        let refuse = |reason| Err(GrantError::Host { text: text.chars().take(MAX_TEXT_BYTES).collect(), reason });
        let (scheme, authority) = match text.split_once("://") {
            Some(("http", rest)) => (Some(Scheme::Http), rest),
            Some(("https", rest)) => (Some(Scheme::Https), rest),
            Some(_) => return refuse("the scheme is http or https"),
            None => (None, text),
        };
        // A colon inside of brackets belongs to an IPv6 address.
        let after_brackets = authority.rfind(']').map_or(0, |i| i + 1);
        let (host, port) = match authority[after_brackets..].rfind(':').map(|i| i + after_brackets) {
            Some(at) => (&authority[..at], Some(&authority[at + 1..])),
            None => (authority, None),
        };
        let port = match (port, scheme) {
            (Some(port), _) => match port.parse() {
                Ok(port) if port != 0 => port,
                _ => return refuse("the port is a number from 1 to 65535"),
            },
            (None, Some(scheme)) => scheme.default_port(),
            (None, None) => return refuse("name the port, as in `api.example.com:443`"),
        };
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let known = match bare {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')),
        };
        if host.is_empty() || host.len() > MAX_TEXT_BYTES || !known {
            return refuse("a host is a name or an address, without path, user or wildcard");
        }
        Ok(Self { scheme, host: host.to_ascii_lowercase(), port })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(scheme) = self.scheme {
            write!(f, "{}://", scheme.as_str())?;
        }
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Serialize for HostPattern {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HostPattern {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}
