//! Retry arithmetic: whether another attempt follows a failed one, and when. Pure; the random draw is an argument.

use serde::{Deserialize, Serialize};

use crate::{failure::Failure, time::Timestamp};

const SECOND: u64 = 1_000_000_000;

/// How attempts follow each other; durations in nanoseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RetryPolicy {
    pub initial_interval: u64,
    /// Each interval is the last one times this; at least 1.
    pub backoff: f64,
    pub maximum_interval: u64,
    /// The first attempt included; 0 means no maximum.
    pub maximum_attempts: u32,
    /// Share of the interval, 0 to 1, that is drawn at random and taken off.
    pub jitter: f64,
    pub non_retryable_codes: Vec<String>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            initial_interval: SECOND,
            backoff: 2.0,
            maximum_interval: 100 * SECOND,
            maximum_attempts: 0,
            jitter: 0.1,
            non_retryable_codes: Vec::new(),
        }
    }
}

/// What follows a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another attempt, not before this time.
    Retry { at: Timestamp },
    /// No more: the failure itself is final.
    Final,
    /// No more: the schedule-to-close deadline would pass before another attempt could start.
    DeadlineExceeded,
}

impl RetryPolicy {
    /// Says which field is out of its range.
    pub fn check(&self) -> Result<(), String> {
        if !(self.backoff.is_finite() && self.backoff >= 1.0) {
            return Err(format!("retry.backoff is {}; it must be a number of at least 1", self.backoff));
        }
        if !(self.jitter.is_finite() && (0.0..=1.0).contains(&self.jitter)) {
            return Err(format!("retry.jitter is {}; it must lie between 0 and 1", self.jitter));
        }
        Ok(())
    }

    /// The interval after attempt `attempt` (from 1), without jitter: `initial * backoff^(attempt-1)`, at most
    /// `maximum_interval` (or the initial one where that is larger).
    #[must_use]
    pub fn interval(&self, attempt: u32) -> u64 {
        let cap = self.maximum_interval.max(self.initial_interval);
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let exact = self.initial_interval as f64 * self.backoff.powi(exponent);
        if exact.is_finite() && exact < cap as f64 { exact as u64 } else { cap }
    }

    /// Decides what follows the failure of attempt `attempt` (from 1) that ended at `now`. `draw` is uniform in [0, 1).
    #[must_use]
    pub fn next(
        &self,
        attempt: u32,
        failure: &Failure,
        now: Timestamp,
        deadline: Option<Timestamp>,
        draw: f64,
    ) -> Next {
        let exhausted = self.maximum_attempts != 0 && attempt >= self.maximum_attempts;
        if exhausted || !failure.retryable || self.non_retryable_codes.contains(&failure.code) {
            return Next::Final;
        }
        let interval = self.interval(attempt);
        let taken_off = (interval as f64 * self.jitter.clamp(0.0, 1.0) * draw.clamp(0.0, 1.0)) as u64;
        let at = now.plus(interval.saturating_sub(taken_off));
        match deadline {
            Some(deadline) if at >= deadline => Next::DeadlineExceeded,
            _ => Next::Retry { at },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::FailureKind;
    use proptest::prelude::*;

    fn failure() -> Failure {
        Failure::new(FailureKind::Application, "boom", "it broke")
    }

    #[test]
    fn intervals_grow_to_the_cap() {
        let policy = RetryPolicy::default();
        let secs: Vec<u64> = (1..=9).map(|n| policy.interval(n) / SECOND).collect();
        assert_eq!(secs, [1, 2, 4, 8, 16, 32, 64, 100, 100]);
        assert_eq!(policy.interval(u32::MAX), 100 * SECOND);
    }

    #[test]
    fn final_failures_stop() {
        let policy = RetryPolicy { maximum_attempts: 2, non_retryable_codes: vec!["no".into()], ..Default::default() };
        let now = Timestamp(5);
        assert!(matches!(policy.next(1, &failure(), now, None, 0.0), Next::Retry { .. }));
        assert_eq!(policy.next(2, &failure(), now, None, 0.0), Next::Final);
        assert_eq!(policy.next(1, &failure().permanent(), now, None, 0.0), Next::Final);
        let listed = Failure { code: "no".into(), ..failure() };
        assert_eq!(policy.next(1, &listed, now, None, 0.0), Next::Final);
        assert_eq!(policy.next(1, &failure(), now, Some(Timestamp(6)), 0.0), Next::DeadlineExceeded);
    }

    proptest! {
        #[test]
        fn a_retry_lies_between_now_and_the_cap(attempt in 1u32.., draw in 0.0f64..1.0, jitter in 0.0f64..=1.0,
                                                 initial in 0u64..1 << 50, max in 0u64..1 << 50, backoff in 1.0f64..10.0) {
            let policy = RetryPolicy { jitter, initial_interval: initial, maximum_interval: max, backoff, ..Default::default() };
            let Next::Retry { at } = policy.next(attempt, &failure(), Timestamp(7), None, draw) else { panic!("no retry") };
            prop_assert!(at >= Timestamp(7));
            prop_assert!(at.0 - 7 <= max.max(initial));
        }

        #[test]
        fn intervals_never_shrink(attempt in 1u32..1000, initial in 1u64..1 << 40, backoff in 1.0f64..4.0) {
            let policy = RetryPolicy { initial_interval: initial, backoff, ..Default::default() };
            prop_assert!(policy.interval(attempt + 1) >= policy.interval(attempt));
        }
    }
}
