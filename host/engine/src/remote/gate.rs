//! The gate of a task queue with limits: whether one more attempt may go out now, and if not, when to ask again. Pure:
//! time and the count of claims are arguments, and whoever hands attempts out keeps the permits.

use std::fmt;

use relive_core::{
    Timestamp,
    ports::{QueueLimits, RateLimit},
};
use serde::{Deserialize, Serialize};

/// Readings of the clock that go back by less are of threads that overtook each other; by more, the clock was set.
const SET_BACK_NANOS: u64 = 1_000_000_000;

/// What keeps a backlog from workers that ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HeldBack {
    /// Workers have as many attempts as they may.
    Concurrency,
    Rate,
    /// The host has yet to find the claims of before its start.
    Recovery,
}

impl fmt::Display for HeldBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Concurrency => "concurrency",
            Self::Rate => "rate",
            Self::Recovery => "recovery",
        })
    }
}

/// Why nothing goes out now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shut {
    /// Workers have as many attempts as they may.
    Full,
    /// The next token comes then.
    Rate(Timestamp),
    /// The host has yet to find out how many attempts workers have.
    Recovering,
}

impl Shut {
    pub fn by(self) -> HeldBack {
        match self {
            Self::Full => HeldBack::Concurrency,
            Self::Rate(_) => HeldBack::Rate,
            Self::Recovering => HeldBack::Recovery,
        }
    }
}

/// Attempts that workers have of the queue; none: not known yet.
pub(crate) type Claims = Option<u64>;

pub(crate) struct Gate {
    limits: QueueLimits,
    bucket: Option<Bucket>,
    /// Permits that are out for attempts on their way to a claim.
    handed: u64,
}

impl Gate {
    /// A gate whose burst is full.
    pub fn new(limits: QueueLimits) -> Self {
        Self { limits, bucket: limits.rate.map(Bucket::new), handed: 0 }
    }

    pub fn limits(&self) -> QueueLimits {
        self.limits
    }

    /// Whether it holds nothing back and nobody has a permit of it.
    pub fn is_idle(&self) -> bool {
        self.limits.is_none() && self.handed == 0
    }

    /// Other limits. What is out stays out, and tokens that were spent are spent.
    pub fn change(&mut self, limits: QueueLimits, now: Timestamp) {
        if limits.rate != self.limits.rate {
            let spent = self.bucket.as_mut().map_or(0, |bucket| bucket.spent(now));
            self.bucket = limits.rate.map(|rate| Bucket::with_spent(rate, spent, now));
        }
        self.limits = limits;
    }

    /// Whether anything could go out; spends nothing.
    pub fn shut(&self, claims: Claims, now: Timestamp) -> Option<Shut> {
        match (self.limits.concurrency, claims) {
            (Some(_), None) => return Some(Shut::Recovering),
            (Some(most), Some(claims)) if claims + self.handed >= u64::from(most) => return Some(Shut::Full),
            _ => {}
        }
        let bucket = self.bucket.as_ref()?;
        bucket.empty_until(now).map(Shut::Rate)
    }

    /// Lets one attempt out: a permit, which is to be given back, and a token, which is spent.
    pub fn admit(&mut self, claims: Claims, now: Timestamp) -> Result<(), Shut> {
        self.bucket.iter_mut().for_each(|bucket| bucket.see(now));
        if let Some(shut) = self.shut(claims, now) {
            return Err(shut);
        }
        self.bucket.iter_mut().for_each(|bucket| bucket.spend(now));
        self.handed += 1;
        Ok(())
    }

    /// A permit comes back: the attempt is claimed, and counted as such from now on, or nobody got it.
    pub fn give_back(&mut self) {
        self.handed = self.handed.saturating_sub(1);
    }
}

/// A token bucket as the generic cell rate algorithm has it (ITU-T I.371, virtual scheduling): one instant instead of a
/// count, so no error adds up.
struct Bucket {
    /// ns from one token to the next, rounded up: never faster than it should be.
    interval: u64,
    burst: u64,
    /// When the burst is whole again.
    full_at: u64,
    /// The latest time that was seen.
    seen: u64,
}

impl Bucket {
    fn new(rate: RateLimit) -> Self {
        let interval = (1e9 / rate.per_second).ceil() as u64;
        Self { interval: interval.max(1), burst: u64::from(rate.burst.max(1)), full_at: 0, seen: 0 }
    }

    fn with_spent(rate: RateLimit, spent: u64, now: Timestamp) -> Self {
        let mut bucket = Self::new(rate);
        bucket.seen = now.0;
        bucket.full_at = now.0.saturating_add(bucket.interval.saturating_mul(spent.min(bucket.burst)));
        bucket
    }

    /// The bucket's time: it does not go back, but for a clock that was set back.
    fn see(&mut self, now: Timestamp) {
        if now.0.saturating_add(SET_BACK_NANOS) < self.seen {
            self.full_at = self.full_at.saturating_sub(self.seen - now.0);
            self.seen = now.0;
        }
        self.seen = self.seen.max(now.0);
    }

    /// Tokens that are missing.
    fn spent(&mut self, now: Timestamp) -> u64 {
        self.see(now);
        self.full_at.saturating_sub(self.seen).div_ceil(self.interval)
    }

    fn empty_until(&self, now: Timestamp) -> Option<Timestamp> {
        let next = self.full_at.saturating_sub((self.burst - 1).saturating_mul(self.interval));
        (next > now.0.max(self.seen)).then_some(Timestamp(next))
    }

    fn spend(&mut self, now: Timestamp) {
        self.full_at = self.full_at.max(now.0.max(self.seen)).saturating_add(self.interval);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn rate(per_second: f64, burst: u32) -> QueueLimits {
        QueueLimits { rate: Some(RateLimit { per_second, burst }), concurrency: None }
    }

    fn at(seconds: f64) -> Timestamp {
        Timestamp((1e18 + seconds * 1e9) as u64)
    }

    /// Attempts that go out at one instant.
    fn burst(gate: &mut Gate, now: Timestamp) -> usize {
        std::iter::repeat_with(|| gate.admit(Some(0), now)).take(100).take_while(Result::is_ok).count()
    }

    #[test]
    fn a_burst_goes_out_at_once_and_the_rest_by_rate() {
        let mut gate = Gate::new(rate(2.0, 3));
        assert_eq!(burst(&mut gate, at(0.0)), 3);
        assert_eq!(gate.admit(Some(0), at(0.0)), Err(Shut::Rate(at(0.5))));
        assert_eq!(gate.admit(Some(0), at(0.5)), Ok(()));
        assert_eq!(gate.shut(Some(0), at(0.5)), Some(Shut::Rate(at(1.0))));
        assert_eq!(burst(&mut gate, at(60.0)), 3, "no more than the burst is saved");
    }

    #[test]
    fn other_limits_forget_nothing() {
        let mut gate = Gate::new(rate(1.0, 4));
        assert_eq!(burst(&mut gate, at(0.0)), 4);
        gate.change(rate(1.0, 4), at(0.0));
        assert_eq!(burst(&mut gate, at(0.0)), 0, "the same again is no other");
        gate.change(rate(2.0, 6), at(0.0));
        assert_eq!(burst(&mut gate, at(0.0)), 2, "four of six are spent");
        gate.change(QueueLimits { concurrency: Some(7), ..QueueLimits::default() }, at(0.0));
        assert_eq!(burst(&mut gate, at(0.0)), 1, "six are out");
        gate.change(QueueLimits::default(), at(0.0));
        assert!(gate.admit(None, at(0.0)).is_ok() && !gate.is_idle());
        (0..8).for_each(|_| gate.give_back());
        assert!(gate.is_idle());
    }

    #[test]
    fn what_is_claimed_counts_and_nothing_goes_out_before_it_is_known() {
        let mut gate = Gate::new(QueueLimits { concurrency: Some(2), ..QueueLimits::default() });
        assert_eq!(gate.admit(None, at(0.0)), Err(Shut::Recovering));
        assert_eq!(gate.admit(Some(5), at(0.0)), Err(Shut::Full));
        assert_eq!(gate.admit(Some(1), at(0.0)), Ok(()));
        assert_eq!(gate.admit(Some(1), at(0.0)), Err(Shut::Full));
        gate.give_back();
        assert_eq!(gate.admit(Some(2), at(0.0)), Err(Shut::Full), "it was claimed");
    }

    #[test]
    fn a_clock_that_is_set_back_stops_nothing() {
        let mut gate = Gate::new(rate(1.0, 1));
        assert!(gate.admit(Some(0), at(3_600.0)).is_ok());
        assert_eq!(gate.admit(Some(0), at(0.0)), Err(Shut::Rate(at(1.0))));
        assert!(gate.admit(Some(0), at(1.0)).is_ok());
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// Some polls come at once.
        Polls(u8),
        Pass(u64),
        /// The clock seems to go back: a thread that was overtaken.
        Overtaken(u64),
        /// The attempt that went out longest ago is claimed, or its claim is refused.
        Claimed,
        Refused,
        /// A claim ends: completed, failed, timed out, worker lost, run closed.
        Ended,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (1u8..8).prop_map(Step::Polls),
            3 => (0..3 * SECOND).prop_map(Step::Pass),
            1 => (0..SECOND / 2).prop_map(Step::Overtaken),
            2 => Just(Step::Claimed),
            1 => Just(Step::Refused),
            2 => Just(Step::Ended),
        ];
        prop::collection::vec(step, 1..120)
    }

    proptest! {
        /// Never more than `burst + rate * t` in any window, never more than `concurrency` at once; and whoever waits
        /// until the gate says, or until a permit is back, gets out.
        #[test]
        fn limits_hold_and_permits_come_back(
            per_second in 0.2f64..50.0, tokens in 1u32..6, most in 1u32..6, steps in steps(),
        ) {
            let limits = QueueLimits { rate: Some(RateLimit { per_second, burst: tokens }), concurrency: Some(most) };
            let (mut gate, mut now) = (Gate::new(limits), SECOND * 1_000);
            let (mut handed, mut claims, mut out, mut seen) = (0u64, 0u64, Vec::new(), 0);
            for step in steps {
                match step {
                    Step::Polls(count) => for _ in 0..count {
                        seen = seen.max(now);
                        match gate.admit(Some(claims), Timestamp(now)) {
                            Ok(()) => { handed += 1; out.push(seen); }
                            Err(Shut::Full) => prop_assert_eq!(handed + claims, u64::from(most)),
                            Err(Shut::Rate(then)) => {
                                prop_assert!(then.0 > now && handed + claims < u64::from(most));
                                // It says when, and not later than needed.
                                prop_assert_eq!(gate.shut(Some(claims), then), None);
                                prop_assert!(gate.shut(Some(claims), Timestamp(then.0 - 1)).is_some());
                            }
                            Err(Shut::Recovering) => prop_assert!(false),
                        }
                    },
                    Step::Pass(nanos) => now += nanos,
                    Step::Overtaken(nanos) => {
                        seen = seen.max(now - nanos);
                        if gate.admit(Some(claims), Timestamp(now - nanos)).is_ok() {
                            handed += 1;
                            out.push(seen);
                        }
                    }
                    Step::Claimed if handed > 0 => { handed -= 1; claims += 1; gate.give_back(); }
                    Step::Refused if handed > 0 => { handed -= 1; gate.give_back(); }
                    Step::Ended if claims > 0 => claims -= 1,
                    _ => {}
                }
                prop_assert!(handed + claims <= u64::from(most));
            }
            for (first, begin) in out.iter().enumerate() {
                for (last, end) in out.iter().enumerate().skip(first) {
                    let most = f64::from(tokens) + per_second * ((end - begin) as f64 / 1e9);
                    prop_assert!((last - first + 1) as f64 <= most + 1e-6);
                }
            }
            // All permits come back, time passes: as many go out as may.
            (0..handed).for_each(|_| gate.give_back());
            let later = Timestamp(now + 3_600 * SECOND);
            prop_assert_eq!(burst(&mut gate, later), tokens.min(most) as usize);
        }
    }
}
