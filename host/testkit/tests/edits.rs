//! The table of edits in `docs/versions.md`, a test each: what becomes of an execution that is in the middle of the old code
//! when it is relived on the new one.

mod common;

use relive_core::{
    Json,
    cursor::Divergence,
    event::Attributes,
    life::{Record, TurnError},
    options::{ActivityOptions, CancellationType},
    retry::RetryPolicy,
};
use relive_testkit::model::Op;

use common::{World, fresh};

fn start(name: &str, input: &str) -> Op {
    Op::Activity { name: name.into(), input: input.into(), cancellation: CancellationType::default() }
}

fn step(handle: usize, name: &str, input: &str) -> Vec<Op> {
    vec![start(name, input), Op::Await(handle)]
}

/// `reserve`, `charge` (both done), then it waits for `ship`, and `mail` is still to come.
fn order() -> Vec<Op> {
    [step(0, "reserve", "{\"item\":1,\"n\":2}"), step(1, "charge", "10"), step(2, "ship", "1"), step(3, "mail", "1")]
        .concat()
}

/// An execution that ran the code until so many of the events that it waits for had come.
fn lived(program: &[Op], events: usize) -> World {
    let mut world = World::begin(program);
    for _ in 0..events {
        world.happen(4);
        world.catch_up().expect("a live turn");
    }
    world
}

fn relived(world: &mut World, code: &[Op]) -> Result<(), TurnError> {
    let record = Record::Complete { applied_through: world.applied_through, commands: world.issued() };
    let mut events = world.events.clone();
    // The model's code is the input of its run.
    if let Attributes::ExecutionStarted(start) = &mut events[0].body.attributes {
        start.input = Json::of(&code).expect("JSON");
    }
    fresh(code).relive(&events, record, u64::MAX).map(|_| ())
}

fn agrees(code: &[Op], other: &[Op], events: usize) {
    let mut world = lived(code, events);
    relived(&mut world, code).expect("the same code agrees");
    relived(&mut world, other).unwrap_or_else(|error| panic!("{error}"));
}

fn diverges(code: &[Op], other: &[Op], events: usize, command: u64) -> Divergence {
    let mut world = lived(code, events);
    relived(&mut world, code).expect("the same code agrees");
    let Err(TurnError::Diverged(divergence)) = relived(&mut world, other) else { panic!("no divergence") };
    assert_eq!(divergence.command_no, command, "{divergence}");
    *divergence
}

#[test]
fn a_renamed_activity_diverges() {
    let other = [step(0, "book", "{\"item\":1,\"n\":2}"), order()[2..].to_vec()].concat();
    let divergence = diverges(&order(), &other, 2, 1);
    assert!(divergence.history.contains("reserve") && divergence.code.contains("book"), "{divergence}");
}

#[test]
fn swapping_two_steps_that_follow_each_other_diverges() {
    let other = [step(0, "charge", "10"), step(1, "reserve", "{\"item\":1,\"n\":2}"), order()[4..].to_vec()].concat();
    diverges(&order(), &other, 2, 1);
}

#[test]
fn swapping_two_parallel_starts_diverges() {
    let both = |a: &str, b: &str| vec![start(a, "1"), start(b, "1"), Op::Await(0), Op::Await(1)];
    diverges(&both("fly", "sleep"), &both("sleep", "fly"), 1, 1);
}

#[test]
fn a_step_before_the_present_position_diverges_and_one_after_it_agrees() {
    let (mut early, mut late) = (order(), order());
    early.splice(2..2, [start("check", "1"), Op::Await(1)]);
    diverges(&order(), &early, 2, 2);
    late.push(start("bill", "1"));
    agrees(&order(), &late, 2);
    // Between the step that is awaited and the next one.
    late.splice(6..6, [start("track", "1")]);
    agrees(&order(), &late, 2);
}

/// The turn in which the guest came to wait is recorded as a whole: a command more in it is another turn. What is started
/// after the wait, in a turn to come, is not.
#[test]
fn a_step_at_the_present_position_diverges_while_the_old_promise_is_open() {
    let mut other = order();
    other.splice(5..5, [start("insure", "1")]);
    let divergence = diverges(&order(), &other, 2, 4);
    assert!(divergence.history.contains("no further command") && divergence.code.contains("insure"), "{divergence}");
}

#[test]
fn arguments_of_a_past_step_diverge_and_of_a_future_one_agree() {
    let (mut past, mut future) = (order(), order());
    past[2] = start("charge", "11");
    let divergence = diverges(&order(), &past, 2, 2);
    assert!(divergence.history.contains("charge(10)") && divergence.code.contains("charge(11)"), "{divergence}");
    future[6] = start("mail", "2");
    agrees(&order(), &future, 2);
}

#[test]
fn retry_timeout_queue_and_summary_are_free() {
    let options = ActivityOptions {
        retry: Some(RetryPolicy { maximum_attempts: 7, ..RetryPolicy::default() }),
        start_to_close: Some(1_000_000_000),
        summary: Some("Charges the card".into()),
        task_queue: Some("cards".into()),
        ..ActivityOptions::default()
    };
    let mut other = order();
    other[2] = Op::Offer { name: "charge".into(), input: "10".into(), options };
    agrees(&order(), &other, 2);
}

#[test]
fn log_lines_and_published_values_come_and_go() {
    let mut other = order();
    other.splice(2..2, [Op::Log("reserved".into()), Op::Publish("phase".into())]);
    agrees(&order(), &other, 2);
    agrees(&other, &order(), 2);
}

#[test]
fn json_is_compared_by_value() {
    let mut other = order();
    other[0] = start("reserve", "{ \"n\": 2.0, \"item\": 1e0 }");
    agrees(&order(), &other, 2);
}

#[test]
fn the_length_of_a_pending_timer_diverges() {
    let nap = |ms| [step(0, "reserve", "1"), vec![Op::Timer(ms), Op::Await(1)]].concat();
    let divergence = diverges(&nap(10), &nap(20), 1, 2);
    assert!(divergence.history.contains("10ms") && divergence.code.contains("20ms"), "{divergence}");
}

#[test]
fn a_parallel_branch_that_is_dropped_diverges() {
    let both = vec![start("fly", "1"), start("sleep", "1"), Op::Await(0), Op::Await(1)];
    let divergence = diverges(&both, &[start("fly", "1"), Op::Await(0)], 0, 2);
    assert!(divergence.history.contains("sleep"), "{divergence}");
}

#[test]
fn a_loop_may_end_elsewhere_only_beyond_the_present_position() {
    let rounds = |n: usize| (0..n).flat_map(|at| step(at, "poll", "1")).collect::<Vec<_>>();
    // Three rounds are done, and the fourth is under way.
    agrees(&rounds(6), &rounds(9), 3);
    agrees(&rounds(6), &rounds(4), 3);
    diverges(&rounds(6), &rounds(2), 3, 3);
}

#[test]
fn code_that_ends_earlier_diverges() {
    let divergence = diverges(&order(), &order()[..4], 2, 3);
    assert!(divergence.history.contains("ship") && divergence.code.contains("completed"), "{divergence}");
}

#[test]
fn a_change_behind_a_version_agrees() {
    let guarded = |max| {
        let mut code = order();
        code.splice(2..2, [Op::Version { id: "check-first".into(), min: 0, max }]);
        code
    };
    // The run was past the place before there was a version: it goes on as before.
    agrees(&order(), &guarded(1), 2);
    // One that got its answer keeps it.
    agrees(&guarded(1), &guarded(2), 2);
}

#[test]
fn a_rewrite_that_asks_for_the_same_agrees() {
    // Other calls that leave no command, in other places.
    let mut other = order();
    other.splice(0..0, [Op::Now, Op::Info, Op::Random]);
    other.splice(5..5, [Op::Uuid, Op::Log("x".into())]);
    agrees(&order(), &other, 2);
}
