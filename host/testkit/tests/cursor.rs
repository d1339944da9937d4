//! Property tests of the replay cursor: random programs of the guest API, random inbound orders, commits with and
//! without their turns. A live run and the replay of every prefix agree (I5), and so do their memories (I13).

mod common;

use proptest::prelude::*;
use relive_core::{
    event::Attributes,
    guest::Guest,
    history::validate,
    life::{Record, TurnError},
};
use relive_testkit::model::Op;

use common::{World, commands, fresh, program};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_relived_guest_equals_the_live_one(program in program(), choices in prop::collection::vec((any::<u8>(), any::<bool>()), 0..40)) {
        let mut world = World::begin(&program);
        for (choice, apply) in choices {
            if world.live.outcome().is_some() { break; }
            world.happen(choice);
            if apply {
                world.catch_up().expect("a live turn never diverges");
            }
        }
        let record = Record::Complete { applied_through: world.applied_through, commands: world.issued() };
        let mut relived = fresh(&program);
        relived.relive(&world.events, record, u64::MAX).expect("replay agrees");
        prop_assert_eq!(relived.guest().memory().expect("a memory").to_vec(), world.memory());
        prop_assert_eq!(relived.outcome(), world.live.outcome());
        prop_assert_eq!(relived.guest().cursor().open(), world.live.guest().cursor().open());
        validate(&world.events).expect("a valid history");
    }

    #[test]
    fn every_prefix_replays_to_commands_of_which_the_recorded_are_a_prefix(
        program in program(), choices in prop::collection::vec((any::<u8>(), any::<bool>()), 0..25)
    ) {
        let mut world = World::begin(&program);
        for (choice, apply) in choices {
            if world.live.outcome().is_some() { break; }
            world.happen(choice);
            if apply { world.catch_up().expect("a live turn never diverges"); }
        }
        for length in 1..=world.events.len() {
            let prefix = &world.events[..length];
            let recorded = commands(prefix);
            let mut relived = fresh(&program);
            let seen = relived.relive(prefix, Record::CutOff, u64::MAX).expect("a prefix never diverges");
            let beyond = seen.output.commands.iter().filter(|b| b.event_type().is_numbered_command());
            let issued: Vec<(u64, Attributes)> = recorded.iter().cloned()
                .chain(beyond.map(|b| (b.command_no.unwrap_or(0), b.attributes.clone()))).collect();
            let whole = commands(&world.events);
            let common = issued.len().min(whole.len());
            for (ours, theirs) in issued[..common].iter().zip(&whole) {
                prop_assert_eq!(ours.0, theirs.0);
                prop_assert_eq!(ours.1.event_type(), theirs.1.event_type());
            }
        }
    }

    #[test]
    fn other_code_is_noticed_or_does_the_same(
        program in program(), other in program(), choices in prop::collection::vec(any::<u8>(), 1..20)
    ) {
        let mut world = World::begin(&program);
        for choice in choices {
            if world.live.outcome().is_some() { break; }
            world.happen(choice);
            world.catch_up().expect("a live turn never diverges");
        }
        let record = Record::Complete { applied_through: world.applied_through, commands: world.issued() };
        // The start event still holds the first program: other code is another program under the same input.
        let mut events = world.events.clone();
        if let Attributes::ExecutionStarted(start) = &mut events[0].body.attributes {
            start.input = relive_core::Json::of(&other).expect("JSON");
        }
        let mut relived = fresh(&other);
        match relived.relive(&events, record, u64::MAX) {
            Ok(_) => prop_assert_eq!(relived.guest().cursor().issued(), world.issued()),
            Err(TurnError::Diverged(report)) => {
                prop_assert!(!report.history.is_empty() && !report.code.is_empty());
                prop_assert!(report.to_string().contains("history holds"));
            }
            Err(other) => prop_assert!(false, "{}", other),
        }
    }
}

fn lived(program: &[Op], choices: &[u8]) -> World {
    let mut world = World::begin(program);
    for choice in choices {
        world.happen(*choice);
        world.catch_up().expect("a live turn");
    }
    world
}

fn relive_as(world: &mut World, other: &[Op]) -> Result<(), TurnError> {
    let record = Record::Complete { applied_through: world.applied_through, commands: world.issued() };
    let mut events = world.events.clone();
    if let Attributes::ExecutionStarted(start) = &mut events[0].body.attributes {
        start.input = relive_core::Json::of(&other).expect("JSON");
    }
    fresh(other).relive(&events, record, u64::MAX).map(|_| ())
}

fn echo(input: &str) -> Op {
    Op::Activity { name: "echo".into(), input: input.into(), cancellation: Default::default() }
}

fn diverges(world: &mut World, other: &[Op], command: u64, says: &[&str]) {
    let Err(TurnError::Diverged(report)) = relive_as(world, other) else { panic!("no divergence under {other:?}") };
    assert_eq!(report.command_no, command, "{report}");
    for text in says {
        assert!(report.to_string().contains(text), "{report} should say {text}");
    }
}

#[test]
fn each_form_of_non_determinism_is_told_apart() {
    let program = [echo("1"), Op::Await(0), Op::Timer(10), Op::Message("a".into()), Op::Await(2)];
    let mut world = lived(&program, &[4]);
    assert_eq!(world.issued(), 3);
    relive_as(&mut world, &program).expect("the same code agrees");
    // Another input, another name, another kind, another order.
    diverges(&mut world, &[echo("2"), Op::Await(0), Op::Timer(10)], 1, &["echo(1)", "echo(2)"]);
    diverges(&mut world, &[Op::Timer(1)], 1, &["history holds activity echo", "timer"]);
    diverges(&mut world, &[echo("1"), Op::Await(0), Op::Timer(11), Op::Await(1)], 2, &["timer(10ms)", "timer(11ms)"]);
    // Blocked with commands left; ended with commands left; a command more than recorded.
    diverges(&mut world, &[echo("1"), Op::Await(0), Op::Message("a".into()), Op::Await(1)], 2, &["message"]);
    diverges(&mut world, &[echo("1"), Op::Await(0)], 2, &["timer(10ms)", "it completed"]);
    let more = [echo("1"), Op::Await(0), Op::Timer(10), Op::Message("a".into()), echo("5"), Op::Await(2)];
    diverges(&mut world, &more, 4, &["no further command", "echo(5)"]);
    // The same values in another text are the same.
    let spaced = [echo("1.0"), Op::Await(0), Op::Timer(10), Op::Message("a".into()), Op::Await(2)];
    relive_as(&mut world, &spaced).expect("1.0 is 1");
}

#[test]
fn an_outcome_other_than_recorded_is_noticed() {
    let mut world = lived(&[Op::Fail("one".into())], &[]);
    relive_as(&mut world, &[Op::Fail("one".into())]).expect("the same end");
    let Err(TurnError::Diverged(report)) = relive_as(&mut world, &[Op::Fail("two".into())]) else { panic!("agrees") };
    assert!(report.history.contains("one") && report.code.contains("two"), "{report}");
}

#[test]
fn version_answers_hold_for_the_run() {
    let version = |min, max| Op::Version { id: "c".into(), min, max };
    // Recorded live: the newest; a later code that still supports it keeps it, one that does not is blocked.
    let mut world = lived(&[version(1, 2), echo("1"), Op::Await(0), version(1, 2)], &[]);
    assert!(
        world.events.iter().any(|e| matches!(&e.body.attributes, Attributes::VersionRecorded(v) if v.version == 2))
    );
    relive_as(&mut world, &[version(1, 5), echo("1"), Op::Await(0)]).expect("2 is still supported");
    let Err(TurnError::Diverged(report)) = relive_as(&mut world, &[version(3, 5), echo("1")]) else { panic!("agrees") };
    assert!(report.history.contains("version 2"), "{report}");
    // A run that passed here before the change existed gets the oldest.
    let mut before = lived(&[echo("1"), Op::Await(0)], &[]);
    relive_as(&mut before, &[version(1, 2), echo("1"), Op::Await(0)]).expect("a change is no command");
}

#[test]
fn messages_wait_in_their_channel_until_a_promise_takes_them() {
    let program =
        [echo("1"), Op::Await(0), Op::Message("a".into()), Op::Await(1), Op::Message("a".into()), Op::Await(2)];
    let mut world = World::begin(&program);
    world.happen(1);
    world.happen(1);
    world.catch_up().expect("turns");
    assert_eq!(world.live.guest().cursor().unread()["a"].len(), 2, "nobody took them yet");
    world.happen(3);
    world.catch_up().expect("a turn");
    assert!(world.live.outcome().is_some(), "both are handed over in one turn, in order");
    let memory = String::from_utf8(world.memory()).expect("text");
    assert!(memory.find("m1").expect("m1") < memory.find("m2").expect("m2"));
}

#[test]
fn misuse_is_a_typed_error_and_the_guest_goes_on() {
    let program =
        [Op::Cancel(0), echo("{"), Op::Timer(u64::MAX / 1_000_000), Op::Timer(1), Op::Cancel(2), Op::Cancel(2)];
    let mut world = World::begin(&program);
    let memory = String::from_utf8(world.memory()).expect("text");
    for what in ["UnknownPromise(0)", "InvalidJson", "InvalidArgument", "SpentPromise(1)"] {
        assert!(memory.contains(what), "{memory} should hold {what}");
    }
    assert_eq!(world.issued(), 2, "a timer and its cancel");
}
