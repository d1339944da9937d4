//! What callers ask of the engine. Shapes are plain; checking them is the engine's.

use std::time::Duration;

use relive_core::{Digest, Json, Namespace, RunId, WorkflowId, trace::TraceId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    signers::DeploymentSignature,
    versions::{Activate, Signed},
};

/// Names an execution: its open run, else its latest, unless a run is given.
#[derive(Clone, Debug)]
pub struct Target {
    pub namespace: Namespace,
    pub workflow_id: WorkflowId,
    pub run_id: Option<RunId>,
}

/// Start an execution.
#[derive(Clone, Debug)]
pub struct StartRequest {
    pub namespace: Namespace,
    pub workflow: String,
    /// Derived from the policy's `request_id` if none; a fresh UUID if there is none of that either.
    pub workflow_id: Option<WorkflowId>,
    pub input: Json,
    pub correlation_id: Option<String>,
    /// The trace that the request is part of; the run and its activities go on in it.
    pub trace: Option<TraceId>,
    pub policy: StartPolicy,
}

/// What a start does about runs that the workflow id has had. The default looks at nothing before it starts.
#[derive(Clone, Debug, Default)]
pub struct StartPolicy {
    /// An idempotency key: as long as the run that it started (or one that continues it) is the latest of its workflow
    /// id, the same request with the same key is answered with that run.
    pub request_id: Option<String>,
    pub on_conflict: OnConflict,
    pub reuse: Reuse,
}

/// What a start does if the workflow id has an open run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnConflict {
    /// It is refused with `already-started`.
    #[default]
    Fail,
    /// It is answered with that run.
    UseExisting,
    /// That run is terminated first.
    TerminateExisting,
}

/// What a start does if the latest run of the workflow id has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Reuse {
    #[default]
    Allow,
    /// It is refused with `id-reuse-refused` if that run completed.
    AllowFailedOnly,
    /// It is refused with `id-reuse-refused`.
    Reject,
}

/// Deploy workflows of a component.
#[derive(Clone, Debug)]
pub struct DeployRequest {
    pub namespace: Namespace,
    /// The uploaded file: a component, or a core module with component metadata.
    pub bytes: Vec<u8>,
    /// The name to deploy under, if the component holds just one workflow; the exported names if none.
    pub name: Option<String>,
    /// What the bytes' SHA-256 must be.
    pub digest: Option<Digest>,
    pub activate: Activate,
    pub note: Option<String>,
    pub signed: Signed,
    pub signatures: Vec<DeploymentSignature>,
}

impl DeployRequest {
    /// The component's workflows under their names, active at once.
    #[must_use]
    pub fn new(namespace: Namespace, bytes: Vec<u8>) -> Self {
        let (activate, signed) = (Activate::default(), Signed::default());
        Self { namespace, bytes, name: None, digest: None, activate, note: None, signed, signatures: Vec::new() }
    }
}

/// Deploy one activity of a component.
#[derive(Clone, Debug)]
pub struct DeployActivityRequest {
    pub namespace: Namespace,
    pub bytes: Vec<u8>,
    pub name: String,
    /// Capabilities, as the manifest's `grants` in JSON; nothing if none.
    pub grants: Option<Json>,
    pub signatures: Vec<DeploymentSignature>,
}

/// Make a worker known.
#[derive(Clone, Debug, Default)]
pub struct RegisterRequest {
    /// What it calls itself: host and process, mostly. 1 to 256 bytes.
    pub identity: String,
    pub task_queues: Vec<String>,
    /// What it runs; anything if empty.
    pub activities: Vec<String>,
    /// The library that it is made with.
    pub sdk: Option<String>,
    /// The id that it had before the host lost it.
    pub replaces: Option<String>,
    /// Tokens of the attempts that it really has under that id; the others go back. None: it has them all.
    pub holds: Option<Vec<String>>,
}

/// Take tasks.
#[derive(Clone, Debug)]
pub struct PollRequest {
    pub namespace: Namespace,
    pub task_queue: String,
    /// The id that registering gave.
    pub worker: String,
    /// Take these activities alone.
    pub activities: Option<Vec<String>>,
    /// 1 to 100.
    pub max_tasks: usize,
    /// How long to wait if nothing is ready; at most a minute.
    pub wait: Duration,
}

/// Deploy one activity that is a URL.
#[derive(Clone, Debug)]
pub struct DeployHttpRequest {
    pub namespace: Namespace,
    pub name: String,
    /// The URL and what goes with it, as the manifest has it, in JSON.
    pub config: Json,
}

/// Send a message.
#[derive(Clone, Debug)]
pub struct SignalRequest {
    pub target: Target,
    pub channel: String,
    /// The same id twice is one message; a fresh UUID if none.
    pub message_id: Option<String>,
    /// The trace that the request is part of.
    pub trace: Option<TraceId>,
    pub input: Json,
}
