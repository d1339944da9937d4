//! The breaker's state machine: closed, open, half-open. Pure: `now` is an argument, any monotonic time from any zero.
//!
//! Closed, it counts calls and faults in a window of ten slices; open, it refuses until a time is over; half-open, it
//! lets a few probes through, and closes when all of them have passed, or opens again, for twice as long, at the first
//! that fails. An answer counts only for the state that its call was admitted in.

use std::time::Duration;

/// Slices of the window: what is counted reaches back between nine and ten tenths of it.
const SLICES: usize = 10;

/// When a breaker opens, and how it closes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// How far back calls count.
    pub window: Duration,
    /// Fewer calls than this in the window prove nothing.
    pub min_calls: u32,
    /// The share of faults, in percent, at which it opens.
    pub fault_percent: u32,
    /// How long it stays open for the first time; twice as long after each probe that failed.
    pub open: Duration,
    /// The longest that it stays open.
    pub max_open: Duration,
    /// Calls that are let through half-open, all of which must pass.
    pub probes: u32,
}

impl Default for BreakerPolicy {
    /// Half of at least 20 calls in 10 s: one execution's retries do not reach that, an outage under load does at
    /// once. Two seconds are short enough for a restart of the target; a minute bounds what a recovered one waits.
    fn default() -> Self {
        Self {
            window: Duration::from_secs(10),
            min_calls: 20,
            fault_percent: 50,
            open: Duration::from_secs(2),
            max_open: Duration::from_secs(60),
            probes: 3,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    Closed,
    Open,
    HalfOpen,
}

impl BreakerState {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }
}

/// How a call that was admitted ended, as far as its target's health is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The target answered, with whatever.
    Answered,
    /// The target failed: unreachable, too slow, broken.
    Fault,
    /// Nothing was learnt: the call was dropped or never sent.
    Nothing,
}

/// The right to make a call; given back with its outcome.
#[derive(Clone, Copy, Debug)]
pub struct Ticket {
    generation: u64,
}

/// A call that may not be made now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// When one may be tried; `None` while the probes are under way that decide it.
    pub until: Option<Duration>,
}

/// What people are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerView {
    pub state: BreakerState,
    /// Faults and calls in the window; half-open, those of the probes. Open, those that it opened for.
    pub faults: u32,
    pub calls: u32,
    /// Since when it is in this state.
    pub since: Duration,
    /// When it lets a probe through, if it is open.
    pub next_probe: Option<Duration>,
}

/// Calls and faults of one slice of the window.
#[derive(Clone, Copy, Debug, Default)]
struct Slice {
    /// Which slice of time it counts.
    number: u64,
    calls: u32,
    faults: u32,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Closed,
    Open { until: Duration, calls: u32, faults: u32 },
    HalfOpen { under_way: u32, passed: u32 },
}

/// One breaker.
#[derive(Clone, Debug)]
pub struct Machine {
    policy: BreakerPolicy,
    phase: Phase,
    slices: [Slice; SLICES],
    since: Duration,
    /// Counts changes of state, so that answers to calls of an earlier state are told apart.
    generation: u64,
    /// How often it opened since it was last closed.
    opened: u32,
}

impl Machine {
    #[must_use]
    pub fn new(policy: BreakerPolicy, now: Duration) -> Self {
        let slices = [Slice::default(); SLICES];
        Self { policy, phase: Phase::Closed, slices, since: now, generation: 0, opened: 0 }
    }

    /// Whether a call would be refused now.
    pub fn refuses(&self, now: Duration) -> Option<Refused> {
        match self.phase {
            Phase::Closed => None,
            Phase::Open { until, .. } => (now < until).then_some(Refused { until: Some(until) }),
            Phase::HalfOpen { under_way, passed } => {
                (under_way + passed >= self.policy.probes.max(1)).then_some(Refused { until: None })
            }
        }
    }

    /// Asks for a call. What is admitted must be settled.
    pub fn admit(&mut self, now: Duration) -> Result<Ticket, Refused> {
        if let Some(refused) = self.refuses(now) {
            return Err(refused);
        }
        if let Phase::Open { .. } = self.phase {
            self.enter(Phase::HalfOpen { under_way: 0, passed: 0 }, now);
        }
        if let Phase::HalfOpen { under_way, .. } = &mut self.phase {
            *under_way += 1;
        }
        Ok(Ticket { generation: self.generation })
    }

    /// Ends a call that was admitted.
    pub fn settle(&mut self, ticket: Ticket, outcome: Outcome, now: Duration) {
        if ticket.generation != self.generation {
            return;
        }
        match &mut self.phase {
            Phase::Closed => self.count(outcome, now),
            // No call is admitted into it.
            Phase::Open { .. } => {}
            Phase::HalfOpen { under_way, passed } => {
                *under_way = under_way.saturating_sub(1);
                match outcome {
                    Outcome::Nothing => {}
                    Outcome::Fault => {
                        let calls = *passed + 1;
                        self.open(calls, 1, now);
                    }
                    Outcome::Answered => {
                        *passed += 1;
                        if *passed >= self.policy.probes {
                            self.close(now);
                        }
                    }
                }
            }
        }
    }

    #[must_use]
    pub fn view(&self, now: Duration) -> BreakerView {
        let (state, calls, faults, next_probe) = match self.phase {
            Phase::Closed => {
                let (calls, faults) = self.counted(now);
                (BreakerState::Closed, calls, faults, None)
            }
            Phase::Open { until, calls, faults } => (BreakerState::Open, calls, faults, Some(until)),
            Phase::HalfOpen { under_way, passed } => (BreakerState::HalfOpen, under_way + passed, 0, None),
        };
        BreakerView { state, faults, calls, since: self.since, next_probe }
    }

    fn enter(&mut self, phase: Phase, now: Duration) {
        self.phase = phase;
        self.since = now;
        self.generation += 1;
    }

    fn close(&mut self, now: Duration) {
        self.slices = [Slice::default(); SLICES];
        self.opened = 0;
        self.enter(Phase::Closed, now);
    }

    fn open(&mut self, calls: u32, faults: u32, now: Duration) {
        let factor = 1_u32.checked_shl(self.opened).unwrap_or(u32::MAX);
        let period = self.policy.open.saturating_mul(factor).min(self.policy.max_open.max(self.policy.open));
        // Beyond the cap it need not grow.
        self.opened = (self.opened + 1).min(u32::BITS - 1);
        self.enter(Phase::Open { until: now.saturating_add(period), calls, faults }, now);
    }

    fn count(&mut self, outcome: Outcome, now: Duration) {
        if outcome == Outcome::Nothing {
            return;
        }
        let number = self.slice_at(now);
        let slice = &mut self.slices[index(number)];
        if slice.number != number {
            *slice = Slice { number, ..Slice::default() };
        }
        slice.calls = slice.calls.saturating_add(1);
        if outcome == Outcome::Fault {
            slice.faults = slice.faults.saturating_add(1);
            let (calls, faults) = self.counted(now);
            let share = u64::from(faults) * 100 >= u64::from(self.policy.fault_percent) * u64::from(calls);
            if calls >= self.policy.min_calls && share {
                self.open(calls, faults, now);
            }
        }
    }

    /// Calls and faults of the window that ends now.
    fn counted(&self, now: Duration) -> (u32, u32) {
        let newest = self.slice_at(now);
        let within = |slice: &&Slice| slice.number <= newest && newest - slice.number < SLICES as u64;
        let sum = |(calls, faults): (u32, u32), slice: &Slice| {
            (calls.saturating_add(slice.calls), faults.saturating_add(slice.faults))
        };
        self.slices.iter().filter(within).fold((0, 0), sum)
    }

    fn slice_at(&self, now: Duration) -> u64 {
        let slice = (self.policy.window.as_nanos() / SLICES as u128).max(1);
        u64::try_from(now.as_nanos() / slice).unwrap_or(u64::MAX)
    }
}

fn index(number: u64) -> usize {
    usize::try_from(number % SLICES as u64).unwrap_or(0)
}
