//! What operators hold a task queue to: how fast its attempts go out, and how many workers have at once.

use std::sync::Arc;

use crate::ids::Namespace;

/// Attempts per second: slower than one in three hours is a pause, not a rate, and no host hands out more than a million.
pub const RATES: std::ops::RangeInclusive<f64> = 0.0001..=1_000_000.0;
/// The largest burst, and the most attempts at once: more than any host has workers for.
pub const MAX_AT_ONCE: u32 = 1_000_000;

/// At most `burst + per_second * t` attempts in any `t` seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateLimit {
    pub per_second: f64,
    /// From 1.
    pub burst: u32,
}

/// The limits of a task queue; none: it has none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct QueueLimits {
    /// How fast attempts are handed to workers.
    pub rate: Option<RateLimit>,
    /// How many attempts workers have at once, all workers together.
    pub concurrency: Option<u32>,
}

impl QueueLimits {
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.rate.is_none() && self.concurrency.is_none()
    }

    /// Says which of them is out of its range.
    pub fn check(&self) -> Result<(), String> {
        let at_once = 1..=MAX_AT_ONCE;
        match (self.rate, self.concurrency) {
            (Some(rate), _) if !RATES.contains(&rate.per_second) => {
                Err(format!("rate is {}; it must lie between {} and {}", rate.per_second, RATES.start(), RATES.end()))
            }
            (Some(rate), _) if !at_once.contains(&rate.burst) => {
                Err(format!("burst is {}; it must lie between 1 and {MAX_AT_ONCE}", rate.burst))
            }
            (_, Some(most)) if !at_once.contains(&most) => {
                Err(format!("concurrency is {most}; it must lie between 1 and {MAX_AT_ONCE}"))
            }
            _ => Ok(()),
        }
    }
}

/// A task queue with its limits.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueRow {
    pub namespace: Namespace,
    pub name: Arc<str>,
    pub limits: QueueLimits,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_have_ranges() {
        let limits = |per_second, burst, concurrency| QueueLimits {
            rate: Some(RateLimit { per_second, burst }),
            concurrency: Some(concurrency),
        };
        limits(0.5, 1, 1).check().expect("good");
        assert!(QueueLimits::default().is_none() && QueueLimits::default().check().is_ok());
        for (bad, named) in [
            (limits(0.0, 1, 1), "rate"),
            (limits(f64::NAN, 1, 1), "rate"),
            (limits(f64::INFINITY, 1, 1), "rate"),
            (limits(1.0, 0, 1), "burst"),
            (limits(1.0, 1, 0), "concurrency"),
        ] {
            assert!(bad.check().expect_err("out of range").starts_with(named), "{bad:?}");
        }
    }
}
