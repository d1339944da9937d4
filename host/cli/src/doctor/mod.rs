//! Checks of what a host stands on. Each looks at one thing, changes nothing, and says what to do.

mod data_dir;
mod machine;
mod server;

use std::path::Path;

use serde::Serialize;

use crate::client::Client;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Ok,
    /// Works, but worse than it could.
    Warn,
    /// A host does not work like this.
    Fail,
}

impl Verdict {
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// What was found, and what to do if it is not good.
#[derive(Debug, Serialize)]
pub struct Check {
    pub name: &'static str,
    pub verdict: Verdict,
    pub found: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub advice: String,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Ok, found: found.into(), advice: String::new() }
    }

    fn warn(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Warn, found: found.into(), advice: advice.into() }
    }

    fn fail(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Fail, found: found.into(), advice: advice.into() }
    }
}

/// All checks, in the order in which they are shown.
pub fn all(data: &Path, client: &Client) -> Vec<Check> {
    vec![
        server::reachable(client),
        data_dir::writable(data),
        data_dir::free_space(data),
        data_dir::sync_latency(data),
        machine::memory_maps(),
        machine::open_files(),
        machine::clock(),
    ]
}
