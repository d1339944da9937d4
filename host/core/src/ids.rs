//! Names of things: namespaces, executions, runs, digests. Parsing here is the only validation they get.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::limits::{MAX_ID_BYTES, MAX_NAME_BYTES};

/// Why a name was refused. Fits "invalid {what}: {..}".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("{what} is empty; give it at least one character")]
    Empty { what: &'static str },
    #[error("{what} has {len} bytes; at most {max} are allowed")]
    TooLong { what: &'static str, len: usize, max: usize },
    #[error("{what} holds {found:?} at byte {at}; allowed are {allowed}")]
    Character { what: &'static str, at: usize, found: char, allowed: &'static str },
    #[error("{what} is not a {form}")]
    Form { what: &'static str, form: &'static str },
}

fn check(text: &str, what: &'static str, max: usize, name: bool) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty { what });
    }
    if text.len() > max {
        return Err(NameError::TooLong { what, len: text.len(), max });
    }
    let bad = |c: char| {
        if name { !(c.is_ascii_alphanumeric() || "-_.".contains(c)) } else { c.is_control() }
    };
    let allowed = if name { "letters, digits, '-', '_' and '.'" } else { "printable characters" };
    match text.char_indices().find(|(_, c)| bad(*c)) {
        Some((at, found)) => Err(NameError::Character { what, at, found, allowed }),
        None => Ok(()),
    }
}

/// Checks a name of a workflow, an activity or a task queue: letters, digits, `-`, `_`, `.`; at most 128 bytes.
pub fn check_name(text: &str, what: &'static str) -> Result<(), NameError> {
    check(text, what, MAX_NAME_BYTES, true)
}

/// Checks a caller's key or a channel: printable, at most 256 bytes.
pub fn check_id(text: &str, what: &'static str) -> Result<(), NameError> {
    check(text, what, MAX_ID_BYTES, false)
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and keeps the text.
            pub fn new(text: &str) -> Result<Self, NameError> {
                $check(text, $what)?;
                Ok(Self(text.into()))
            }

            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = String::deserialize(d)?;
                Self::new(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

text_id!(
    /// Everything lives in a namespace; `default` exists from the first day.
    Namespace, "namespace", check_name
);
text_id!(
    /// The caller's key of an execution; at most one open run each.
    WorkflowId, "workflow id", check_id
);

impl Default for Namespace {
    fn default() -> Self {
        Self("default".into())
    }
}

/// The host's key of a run (UUIDv7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub Uuid);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for RunId {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        Uuid::parse_str(text).map(Self).map_err(|_| NameError::Form { what: "run id", form: "UUID" })
    }
}

/// The store's short key of a run, given out by [`crate::ports::HistoryStore::allocate_run_key`]; never shown to users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunKey(pub u64);

/// SHA-256 of an uploaded component's bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// The first 12 hexadecimal digits, for people.
    #[must_use]
    pub fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let error = NameError::Form { what: "digest", form: "SHA-256 in 64 hexadecimal digits" };
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return Err(error);
        }
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| error.clone())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| error.clone())?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() { s.collect_str(self) } else { self.0.serialize(s) }
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        if d.is_human_readable() {
            String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
        } else {
            Ok(Self(<[u8; 32]>::deserialize(d)?))
        }
    }
}

/// The full name of a run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ExecutionKey {
    pub namespace: Namespace,
    pub workflow_id: WorkflowId,
    pub run_id: RunId,
}

impl ExecutionKey {
    /// The key under which effects of a step are made idempotent: the same for all its attempts.
    #[must_use]
    pub fn idempotency_key(&self, command_no: u64) -> String {
        format!("{}:{}:{}:{command_no}", self.namespace, self.workflow_id, self.run_id)
    }
}

impl fmt::Display for ExecutionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.namespace, self.workflow_id, self.run_id)
    }
}
