//! Waking cold executions from their memory images, over the embedded store, in this process: the engine's own clock
//! says how long each took.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use relive::host::{Host, HostConfig};
use relive_core::{Json, Namespace, WorkflowId};
use relive_engine::{DeployRequest, Engine, EngineConfig, ImageConfig, SignalRequest, StartRequest, Target};

use crate::{Figures, host::guest};

/// Wakes that are measured of each length of history.
const WAKES: usize = 400;
/// Lengths of histories, in events.
const LENGTHS: [(&str, &str, u64); 3] = [
    ("wake_us_p50_at_100", "wake_store_us_p50_at_100", 100),
    ("wake_us_p50_at_10k", "wake_store_us_p50_at_10k", 10_000),
    ("wake_us_p50_at_100k", "wake_store_us_p50_at_100k", 100_000),
];

fn target(id: &str) -> anyhow::Result<Target> {
    Ok(Target { namespace: Namespace::default(), workflow_id: WorkflowId::new(id)?, run_id: None })
}

fn open(data: &Path, images: ImageConfig) -> anyhow::Result<Host> {
    let mut config = HostConfig::new(data.to_owned());
    config.bench_activities = true;
    config.compile = relive_sandbox::CompileMode::InProcess;
    config.engine = EngineConfig { images, ..EngineConfig::default() };
    config.engine.run_limits.events = 1_000_000;
    config.engine.run_limits.history_bytes = 1 << 30;
    // One guest stays warm: whoever is woken sends the other off.
    config.engine.cache.memory_bytes = 1;
    Ok(Host::open(config)?)
}

pub fn measure(data: &Path) -> anyhow::Result<Figures> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut figures = Figures::new();
    let host = open(data, ImageConfig::default())?;
    runtime.block_on(prepare(&host.engine()))?;
    for (name, _, events) in LENGTHS {
        let (wake, signal) = runtime.block_on(wakes(&host.engine(), events))?;
        figures.insert(name, wake);
        if events == 100 {
            figures.insert("wake_signal_us_p50", signal);
        }
    }
    let images = host.engine().status().images;
    figures.insert("image_capture_us", images.capture_micros as f64 / images.captured.max(1) as f64);
    runtime.block_on(host.close());
    let host = open(data, ImageConfig { memory_bytes: 0, ..ImageConfig::default() })?;
    for (_, name, events) in LENGTHS {
        let (wake, _) = runtime.block_on(wakes(&host.engine(), events))?;
        figures.insert(name, wake);
    }
    let report = runtime.block_on(host.engine().verify(Namespace::default(), None, true))?;
    ensure!(report.findings.is_empty(), "verify --deep found something: {:?}", report.findings);
    runtime.block_on(host.close());
    Ok(figures)
}

/// Two executions of each length, waiting for a message.
async fn prepare(engine: &Engine) -> anyhow::Result<()> {
    let bytes = guest("steps/steps.wasm")?;
    engine.deploy(DeployRequest::new(Namespace::default(), bytes)).await?;
    for (_, _, events) in LENGTHS {
        for twin in 0..2 {
            let request = StartRequest {
                namespace: Namespace::default(),
                workflow: "steps_then_wait".to_owned(),
                workflow_id: Some(WorkflowId::new(&format!("{events}-{twin}"))?),
                input: Json::parse(&format!(r#"{{"steps":{},"payload_bytes":200}}"#, events / 2))?,
                correlation_id: None,
                trace: None,
                policy: relive_engine::StartPolicy::default(),
            };
            engine.start_execution(request).await?;
        }
        for twin in 0..2 {
            let target = target(&format!("{events}-{twin}"))?;
            while engine.show(target.clone()).await?.waits_for != ["message"] {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    Ok(())
}

/// The median time of a wake, and of the signal that caused it, in microseconds.
async fn wakes(engine: &Engine, events: u64) -> anyhow::Result<(f64, f64)> {
    let (mut wakes, mut signals) = (Vec::new(), Vec::new());
    let before = engine.status();
    for n in 0..WAKES {
        let laid = engine.status().images;
        let began = std::time::Instant::now();
        let request = SignalRequest {
            target: target(&format!("{events}-{}", n % 2))?,
            channel: "go".to_owned(),
            message_id: None,
            trace: None,
            input: Json::parse("{}")?,
        };
        engine.signal(request).await?;
        signals.push(began.elapsed().as_secs_f64() * 1e6);
        let now = engine.status().images;
        if now.laid == laid.laid + 1 {
            wakes.push((now.laid_micros - laid.laid_micros) as f64);
        }
    }
    let after = engine.status();
    ensure!(after.relives == before.relives, "{} executions relived", after.relives - before.relives);
    ensure!(wakes.len() * 10 > WAKES * 9, "only {} of {WAKES} were cold", wakes.len());
    Ok((median(wakes).context("wakes")?, median(signals).context("signals")?))
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// Sizes of images at rest: the guests of the examples where they wait first.
pub fn sizes(data: &Path) -> anyhow::Result<Figures> {
    let runtime = Arc::new(tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?);
    let host = open(data, ImageConfig::default())?;
    let examples = [
        ("image_bytes_steps", "steps/steps.wasm", "steps_then_wait", "message", r#"{"steps":50}"#),
        (
            "image_bytes_order",
            "order/order_workflow.wasm",
            "order",
            "timer",
            r#"{"order_id":"o","sku":"tea","quantity":1,"card":"4242","cents":100,"pause_ms":3600000}"#,
        ),
        ("image_bytes_script", "script/script.wasm", "script", "timer", r#"{"program":[{"timer":{"ms":3600000}}]}"#),
        (
            "image_bytes_approval",
            "approval/approval_workflow.wasm",
            "approval",
            "activity",
            r#"{"subject":"a trip","requested_by":"ada","approver":"grace"}"#,
        ),
        ("image_bytes_fan_out", "fan-out/fan_out_workflow.wasm", "fan-out", "activity", r#"{"count":100}"#),
        (
            "image_bytes_long_runner",
            "long-runner/long_runner_workflow.wasm",
            "long-runner",
            "activity",
            r#"{"steps":9}"#,
        ),
    ];
    let mut figures = Figures::new();
    let mut counted = (0, 0);
    for (figure, file, workflow, waited, input) in examples {
        let size = runtime.block_on(async {
            let engine = host.engine();
            let bytes = guest(file)?;
            engine.deploy(DeployRequest::new(Namespace::default(), bytes)).await?;
            for id in [workflow.to_owned(), format!("{workflow}-next")] {
                let request = StartRequest {
                    namespace: Namespace::default(),
                    workflow: workflow.to_owned(),
                    workflow_id: Some(WorkflowId::new(&id)?),
                    input: Json::parse(input)?,
                    correlation_id: None,
                    trace: None,
                    policy: relive_engine::StartPolicy::default(),
                };
                engine.start_execution(request).await?;
                while engine.show(target(&id)?).await?.waits_for.iter().all(|w| !w.starts_with(waited)) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            // The first went cold when the next one came; the start may still be on its way there.
            let mut images = engine.status().images;
            while images.captured == counted.0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
                images = engine.status().images;
            }
            let of_others = std::mem::replace(&mut counted, (images.captured, images.captured_bytes));
            let (number, bytes) = (images.captured - of_others.0, images.captured_bytes - of_others.1);
            anyhow::Ok(bytes as f64 / number.max(1) as f64)
        })?;
        figures.insert(figure, size);
    }
    runtime.block_on(host.close());
    Ok(figures)
}
