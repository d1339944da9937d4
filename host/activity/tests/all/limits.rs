//! Hostile guests: endless loops, memory, output. None of them hurts a neighbour.

use std::time::{Duration, Instant};

use relive_activity::{Grants, WasmLimits, code};
use relive_core::FailureKind;
use relive_core::ports::ActivityRunner;

use crate::guest::{KITCHEN, kitchen};
use crate::support::{Deployment, eventually, task};

fn deployment(limits: WasmLimits) -> Deployment {
    Deployment::new(kitchen(), KITCHEN, &Grants::default(), limits)
}

/// Drops an attempt at its deadline, as the engine does.
async fn cut_short(deployed: &Deployment, name: &str) {
    let attempt = deployed.registry.run(task(name, "null"));
    tokio::time::timeout(Duration::from_millis(100), attempt).await.expect_err("it has no end");
}

#[tokio::test]
async fn an_endless_loop_ends_with_its_attempt() {
    let deployed = deployment(WasmLimits::default());
    for name in ["loop", "zero"] {
        cut_short(&deployed, name).await;
        let begin = Instant::now();
        eventually("the instance is gone", || deployed.host.running() == 0).await;
        println!("{name}: gone {:?} after the drop", begin.elapsed());
        assert_eq!(deployed.host.memory_bytes(), 0);
    }
}

/// A current-thread runtime: would a guest run on it, nothing else did.
#[tokio::test]
async fn spinning_guests_leave_room_for_neighbours() {
    let deployed = deployment(WasmLimits::default());
    let spinning: Vec<_> = (0..16).map(|_| tokio::spawn(deployed.registry.run(task("loop", "null")))).collect();
    eventually("all spin", || deployed.host.running() == spinning.len()).await;
    let begin = Instant::now();
    assert_eq!(deployed.ok("echo", "1").await, "1");
    println!("beside 16 spinning guests, an echo took {:?}", begin.elapsed());
    assert!(begin.elapsed() < Duration::from_secs(10));
    spinning.iter().for_each(tokio::task::JoinHandle::abort);
    drop(spinning);
    eventually("all are gone", || deployed.host.running() == 0).await;
    assert_eq!(deployed.host.memory_bytes(), 0);
}

#[tokio::test]
async fn memory_is_refused_over_the_limit_of_a_call() {
    let deployed = deployment(WasmLimits { memory_bytes: 32 << 20, ..WasmLimits::default() });
    let failure = deployed.fails("memory", "null").await;
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Infrastructure, code::OUT_OF_MEMORY));
    assert!(failure.retryable && failure.message.contains(&(32 << 20).to_string()), "{failure}");
    assert_eq!(deployed.ok("echo", "1").await, "1");
    assert_eq!(deployed.host.memory_bytes(), 0);
}

#[tokio::test]
async fn memory_is_refused_over_the_limit_of_all_calls() {
    let limits = WasmLimits { memory_bytes: 64 << 20, total_memory_bytes: 16 << 20, ..WasmLimits::default() };
    let failure = deployment(limits).fails("memory", "null").await;
    assert!(failure.code == code::OUT_OF_MEMORY && failure.message.contains("all wasm activities"), "{failure}");
}

#[tokio::test]
async fn output_is_bounded() {
    let deployed = deployment(WasmLimits::default());
    assert_eq!(deployed.ok("print", "null").await, "null");
}
