//! What the sandbox's tests share: hand-written guests (the testkit's), a sandbox, and cursors of runs.
#![allow(dead_code, unused_imports, reason = "each test file uses its part")]

#[path = "../../../testkit/src/hostile/reactor.rs"]
mod reactor;

pub use reactor::*;

use std::sync::Arc;

use relive_core::cursor::{Cursor, Mode, RunContext};
use relive_core::event::{EventBody, HistoryEvent, TimerFired};
use relive_core::guest::Guest;
use relive_core::limits::RunLimits;
use relive_core::{Digest, ExecutionKey, Namespace, Timestamp, WorkflowId};
use relive_sandbox::{AdmissionError, Admitted, AdmittedComponent, LoadedComponent, Sandbox, SandboxConfig};

pub fn sandbox() -> Sandbox {
    Sandbox::new(SandboxConfig::in_process()).expect("a sandbox")
}

/// The code and the message of a refusal.
pub fn refusal(result: Result<Admitted, AdmissionError>) -> (&'static str, String) {
    match result {
        Ok(admitted) => panic!("admitted: {:?}", admitted.inspection),
        Err(error) => (error.code(), error.to_string()),
    }
}

pub fn workflow(sandbox: &Sandbox, upload: &[u8]) -> LoadedComponent {
    match sandbox.admit(upload).expect("admitted").component {
        AdmittedComponent::Workflow(loaded) => loaded,
        AdmittedComponent::Activity(_) => panic!("an activity"),
    }
}

pub fn cursor(limits: RunLimits) -> Cursor {
    Cursor::new(Arc::new(RunContext {
        execution: ExecutionKey {
            namespace: Namespace::default(),
            workflow_id: WorkflowId::new("test").expect("a name"),
            run_id: "018f0000-0000-7000-8000-000000000000".parse().expect("an id"),
        },
        workflow: "demo".into(),
        digest: Digest([7; 32]),
        started_at: Timestamp(1),
        continued_from: None,
        start_key: None,
        correlation_id: None,
        trace_id: None,
        seed: [3; 32],
        limits,
    }))
}

/// Wakes the cursor as the turn of a new event would, without handing anything to the guest.
pub fn live(guest: &mut impl Guest, event_id: u64) {
    let event = HistoryEvent {
        event_id,
        timestamp: Timestamp(1_000 * event_id),
        event_version: 1,
        body: EventBody::new(Some(u64::MAX), TimerFired {}),
        hash: [0; 32],
    };
    assert_eq!(guest.cursor().apply(&event, Mode::Live), None);
}
