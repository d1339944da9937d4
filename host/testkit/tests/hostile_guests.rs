//! Guests that mean harm, each beside a healthy one: they come to rest for the documented reason, the healthy one hardly
//! notices, and nothing of them stays behind. The names say `measured`: these tests run alone.

mod hostile_support;

use std::{sync::Arc, time::Duration};

use hostile_support::{Rest, Site, under_attack};
use relive_core::event::BlockReason;
use relive_testkit::{
    embedded::Embedded,
    hostile::reactor::{GuestText, NOW, PUBLISH, RECURSION, TIMER},
};
use serde_json::{Value, json};

/// Programs of the example `script`, each with the rest that it comes to and words of its result or report.
fn scripts(name: &'static str, programs: Vec<(Value, Rest, &'static str)>) {
    under_attack(|site| {
        site.beside(name, move |site| {
            let programs = programs.clone();
            async move {
                for (program, rest, words) in programs {
                    let text = site.attack("script", &json!({"program": program, "quiet": false}), rest).await;
                    assert!(text.contains(words), "{words:?} is not in {}", &text[..text.len().min(2_000)]);
                }
            }
        })
    });
}

/// A hand-written guest whose `start` is this.
fn demos(name: &'static str, texts: Vec<(GuestText, Rest, &'static str)>) {
    under_attack(|site| async move {
        let mut demos = Vec::new();
        for (n, (text, rest, words)) in texts.into_iter().enumerate() {
            let workflow = format!("demo{n}");
            site.demo(&workflow, &text).await;
            demos.push((workflow, rest, words));
        }
        let demos = Arc::new(demos);
        let attack = move |site: Arc<Site>| {
            let demos = demos.clone();
            async move {
                for (workflow, rest, words) in &*demos {
                    let text = site.attack(workflow, &Value::Null, *rest).await;
                    assert!(text.contains(words), "{words:?} is not in {}", &text[..text.len().min(2_000)]);
                }
            }
        };
        site.beside(name, attack).await;
    });
}

#[test]
fn measured_a_guest_that_never_returns_from_its_start() {
    let program = json!(["loop-forever"]);
    scripts("endless start", vec![(program, Rest::Blocked(BlockReason::OutOfFuel), "all fuel")]);
}

#[test]
fn measured_a_guest_that_never_returns_from_a_resume() {
    let program = json!([{"timer": {"ms": 1}}, "loop-forever"]);
    scripts("endless resume", vec![(program, Rest::Blocked(BlockReason::OutOfFuel), "all fuel")]);
}

/// Burners that arrive together stand in the queue before the healthy guest, and hold the threads until the monitor
/// saw them burn. So this is more than twice the latency of a quiet host: it is bounded by the burners that wait, not by
/// what they burn.
#[test]
fn measured_fuel_burners() {
    const BURNERS: u32 = 6;
    let floor = Duration::from_millis(10) * BURNERS;
    under_attack(|site| {
        site.beside_within("fuel burners", floor, |site| async move {
            let program = json!({"program": [{"timer": {"ms": 1}}, {"compute": 20_000_000}]});
            let mut ids = Vec::new();
            for _ in 0..BURNERS {
                ids.push(site.begin("script", &program).await);
            }
            for id in ids {
                site.rest(&id).await;
            }
        })
    });
}

#[test]
fn measured_start_functions_that_loop() {
    let text = GuestText { fields: "(func $f (loop $l (br $l))) (start $f)", ..GuestText::default() };
    let upload = text.module();
    under_attack(|site| {
        site.beside("looping start function", move |site| {
            let upload = upload.clone();
            async move {
                let error = site.deploy(upload, "never").await.expect_err("it never comes to an end");
                assert_eq!(error.code, "instantiate-fuel", "{error}");
            }
        })
    });
}

#[test]
fn measured_promise_floods() {
    let named: Vec<Value> = (0..2_100).map(|n| json!({"timer": {"ms": 3_600_000, "as": format!("h{n}")}})).collect();
    let mut open = named;
    open.push(json!({"await": "h2099"}));
    open.push(json!("finish"));
    let replaced = json!([{"repeat": {"times": 3_000, "steps": [{"timer": {"ms": 3_600_000, "as": "h"}}]}},
        {"await": "h"}, "finish"]);
    scripts(
        "promise floods",
        vec![(Value::Array(open), Rest::Completed, "limit-exceeded"), (replaced, Rest::Completed, "limit-exceeded")],
    );
}

#[test]
fn measured_log_and_publish_floods() {
    let line = json!({"log": {"message": "x".repeat(20_000)}});
    let value = json!({"publish": {"key": "k", "value": "x".repeat(20_000)}});
    let flood = |step: Value| json!([{"repeat": {"times": 1_500, "steps": [step]}}]);
    scripts(
        "log and publish floods",
        vec![(flood(line), Rest::Completed, ""), (flood(value), Rest::Completed, "limit-exceeded")],
    );
}

#[test]
fn measured_huge_names() {
    let huge = "n".repeat(500_000);
    let steps = json!([
        {"activity": {"name": huge}}, {"activity": {"name": "echo", "options": {"task-queue": huge}}},
        {"publish": {"key": huge}}, {"activity": {"name": "echo", "options": {"max-attempts": 1, "backoff": 0.1}}},
    ]);
    let channel = json!([{"message": {"channel": huge}}]);
    let change = json!([{"version": {"change-id": huge, "min": 1, "max": 2}}]);
    let random = json!([{"random-bytes": 4_000_000_000_u32}]);
    scripts(
        "huge names",
        vec![
            (steps, Rest::Completed, "invalid-argument"),
            (channel, Rest::Completed, "invalid-argument"),
            (change, Rest::Blocked(BlockReason::Trap), "at most 256"),
            (random, Rest::Blocked(BlockReason::Trap), "at most 65536"),
        ],
    );
}

#[test]
fn measured_memory_bombs_and_recursion() {
    let bomb = json!([{"alloc": 1_000_000_000}]);
    let steps = json!([{"repeat": {"times": 100, "steps": [{"alloc": 1_000_000}]}}]);
    scripts(
        "memory bombs",
        vec![
            (bomb, Rest::Blocked(BlockReason::OutOfMemory), "67108864 are allowed"),
            (steps, Rest::Blocked(BlockReason::OutOfMemory), "67108864 are allowed"),
            (json!([{"recurse": 100_000_000}]), Rest::Blocked(BlockReason::Trap), ""),
        ],
    );
}

#[test]
fn measured_unbounded_recursion_of_bare_code() {
    let start = "(drop (call $deep (i64.const 0))) (i32.const 512)";
    let text = GuestText { fields: RECURSION, start, ..GuestText::default() };
    demos("recursion", vec![(text, Rest::Blocked(BlockReason::Trap), "call stack")]);
}

/// Completes with `length` bytes of memory from 65536 on, all of them `byte`.
fn completes_with(byte: u8, length: u32) -> GuestText {
    let start = format!(
        "(memory.fill (i32.const 65536) (i32.const {byte}) (i32.const {length}))
        (i32.store8 (i32.const 512) (i32.const 1)) (i32.store8 (i32.const 516) (i32.const 0))
        (i32.store (i32.const 520) (i32.const 65536)) (i32.store (i32.const 524) (i32.const {length})) (i32.const 512)"
    );
    GuestText { memory: "200", start: start.leak(), ..GuestText::default() }
}

#[test]
fn measured_results_that_are_no_json() {
    let trap = Rest::Blocked(BlockReason::Trap);
    demos(
        "no JSON",
        vec![
            (completes_with(0, 4), trap, "not acceptable JSON"),
            (completes_with(0xff, 4), trap, "utf-8"),
            (completes_with(b'[', 100_000), trap, "not acceptable JSON"),
            (completes_with(b'"', 2), Rest::Completed, ""),
            (completes_with(b'1', 2 << 20), Rest::Completed, "111"),
            (completes_with(b'1', (2 << 20) + 1), trap, "at most 2097152"),
            (completes_with(b'1', 12 << 20), trap, ""),
        ],
    );
}

/// Calls of the host that cost the guest next to nothing and the host much: megabytes of text, again and again.
#[test]
fn measured_huge_strings_and_lists_in_every_call() {
    const LOG: &str = r#"(import "relive:workflow/durable@0.1.0" "log" (func $log (param i32 i32 i32 i32 i32 i32)))"#;
    const NEXT: &str = r#"(import "relive:workflow/durable@0.1.0" "next-message" (func $next (param i32 i32 i32)))"#;
    let fuel = Rest::Blocked(BlockReason::OutOfFuel);
    let again = |imports, call: &str| {
        let start = format!(
            "(memory.fill (i32.const 65536) (i32.const 32) (i32.const 4000000)) (loop $l {call} (br $l)) unreachable"
        );
        GuestText { imports, memory: "200", start: start.leak(), ..GuestText::default() }
    };
    let publish = "(call $publish (i32.const 16) (i32.const 4) (i32.const 65536) (i32.const 2000000) (i32.const 768))";
    let text =
        "(call $log (i32.const 0) (i32.const 65536) (i32.const 4000000) (i32.const 0) (i32.const 0) (i32.const 768))";
    let channel = "(call $next (i32.const 65536) (i32.const 4000000) (i32.const 768))";
    // A million fields; their names and values lie where the spaces make addresses far outside.
    let fields =
        "(call $log (i32.const 0) (i32.const 16) (i32.const 4) (i32.const 65536) (i32.const 1000000) (i32.const 768))";
    demos(
        "huge strings and lists",
        vec![
            (again(PUBLISH, publish), fuel, "calls of the host"),
            (again(LOG, text), fuel, "calls of the host"),
            (again(NEXT, channel), fuel, "calls of the host"),
            (again(LOG, fields), Rest::Blocked(BlockReason::Trap), ""),
        ],
    );
}

#[test]
fn measured_calls_without_end() {
    const ONE: &str = "(call $timer (i64.const 3600000000000) (i32.const 768))";
    let timers = format!("(loop $l {ONE} (br $l)) unreachable");
    let timers = GuestText { imports: TIMER, start: timers.leak(), ..GuestText::default() };
    let times =
        GuestText { imports: NOW, start: "(loop $l (drop (call $now)) (br $l)) unreachable", ..GuestText::default() };
    let fuel = Rest::Blocked(BlockReason::OutOfFuel);
    // The refusals are text that the guest's own allocator has to find room for, and this one never frees.
    let trap = Rest::Blocked(BlockReason::Trap);
    demos("calls without end", vec![(timers, trap, "realloc"), (times, fuel, "calls of the host")]);
}

/// Continues as a new run, for ever: each run is honest, and the chain of them never comes to rest.
#[test]
fn measured_runs_that_continue_without_end() {
    let start = "(i32.store8 (i32.const 512) (i32.const 2)) (i32.store (i32.const 516) (i32.const 32))
        (i32.store (i32.const 520) (i32.const 6)) (i32.store (i32.const 524) (i32.const 0))
        (i32.store (i32.const 528) (i32.const 0)) (i32.const 512)";
    under_attack(|site| async move {
        site.demo("again", &GuestText { start, ..GuestText::default() }).await;
        let attack = |site: Arc<Site>| async move {
            let id = site.begin("again", &Value::Null).await;
            let ran = || async { site.host.engine.status().cells > 0 };
            site.host.until("it runs", ran).await;
            // The run that is open changes all the time; an operator's wish has to find one all the same.
            let mut tries = 0;
            while site.host.engine.terminate(Embedded::target(&id), "enough".into()).await.is_err() {
                tries += 1;
                assert!(tries < 1_000, "{id} cannot be terminated");
            }
        };
        site.beside("continuing for ever", attack).await;
    });
}
