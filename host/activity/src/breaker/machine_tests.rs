//! The breaker's state machine: its promises under any sequence of calls, answers and pauses, on a test clock.

use std::time::Duration;

use proptest::prelude::*;

use super::machine::{BreakerPolicy, BreakerState, Machine, Outcome, Refused, Ticket};

const POLICY: BreakerPolicy = BreakerPolicy {
    window: Duration::from_millis(1_000),
    min_calls: 5,
    fault_percent: 50,
    open: Duration::from_millis(400),
    max_open: Duration::from_millis(3_000),
    probes: 2,
};

#[derive(Clone, Copy, Debug)]
enum Step {
    Admit,
    /// Settles the call under way of that index.
    Settle(usize, Outcome),
    Pass(Duration),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let outcome = prop_oneof![3 => Just(Outcome::Fault), 2 => Just(Outcome::Answered), 1 => Just(Outcome::Nothing)];
    let step = prop_oneof![
        4 => Just(Step::Admit),
        4 => (any::<usize>(), outcome).prop_map(|(at, outcome)| Step::Settle(at, outcome)),
        2 => (0..700_u64).prop_map(|ms| Step::Pass(Duration::from_millis(ms))),
    ];
    proptest::collection::vec(step, 0..300)
}

/// A breaker, its clock, the calls under way with the state that they were admitted in, and what was counted.
struct World {
    machine: Machine,
    now: Duration,
    under_way: Vec<(Ticket, Duration)>,
    answered: Vec<(Duration, bool)>,
}

impl World {
    fn new() -> Self {
        let machine = Machine::new(POLICY, Duration::ZERO);
        Self { machine, now: Duration::ZERO, under_way: Vec::new(), answered: Vec::new() }
    }

    fn state(&self) -> BreakerState {
        self.machine.view(self.now).state
    }

    fn since(&self) -> Duration {
        self.machine.view(self.now).since
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Pass(time) => self.now += time,
            Step::Admit => self.admit(),
            Step::Settle(at, outcome) if !self.under_way.is_empty() => {
                let call = self.under_way.swap_remove(at % self.under_way.len());
                self.settle(call, outcome);
            }
            Step::Settle(..) => {}
        }
    }

    fn admit(&mut self) {
        let before = self.machine.view(self.now);
        match self.machine.admit(self.now) {
            Ok(ticket) => {
                let after = self.machine.view(self.now);
                match before.state {
                    BreakerState::Closed => assert_eq!(after.state, BreakerState::Closed),
                    BreakerState::Open => {
                        assert!(
                            before.next_probe.is_some_and(|at| at <= self.now),
                            "let through too early: {before:?}"
                        );
                        assert_eq!(after.state, BreakerState::HalfOpen);
                    }
                    BreakerState::HalfOpen => assert!(before.calls < POLICY.probes, "too many probes: {before:?}"),
                }
                self.under_way.push((ticket, after.since));
            }
            Err(Refused { until }) => {
                assert_ne!(before.state, BreakerState::Closed, "closed refuses nobody");
                assert_eq!(until, before.next_probe);
                assert!(until.is_none_or(|until| until > self.now), "refused although it is time");
                assert_eq!(self.machine.view(self.now), before, "a refusal changes nothing");
            }
        }
    }

    fn settle(&mut self, (ticket, admitted): (Ticket, Duration), outcome: Outcome) {
        let before = self.machine.view(self.now);
        self.machine.settle(ticket, outcome, self.now);
        let after = self.machine.view(self.now);
        if outcome != Outcome::Nothing && before.state == BreakerState::Closed && admitted == before.since {
            self.answered.push((self.now, outcome == Outcome::Fault));
        }
        if after.state == before.state {
            return;
        }
        match (before.state, after.state) {
            (BreakerState::Closed, BreakerState::Open) => {
                // What opened it is what the window held: never more than its whole length back.
                let recent = self.answered.iter().filter(|(at, _)| *at + POLICY.window > self.now);
                let (calls, faults) = recent.fold((0, 0), |(c, f), (_, fault)| (c + 1, f + u32::from(*fault)));
                assert!(after.calls >= POLICY.min_calls && after.calls <= calls, "{after:?} of {calls}");
                assert!(
                    after.faults <= faults && 100 * after.faults >= POLICY.fault_percent * after.calls,
                    "{after:?}"
                );
                assert_eq!((outcome, after.next_probe), (Outcome::Fault, Some(self.now + POLICY.open)));
            }
            (BreakerState::HalfOpen, BreakerState::Open) => {
                assert_eq!(outcome, Outcome::Fault);
                let period = after.next_probe.expect("open") - self.now;
                assert!(period > POLICY.open && period <= POLICY.max_open, "{period:?}");
            }
            (BreakerState::HalfOpen, BreakerState::Closed) => {
                assert_eq!((outcome, after.calls), (Outcome::Answered, 0));
            }
            (from, to) => panic!("{from:?} became {to:?}"),
        }
        self.answered.clear();
    }
}

proptest! {
    #[test]
    fn it_keeps_its_promises_whatever_comes(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
        }
        // Whatever happened, a target that is well again is asked again, after a bounded time.
        while let Some(call) = world.under_way.pop() {
            world.settle(call, Outcome::Nothing);
        }
        world.now += POLICY.max_open;
        for _ in 0..POLICY.probes {
            let ticket = world.machine.admit(world.now).expect("a probe");
            let since = world.since();
            world.settle((ticket, since), Outcome::Answered);
        }
        prop_assert_eq!(world.state(), BreakerState::Closed);
    }

    #[test]
    fn answers_alone_never_open_it(gaps in proptest::collection::vec(0..300_u64, 0..200)) {
        let mut world = World::new();
        for gap in gaps {
            world.now += Duration::from_millis(gap);
            let ticket = world.machine.admit(world.now).expect("closed");
            world.machine.settle(ticket, Outcome::Answered, world.now);
            prop_assert_eq!(world.state(), BreakerState::Closed);
        }
    }

    #[test]
    fn an_outage_opens_it_as_soon_as_it_is_proven(good in 0..50_u32) {
        let mut world = World::new();
        let mut fault = |outcome| {
            let ticket = world.machine.admit(world.now).expect("closed");
            world.machine.settle(ticket, outcome, world.now);
            world.state()
        };
        for _ in 0..good {
            fault(Outcome::Answered);
        }
        let needed = good.max(POLICY.min_calls.saturating_sub(good)).max(1);
        for n in 1..=needed {
            let state = fault(Outcome::Fault);
            let expected = if n == needed { BreakerState::Open } else { BreakerState::Closed };
            prop_assert_eq!(state, expected, "fault {} of {}", n, needed);
        }
    }
}

#[test]
fn faults_out_of_the_window_do_not_count() {
    let mut world = World::new();
    for _ in 0..POLICY.min_calls - 1 {
        let ticket = world.machine.admit(world.now).expect("closed");
        world.machine.settle(ticket, Outcome::Fault, world.now);
    }
    world.now += POLICY.window;
    let ticket = world.machine.admit(world.now).expect("closed");
    world.machine.settle(ticket, Outcome::Fault, world.now);
    let view = world.machine.view(world.now);
    assert_eq!((view.state, view.calls, view.faults), (BreakerState::Closed, 1, 1));
}

#[test]
fn late_answers_of_an_earlier_state_are_not_heard() {
    let mut machine = Machine::new(POLICY, Duration::ZERO);
    let now = Duration::ZERO;
    let tickets: Vec<_> = (0..20).map(|_| machine.admit(now).expect("closed")).collect();
    for ticket in &tickets[..5] {
        machine.settle(*ticket, Outcome::Fault, now);
    }
    let open = machine.view(now);
    assert_eq!((open.state, open.calls, open.next_probe), (BreakerState::Open, 5, Some(POLICY.open)));
    for ticket in &tickets[5..10] {
        machine.settle(*ticket, Outcome::Fault, now);
    }
    assert_eq!(machine.view(now), open);
    let probe = machine.admit(POLICY.open).expect("a probe");
    for ticket in &tickets[10..] {
        machine.settle(*ticket, Outcome::Answered, POLICY.open);
    }
    assert_eq!(machine.view(POLICY.open).calls, 1);
    machine.settle(probe, Outcome::Fault, POLICY.open);
    // Twice as long now, and four times after that.
    let again = machine.view(POLICY.open).next_probe.expect("open");
    assert_eq!(again, 3 * POLICY.open);
    let probe = machine.admit(again).expect("a probe");
    machine.settle(probe, Outcome::Fault, again);
    assert_eq!(machine.view(again).next_probe, Some(7 * POLICY.open));
}
