//! Measures what the registry costs: a native raw call, a typed one, beside the closure alone.
//!
//! `cargo run --release -p relive-activity --example overhead`; medians of batches, one thread.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use relive_activity::{ActivityRegistry, DispatchLimits, NativeTask};
use relive_core::ports::{ActivityRunner, ActivityTask};
use relive_core::{ExecutionKey, Failure, Json, Namespace, RunId, WorkflowId};

const BATCHES: usize = 21;
const CALLS: u32 = 20_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let logging = std::env::args().any(|arg| arg == "--subscriber");
    if logging {
        tracing_subscriber::fmt().with_env_filter("info").with_writer(std::io::stderr).init();
    }
    let echo = |_: NativeTask, input: Json| async move { Ok::<_, Failure>(input) };
    let registry = ActivityRegistry::builder(DispatchLimits::default())
        .native_raw("raw", echo)
        .native("typed", |_, input: Vec<u64>| async move { Ok::<_, Failure>(input) })
        .build();
    let execution = ExecutionKey {
        namespace: Namespace::default(),
        workflow_id: WorkflowId::new("order-1")?,
        run_id: RunId(uuid::Uuid::nil()),
    };
    let input = Json::of(&(0..50_u64).collect::<Vec<_>>())?;
    let task = |name: &str| ActivityTask {
        execution: execution.clone(),
        command_no: 1,
        name: Arc::from(name),
        input: input.clone(),
        attempt: 1,
        task_queue: None,
        correlation_id: None,
        trace: relive_core::trace::TraceParent::of_attempt(None, RunId(uuid::Uuid::nil()), 1, 1),
        timeout: None,
        token: None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    println!("subscriber: {logging}, input {} bytes", input.len());
    for name in ["raw", "typed"] {
        let task = task(name);
        let nanos = measure(|| {
            runtime.block_on(async {
                for _ in 0..CALLS {
                    let _ = black_box(registry.run(black_box(task.clone())).await);
                }
            });
        });
        println!("{name:>6}: {nanos:6.0} ns a call");
    }
    let raw = task("raw");
    let copies = measure(|| {
        for _ in 0..CALLS {
            black_box(black_box(&raw).clone());
        }
    });
    println!("  task: {copies:6.0} ns to clone a task, which the calls above include");
    Ok(())
}

/// Nanoseconds a call, the median of the batches.
fn measure(mut batch: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..BATCHES)
        .map(|_| {
            let begin = Instant::now();
            batch();
            begin.elapsed().as_nanos() as f64 / f64::from(CALLS)
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[BATCHES / 2]
}
