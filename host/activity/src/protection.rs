//! How a deployment protects what its activity calls: when the circuit breaker opens, and how many attempts run at once.
//!
//! Owns the written form (in `relive.toml` and in the catalog) and its bounds. Must not know: how attempts are held back.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::breaker::BreakerPolicy;

/// Attempts of one activity at once. The host's limit of its kind holds beside it, so a larger number says nothing.
pub const MAX_CONCURRENCY: usize = 10_000;
/// A window that reaches further back judges by what is past.
const MAX_WINDOW_MS: u64 = 3_600_000;
/// Shorter windows hold no calls to judge by.
const MIN_WINDOW_MS: u64 = 100;
/// Whoever waits longer than a day for a target has given it up.
const MAX_OPEN_MS: u64 = 86_400_000;
/// Calls that prove something: more do not come within a window.
const MAX_CALLS: u32 = 1_000_000;
/// Probes are for looking, not for working.
const MAX_PROBES: u32 = 100;

/// When the breaker of an activity opens and closes. What is left out is as the host has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakerSettings {
    /// How far back calls count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_ms: Option<u64>,
    /// Fewer calls than this in the window prove nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_calls: Option<u32>,
    /// The share of failed calls, in percent, at which it opens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_percent: Option<u32>,
    /// How long it stays open at first; twice as long after each probe that failed ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_ms: Option<u64>,
    /// ... and at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_open_ms: Option<u64>,
    /// Calls that are let through half-open, all of which must pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probes: Option<u32>,
}

/// What a deployment says of both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Protection {
    pub breaker: Option<BreakerSettings>,
    pub concurrency: Option<usize>,
}

/// A setting that is out of its bounds. Fits "failed to {..}".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtectionError {
    #[error("set {name} to {found}: it is a number from {least} to {most}")]
    Bounds { name: &'static str, found: u64, least: u64, most: u64 },
    #[error("set breaker.max_open_ms to {max}: it is no less than open_ms, which is {open}")]
    OpenLonger { open: u64, max: u64 },
}

impl BreakerSettings {
    pub fn check(&self) -> Result<(), ProtectionError> {
        let wide = |n: Option<u32>| n.map(u64::from);
        bounds("breaker.window_ms", self.window_ms, MIN_WINDOW_MS, MAX_WINDOW_MS)?;
        bounds("breaker.min_calls", wide(self.min_calls), 1, u64::from(MAX_CALLS))?;
        bounds("breaker.failure_percent", wide(self.failure_percent), 1, 100)?;
        bounds("breaker.open_ms", self.open_ms, 1, MAX_OPEN_MS)?;
        bounds("breaker.max_open_ms", self.max_open_ms, 1, MAX_OPEN_MS)?;
        bounds("breaker.probes", wide(self.probes), 1, u64::from(MAX_PROBES))?;
        match (self.open_ms, self.max_open_ms) {
            (Some(open), Some(max)) if max < open => Err(ProtectionError::OpenLonger { open, max }),
            _ => Ok(()),
        }
    }

    /// These settings, and `default` where nothing is said. The longest time is no less than the first, whichever of
    /// the two was said.
    #[must_use]
    pub fn over(&self, default: BreakerPolicy) -> BreakerPolicy {
        let time = |ms: Option<u64>, default| ms.map_or(default, Duration::from_millis);
        let (open, max_open) = match (self.open_ms, self.max_open_ms) {
            (None, Some(max)) => (default.open.min(Duration::from_millis(max)), Duration::from_millis(max)),
            (open, max) => {
                let open = time(open, default.open);
                (open, time(max, default.max_open.max(open)))
            }
        };
        BreakerPolicy {
            window: time(self.window_ms, default.window),
            min_calls: self.min_calls.unwrap_or(default.min_calls),
            fault_percent: self.failure_percent.unwrap_or(default.fault_percent),
            open,
            max_open,
            probes: self.probes.unwrap_or(default.probes),
        }
    }
}

impl Protection {
    pub fn check(&self) -> Result<(), ProtectionError> {
        self.breaker.as_ref().map_or(Ok(()), BreakerSettings::check)?;
        check_concurrency(self.concurrency)
    }

    #[must_use]
    pub fn policy(&self, default: BreakerPolicy) -> BreakerPolicy {
        self.breaker.map_or(default, |settings| settings.over(default))
    }
}

pub(crate) fn check_concurrency(concurrency: Option<usize>) -> Result<(), ProtectionError> {
    bounds("concurrency", concurrency.map(|n| n as u64), 1, MAX_CONCURRENCY as u64)
}

fn bounds(name: &'static str, found: Option<u64>, least: u64, most: u64) -> Result<(), ProtectionError> {
    match found {
        Some(found) if !(least..=most).contains(&found) => Err(ProtectionError::Bounds { name, found, least, most }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(json: &str) -> BreakerSettings {
        serde_json::from_str(json).expect(json)
    }

    #[test]
    fn what_is_left_out_is_the_hosts() {
        let default = BreakerPolicy::default();
        assert_eq!(settings("{}").over(default), default);
        let policy = settings(r#"{"min_calls":4,"open_ms":90000}"#).over(default);
        assert_eq!((policy.min_calls, policy.window), (4, default.window));
        assert_eq!((policy.open, policy.max_open), (Duration::from_secs(90), Duration::from_secs(90)));
        let policy = settings(r#"{"max_open_ms":500}"#).over(default);
        assert_eq!((policy.open, policy.max_open), (Duration::from_millis(500), Duration::from_millis(500)));
    }

    #[test]
    fn settings_have_bounds() {
        for (json, name) in [
            (r#"{"window_ms":99}"#, "window_ms"),
            (r#"{"min_calls":0}"#, "min_calls"),
            (r#"{"failure_percent":101}"#, "failure_percent"),
            (r#"{"open_ms":0}"#, "open_ms"),
            (r#"{"max_open_ms":86400001}"#, "max_open_ms"),
            (r#"{"probes":101}"#, "probes"),
            (r#"{"open_ms":2,"max_open_ms":1}"#, "no less than open_ms"),
        ] {
            let error = settings(json).check().expect_err(json).to_string();
            assert!(error.contains(name), "{json}: {error}");
        }
        for concurrency in [0, MAX_CONCURRENCY + 1] {
            assert!(Protection { breaker: None, concurrency: Some(concurrency) }.check().is_err());
        }
        assert_eq!(Protection::default().check(), Ok(()));
    }
}
