//! A guest that behaves: instances, durable calls, limits between instances, byte equality.

mod support;

use relive_core::Json;
use relive_core::cursor::Open;
use relive_core::guest::{Guest, GuestEvent, GuestFault, GuestState, Outcome};
use relive_core::limits::RunLimits;
use relive_sandbox::WASM_PAGE;
use support::{DONE, GuestText, TIMER, cursor, live, sandbox, workflow};

/// Starts a timer a call; the second resume ends it.
fn timers() -> GuestText {
    GuestText {
        imports: TIMER,
        start: "(call $timer (i64.const 5) (i32.const 768)) (i32.store8 (i32.const 512) (i32.const 0)) (i32.const 512)",
        resume: "(call $timer (i64.const 7) (i32.const 768)) (i32.store8 (i32.const 512) (i32.const 0)) (i32.const 512)",
        ..GuestText::default()
    }
}

fn resolved(promise: u64) -> GuestEvent {
    GuestEvent::Resolved { promise, message_id: None, outcome: Ok(Json::null()) }
}

#[test]
fn a_module_with_metadata_is_admitted_as_a_component() {
    let sandbox = sandbox();
    let module = timers().module();
    let admitted = sandbox.admit(&module).expect("admitted");
    let inspection = &admitted.inspection;
    assert!(inspection.from_core_module);
    assert_eq!(inspection.digest, relive_core::Digest::of(&module));
    assert_eq!(inspection.exports, ["relive:workflow/reactor@0.1.0"]);
    assert!(inspection.imports.iter().any(|i| i == "relive:workflow/durable@0.1.0"), "{:?}", inspection.imports);
    assert_eq!(inspection.image, Ok(()));
    assert_eq!(inspection.image_globals, 1);
    assert_eq!(inspection.memories, 1);
    assert_eq!(inspection.core_modules, 3);
    assert_eq!(inspection.descriptions.len(), 1);
    assert_eq!(inspection.descriptions[0].name, "demo");
    assert!(inspection.wit.contains("export relive:workflow/reactor@0.1.0;"), "{}", inspection.wit);
    let component = timers().component();
    assert!(!sandbox.admit(&component).expect("admitted").inspection.from_core_module);
}

#[test]
fn durable_calls_reach_the_cursor() {
    let sandbox = sandbox();
    let loaded = workflow(&sandbox, &timers().module());
    let mut guest = loaded.instantiate(cursor(RunLimits::default())).expect("an instance");
    live(&mut guest, 1);
    assert_eq!(guest.start("demo", &Json::null()), Ok(GuestState::Waiting));
    assert_eq!(guest.cursor().issued(), 1);
    assert_eq!(guest.cursor().open().get(&1), Some(&Open::Timer));
    assert_eq!(guest.cursor().end_turn().commands.len(), 1);
    live(&mut guest, 2);
    assert_eq!(guest.resume(resolved(1)), Ok(GuestState::Waiting));
    assert_eq!(guest.cursor().issued(), 2);
    assert_eq!(guest.memory_bytes(), 2 * WASM_PAGE);
}

#[test]
fn a_result_becomes_an_outcome() {
    let loaded = workflow(&sandbox(), &GuestText { start: DONE, ..GuestText::default() }.module());
    let mut guest = loaded.instantiate(cursor(RunLimits::default())).expect("an instance");
    live(&mut guest, 1);
    let done = guest.start("demo", &Json::null()).expect("a state");
    assert_eq!(done, GuestState::Done(Outcome::Completed(Json::parse("\"demo\"").expect("JSON"))));
}

#[test]
fn a_result_that_is_no_json_breaks_the_contract() {
    let start = "(i32.store8 (i32.const 512) (i32.const 1)) (i32.store (i32.const 520) (i32.const 16))
        (i32.store (i32.const 524) (i32.const 4)) (i32.const 512)";
    let loaded = workflow(&sandbox(), &GuestText { start, ..GuestText::default() }.module());
    let mut guest = loaded.instantiate(cursor(RunLimits::default())).expect("an instance");
    live(&mut guest, 1);
    let fault = guest.start("demo", &Json::null()).expect_err("refused");
    assert!(matches!(&fault, GuestFault::Contract(m) if m.contains("JSON")), "{fault:?}");
}

#[test]
fn a_call_before_the_turn_traps() {
    let loaded = workflow(&sandbox(), &timers().module());
    let mut guest = loaded.instantiate(cursor(RunLimits::default())).expect("an instance");
    let fault = guest.start("demo", &Json::null()).expect_err("dormant");
    assert!(matches!(&fault, GuestFault::Trap(m) if m.contains("start-timer is not available")), "{fault:?}");
}

#[test]
fn equal_lives_have_equal_memories() {
    let sandbox = sandbox();
    let loaded = workflow(&sandbox, &timers().module());
    let mut lives = [0, 1].map(|_| loaded.instantiate(cursor(RunLimits::default())).expect("an instance"));
    for guest in &mut lives {
        live(guest, 1);
        guest.start("demo", &Json::parse("{\"a\":1}").expect("JSON")).expect("started");
        for event in 2..100 {
            guest.cursor().end_turn();
            live(guest, event);
            guest.resume(resolved(event - 1)).expect("resumed");
        }
    }
    let [a, b] = &mut lives;
    let memory = a.memory().expect("one memory");
    assert_eq!(memory.len(), 2 * WASM_PAGE);
    assert!(memory == b.memory().expect("one memory"));
    assert_eq!(&memory[16..20], b"demo");
}

#[test]
fn a_dead_guest_keeps_its_cursor_and_gives_its_memory_back() {
    let sandbox = sandbox();
    let text = GuestText { imports: TIMER, resume: "unreachable", ..timers() };
    let loaded = workflow(&sandbox, &text.module());
    let before = sandbox.memory_stats();
    let mut guest = loaded.instantiate(cursor(RunLimits::default())).expect("an instance");
    assert_eq!(sandbox.memory_stats().live, before.live + 1);
    live(&mut guest, 1);
    guest.start("demo", &Json::null()).expect("started");
    let fault = guest.resume(resolved(1)).expect_err("traps");
    assert!(matches!(&fault, GuestFault::Trap(m) if m.contains("unreachable") && m.contains("at ")), "{fault:?}");
    assert_eq!(guest.cursor().issued(), 1, "the cursor is still there for the report");
    assert_eq!(sandbox.memory_stats().live, before.live);
    assert_eq!((guest.memory_bytes(), guest.memory_maps()), (0, 0));
    let again = guest.resume(resolved(1)).expect_err("dead");
    assert!(matches!(again, GuestFault::Host(_)), "{again:?}");
}
