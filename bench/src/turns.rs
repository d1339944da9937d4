//! The sandbox alone: an instantiation, and a turn that takes a result and issues a command.

use std::{path::Path, sync::Arc, time::Instant};

use anyhow::{Context, anyhow};
use relive_core::{
    Digest, ExecutionKey, HistoryEvent, Json, Namespace, RunId, Timestamp, WorkflowId,
    cursor::{Cursor, Mode, RunContext},
    event::{EventBody, ExecutionStarted, TaskCompleted},
    life::Life,
    limits::RunLimits,
};
use relive_sandbox::{AdmittedComponent, LoadedComponent, Sandbox, SandboxConfig};

use crate::{Figures, host::guest};

const TURNS: u64 = 100_000;
const INSTANCES: u32 = 2_000;

pub fn measure(_data: &Path) -> anyhow::Result<Figures> {
    let sandbox = Sandbox::new(SandboxConfig::in_process())?;
    let AdmittedComponent::Workflow(component) = sandbox.admit(&guest("steps/steps.wasm")?)?.component else {
        return Err(anyhow!("steps.wasm holds no workflow"));
    };
    let body = start()?;
    let began = Instant::now();
    for _ in 0..INSTANCES {
        life(&component, &body)?;
    }
    let instantiate = began.elapsed().as_secs_f64() * 1e6 / f64::from(INSTANCES);
    let mut life = life(&component, &body)?;
    life.turn(&event(1, body), Mode::Live)?;
    let result = Json::of(&"x".repeat(200))?;
    let began = Instant::now();
    for step in 1..=TURNS {
        let body = EventBody::new(Some(step), TaskCompleted { attempt: 1, result: result.clone() });
        life.turn(&event(step * 2, body), Mode::Live)?;
    }
    let activation = began.elapsed().as_secs_f64() * 1e6 / TURNS as f64;
    Ok(Figures::from([("instantiate_us", instantiate), ("activation_us", activation)]))
}

fn start() -> anyhow::Result<EventBody> {
    let execution = ExecutionKey {
        namespace: Namespace::default(),
        workflow_id: WorkflowId::new("bench")?,
        run_id: RunId(uuid::Uuid::nil()),
    };
    let input = Json::parse(&format!(r#"{{"steps":{},"payload_bytes":200}}"#, TURNS * 2))?;
    let start = ExecutionStarted {
        execution,
        workflow: "steps".into(),
        export: "steps".into(),
        digest: Digest([0; 32]),
        input,
        seed: [1; 32],
        limits: RunLimits::default(),
        continued_from: None,
        carried_messages: Vec::new(),
        carried_cancel: false,
        start_key: None,
    };
    Ok(EventBody::new(None, start))
}

fn event(event_id: u64, body: EventBody) -> HistoryEvent {
    HistoryEvent { event_id, timestamp: Timestamp(event_id), event_version: 1, body, hash: [0; 32] }
}

fn life(component: &LoadedComponent, body: &EventBody) -> anyhow::Result<Life<relive_sandbox::ReactorGuest>> {
    let relive_core::Attributes::ExecutionStarted(start) = &body.attributes else {
        return Err(anyhow!("no start")).context("a start event");
    };
    let run = RunContext::new(start, body, Timestamp(1), start.digest);
    Ok(Life::new(component.instantiate(Cursor::new(Arc::new(run)))?))
}
