//! Attributes as older versions stored them, for reading alone: each becomes today's by an upcast.

use std::sync::Arc;

use serde::Deserialize;

use super::workflow::{CarriedMessage, ExecutionStarted};
use crate::{
    ids::{Digest, ExecutionKey, RunId},
    json::Json,
    limits::RunLimits,
};

/// Version 1: before starts had idempotency keys.
#[derive(Deserialize)]
pub(crate) struct ExecutionStartedV1 {
    execution: ExecutionKey,
    workflow: Arc<str>,
    export: Arc<str>,
    digest: Digest,
    input: Json,
    seed: [u8; 32],
    limits: RunLimits,
    continued_from: Option<RunId>,
    carried_messages: Vec<CarriedMessage>,
    carried_cancel: bool,
}

impl From<ExecutionStartedV1> for ExecutionStarted {
    fn from(old: ExecutionStartedV1) -> Self {
        Self {
            execution: old.execution,
            workflow: old.workflow,
            export: old.export,
            digest: old.digest,
            input: old.input,
            seed: old.seed,
            limits: old.limits,
            continued_from: old.continued_from,
            carried_messages: old.carried_messages,
            carried_cancel: old.carried_cancel,
            start_key: None,
        }
    }
}
