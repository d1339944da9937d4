//! Guests that mean harm: each ends in a typed fault, and the host goes on.

mod support;

use relive_core::Json;
use relive_core::cursor::{CallError, LogLevel};
use relive_core::guest::{Guest, GuestFault, GuestState};
use relive_core::limits::RunLimits;
use relive_core::options::ActivityOptions;
use relive_core::retry::RetryPolicy;
use relive_sandbox::{Description, check_descriptions};
use support::{DESCRIBED, FOREVER, GuestText, RECURSION, TIMER, cursor, live, refusal, sandbox, workflow};

/// Runs `start` of a guest that is admitted, and gives how it ended.
fn start_of(text: &GuestText, limits: RunLimits) -> Result<GuestState, GuestFault> {
    let sandbox = sandbox();
    let loaded = workflow(&sandbox, &text.module());
    let mut guest = loaded.instantiate(cursor(limits))?;
    live(&mut guest, 1);
    let ended = guest.start("demo", &Json::null());
    // Whatever happened: the host still runs guests.
    let mut other = loaded.instantiate(cursor(RunLimits::default())).expect("another instance");
    assert!(other.memory().is_some());
    ended
}

fn little_fuel() -> RunLimits {
    RunLimits { turn_fuel: 10_000_000, ..RunLimits::default() }
}

#[test]
fn an_endless_start_runs_out_of_fuel() {
    let fault = start_of(&GuestText { start: FOREVER, ..GuestText::default() }, little_fuel()).expect_err("endless");
    assert!(matches!(&fault, GuestFault::OutOfFuel(m) if m.contains("at ")), "{fault:?}");
}

#[test]
fn an_endless_describe_is_refused() {
    let text = GuestText { describe: FOREVER, ..GuestText::default() };
    let (code, message) = refusal(sandbox().admit(&text.module()));
    assert_eq!(code, "describe-fuel", "{message}");
}

#[test]
fn an_endless_instantiation_is_refused() {
    let text = GuestText { fields: "(func $f (loop $l (br $l))) (start $f)", ..GuestText::default() };
    let (code, message) = refusal(sandbox().admit(&text.module()));
    assert_eq!(code, "instantiate-fuel", "{message}");
}

#[test]
fn unbounded_recursion_overflows_the_guests_stack_only() {
    let start = "(drop (call $deep (i64.const 0))) (i32.const 512)";
    let text = GuestText { fields: RECURSION, start, ..GuestText::default() };
    let fault = start_of(&text, RunLimits::default()).expect_err("too deep");
    assert!(matches!(&fault, GuestFault::StackOverflow(m) if m.len() < 10_000), "{fault:?}");
}

#[test]
fn unbounded_recursion_in_describe_is_refused() {
    let describe = "(drop (call $deep (i64.const 0))) (i32.const 256)";
    let text = GuestText { fields: RECURSION, describe, ..GuestText::default() };
    assert_eq!(refusal(sandbox().admit(&text.module())).0, "describe-stack");
}

#[test]
fn a_memory_bomb_is_told_no_and_its_trap_says_why() {
    let start = "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable";
    let fault = start_of(&GuestText { start, ..GuestText::default() }, RunLimits::default()).expect_err("a bomb");
    assert!(matches!(&fault, GuestFault::OutOfMemory(m) if m.contains("67108864 are allowed")), "{fault:?}");
}

#[test]
fn a_guest_that_takes_no_for_an_answer_goes_on() {
    let start = "(drop (memory.grow (i32.const 60000))) (i32.store8 (i32.const 512) (i32.const 0)) (i32.const 512)";
    let text = GuestText { start, ..GuestText::default() };
    assert_eq!(start_of(&text, RunLimits::default()), Ok(GuestState::Waiting));
}

#[test]
fn a_memory_that_begins_too_large_is_refused() {
    let text = GuestText { memory: "65536", ..GuestText::default() };
    let (code, message) = refusal(sandbox().admit(&text.module()));
    assert_eq!(code, "instantiate-memory", "{message}");
}

#[test]
fn a_table_bomb_is_told_no() {
    let start =
        "(loop $l (br_if $l (i32.ne (table.grow $t (ref.null func) (i32.const 10000)) (i32.const -1)))) unreachable";
    let text = GuestText { fields: "(table $t 1 funcref)", start, ..GuestText::default() };
    let fault = start_of(&text, RunLimits::default()).expect_err("a bomb");
    assert!(matches!(&fault, GuestFault::OutOfMemory(m) if m.contains("table")), "{fault:?}");
}

#[test]
fn a_trap_in_the_middle_is_reported_with_its_place() {
    let start = "(call $timer (i64.const 1) (i32.const 768)) (drop (i32.load (i32.const 0x7fffffff))) (i32.const 512)";
    let text = GuestText { imports: TIMER, start, ..GuestText::default() };
    let fault = start_of(&text, RunLimits::default()).expect_err("out of bounds");
    assert!(matches!(&fault, GuestFault::Trap(m) if m.contains("out of bounds") && m.contains("at ")), "{fault:?}");
}

#[test]
fn a_string_that_lies_outside_of_memory_is_a_trap() {
    let start = "(i32.store8 (i32.const 512) (i32.const 1)) (i32.store (i32.const 520) (i32.const 32))
        (i32.store (i32.const 524) (i32.const -1)) (i32.const 512)";
    let fault = start_of(&GuestText { start, ..GuestText::default() }, RunLimits::default()).expect_err("a lie");
    assert!(matches!(fault, GuestFault::Trap(_)), "{fault:?}");
}

#[test]
fn a_payload_over_the_limit_is_refused() {
    // A megabyte of zeros as the result: neither JSON nor within this run's limit.
    let start = "(i32.store8 (i32.const 512) (i32.const 1)) (i32.store (i32.const 520) (i32.const 65536))
        (i32.store (i32.const 524) (i32.const 1048576)) (i32.const 512)";
    let limits = RunLimits { payload_bytes: 1000, ..RunLimits::default() };
    let fault = start_of(&GuestText { memory: "20", start, ..GuestText::default() }, limits).expect_err("too long");
    assert!(matches!(&fault, GuestFault::Contract(m) | GuestFault::Trap(m) if !m.is_empty()), "{fault:?}");
}

#[test]
fn a_durable_call_during_instantiation_or_description_traps() {
    let fields = "(func $f (call $timer (i64.const 1) (i32.const 768))) (start $f)";
    let text = GuestText { imports: TIMER, fields, ..GuestText::default() };
    let (code, message) = refusal(sandbox().admit(&text.component()));
    assert_eq!(code, "instantiate-trap", "{message}");
    let describe = "(call $timer (i64.const 1) (i32.const 768)) (i32.const 256)";
    let text = GuestText { imports: TIMER, describe, ..GuestText::default() };
    let (code, message) = refusal(sandbox().admit(&text.component()));
    assert_eq!(code, "describe-trap", "{message}");
    assert!(message.contains("start-timer is not available"), "{message}");
}

#[test]
fn a_description_must_be_usable() {
    let empty = "(i32.store (i32.const 260) (i32.const 0)) (i32.const 256)";
    let (code, message) = refusal(sandbox().admit(&GuestText { describe: empty, ..GuestText::default() }.module()));
    assert_eq!((code, message.contains("names nothing")), ("describe-invalid", true), "{message}");
    // The name is the byte 0 and what follows it.
    let bad_name = "(i32.store (i32.const 256) (i32.const 264)) (i32.store (i32.const 260) (i32.const 1))
        (i32.store (i32.const 264) (i32.const 15)) (i32.store (i32.const 268) (i32.const 4)) (i32.const 256)";
    let text = GuestText { describe: bad_name, ..GuestText::default() };
    assert_eq!(refusal(sandbox().admit(&text.module())).0, "describe-invalid");
    // The schema is `demo`, which is no JSON: an option at 264 + 20.
    let bad_schema = "(i32.store (i32.const 256) (i32.const 264)) (i32.store (i32.const 260) (i32.const 1))
        (i32.store (i32.const 264) (i32.const 16)) (i32.store (i32.const 268) (i32.const 4))
        (i32.store8 (i32.const 284) (i32.const 1)) (i32.store (i32.const 288) (i32.const 16))
        (i32.store (i32.const 292) (i32.const 4)) (i32.const 256)";
    let (code, message) =
        refusal(sandbox().admit(&GuestText { describe: bad_schema, ..GuestText::default() }.module()));
    assert_eq!((code, message.contains("not JSON")), ("describe-invalid", true), "{message}");
    assert!(sandbox().admit(&GuestText { describe: DESCRIBED, ..GuestText::default() }.module()).is_ok());
}

/// `demo` declares channels: each is where its text is, and how long.
fn declaring(channels: &[(u32, u32)]) -> GuestText {
    let list: String = channels
        .iter()
        .flat_map(|(at, length)| [at.to_le_bytes(), length.to_le_bytes()].concat())
        .map(|byte| format!("\\{byte:02x}"))
        .collect();
    let describe = format!(
        "(i32.store8 (i32.const 308) (i32.const 1)) (i32.store (i32.const 312) (i32.const 65536))
        (i32.store (i32.const 316) (i32.const {})) {DESCRIBED}",
        channels.len()
    );
    GuestText {
        fields: format!("(data (i32.const 65536) \"{list}\")").leak(),
        describe: describe.leak(),
        ..GuestText::default()
    }
}

#[test]
fn channels_are_declared_or_not() {
    let channels = |text: GuestText| {
        let admitted = sandbox().admit(&text.module()).expect("admitted");
        admitted.inspection.descriptions[0].channels.clone()
    };
    assert_eq!(channels(GuestText::default()), None);
    assert_eq!(channels(declaring(&[])), Some(Vec::new()));
    let two = vec!["demo".to_owned(), "em".to_owned()];
    assert_eq!(channels(declaring(&[(16, 4), (17, 2)])), Some(two));
}

#[test]
fn declared_channels_must_be_usable() {
    let refused = |channels: &[(u32, u32)]| {
        let (code, message) = refusal(sandbox().admit(&declaring(channels).module()));
        assert_eq!(code, "describe-invalid", "{message}");
        message
    };
    let message = refused(&[(16, 4), (16, 0)]);
    assert!(message.contains("channel is empty"), "{message}");
    // The byte 0 and what follows it.
    let message = refused(&[(15, 2)]);
    assert!(message.contains("`demo` declares the channel `\\0d`"), "{message}");
    let message = refused(&[(16, 257)]);
    assert!(message.contains("257 bytes"), "{message}");
    let message = refused(&[(16, 4); 1_001]);
    assert!(message.contains("1001 channels; at most 1000"), "{message}");
    sandbox().admit(&declaring(&[(16, 4); 1_000]).module()).expect("as many as may be");
}

#[test]
fn declared_channels_count_into_the_size_of_the_description() {
    let described = |n: usize| Description {
        name: format!("w{n}"),
        summary: None,
        input_schema: None,
        output_schema: None,
        channels: Some(vec!["c".repeat(256); 1_000]),
    };
    let descriptions: Vec<Description> = (0..5).map(described).collect();
    check_descriptions(&descriptions[..4]).expect("about 1 MB");
    let error = check_descriptions(&descriptions).expect_err("more than 1 MiB");
    assert!(error.to_string().contains("1280010 bytes"), "{error}");
}

#[test]
fn what_a_turn_hands_over_counts_whole() {
    let loaded = workflow(&sandbox(), &GuestText::default().module());
    let guest = || {
        let mut guest = loaded.instantiate(cursor(RunLimits::default())).expect("an instance");
        live(&mut guest, 1);
        guest
    };
    let limit = |refused: &Result<_, CallError>| matches!(refused, Err(CallError::LimitExceeded(_)));
    // Four times 4 MiB of a summary, and what holds it, are more than the 16 MiB of a turn.
    let mut one = guest();
    let options = ActivityOptions { summary: Some("s".repeat(4 << 20)), ..ActivityOptions::default() };
    let mut start = |options| one.cursor().start_activity("a", "null", options).expect("no trap");
    let refused: Vec<bool> = (0..4).map(|_| limit(&start(options.clone()))).collect();
    assert_eq!(refused, [false, false, false, true]);
    // A list of empty texts is not free.
    let policy = RetryPolicy { non_retryable_codes: vec![String::new(); 600_000], ..RetryPolicy::default() };
    let options = ActivityOptions { retry: Some(policy), ..ActivityOptions::default() };
    assert!(limit(&guest().cursor().start_activity("a", "null", options).expect("no trap")));
    let fields = vec![(String::new(), "1".to_owned()); 300_000];
    let logged = guest().cursor().log(LogLevel::Info, "", fields).expect("no trap");
    assert!(matches!(logged, Err(CallError::LimitExceeded(_))), "{logged:?}");
}

#[test]
fn calls_of_the_host_cost_fuel() {
    // Half a megabyte that is no JSON, again and again: the guest itself computes next to nothing.
    let start = "(loop $l (call $publish (i32.const 16) (i32.const 4) (i32.const 65536) (i32.const 524288)
        (i32.const 768)) (global.set $bump (i32.const 4096)) (br $l)) unreachable";
    let text = GuestText { imports: support::PUBLISH, memory: "20", start, ..GuestText::default() };
    let fault = start_of(&text, little_fuel()).expect_err("without end");
    assert!(matches!(&fault, GuestFault::OutOfFuel(m) if m.contains("calls of the host")), "{fault:?}");
}
