//! One attempt of a wasm activity: a fresh instance, one call, and what its answer means.

use std::sync::Arc;

use relive_core::{
    failure::{Failure, FailureKind},
    json::Json,
    ports::{ActivityTask, AttemptEnd, AttemptResult},
};

use super::access::OpenGrants;
use super::bindings::exports::relive::activity::handler;
use super::fault;
use super::host::{LoadedActivity, WasmHost};
use crate::failures::{
    MAX_CODE_BYTES, MAX_MESSAGE_BYTES, MAX_RESULT_BYTES, code, cut, infrastructure, permanent, too_large,
};

/// The engine's deadline bounds a call, not its fuel.
const CALL_FUEL: u64 = u64::MAX;

pub(crate) async fn attempt(
    host: WasmHost,
    loaded: LoadedActivity,
    grants: Arc<OpenGrants>,
    task: ActivityTask,
) -> AttemptResult {
    let _ticking = host.enter();
    let mut store = host.store(&grants, CALL_FUEL).map_err(|e| infrastructure(code::UNAVAILABLE, e.to_string()))?;
    let task = handler::Task {
        name: task.name.to_string(),
        input: task.input.as_str().to_owned(),
        idempotency_key: task.idempotency_key(),
        attempt: task.attempt,
        workflow_id: task.execution.workflow_id.to_string(),
        run_id: task.execution.run_id.to_string(),
        correlation_id: task.correlation_id.as_deref().map(str::to_owned),
    };
    let called = async {
        let instance = loaded.0.pre.instantiate_async(&mut store).await?;
        instance.relive_activity_handler().call_run(&mut store, &task).await
    };
    match called.await {
        Ok(Ok(text)) => result(&text),
        Ok(Err(reported)) => Err(failure(reported)),
        Err(error) => Err(fault::failure(&fault::classify(&error, store.data().limiter.refused()))),
    }
}

fn result(text: &str) -> AttemptResult {
    if text.len() > MAX_RESULT_BYTES {
        return Err(too_large(text.len()));
    }
    let result = Json::parse(text);
    result
        .map(AttemptEnd::Completed)
        .map_err(|e| permanent(code::INVALID_RESULT, format!("the result is not JSON: {e}")))
}

fn failure(reported: handler::Failure) -> Failure {
    Failure {
        kind: FailureKind::Application,
        code: cut(reported.code, MAX_CODE_BYTES),
        message: cut(reported.message, MAX_MESSAGE_BYTES),
        details: reported.details.and_then(|text| details(&text)),
        retryable: reported.retryable,
    }
}

/// Details that are not JSON are kept as a string: they are for people, and the failure must not get lost for them.
fn details(text: &str) -> Option<Json> {
    if text.len() > MAX_RESULT_BYTES {
        return Json::of(&cut(text.to_owned(), MAX_MESSAGE_BYTES)).ok();
    }
    Json::parse(text).or_else(|_| Json::of(&cut(text.to_owned(), MAX_MESSAGE_BYTES))).ok()
}
