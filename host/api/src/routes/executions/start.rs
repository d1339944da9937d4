//! `POST /executions`: starts one. 201 with its name once it is durable, 200 with that of a run that was there; with
//! `?wait_ms=` 200 with how it ended.
//! This and `result` are the hot path.

use std::time::Duration;

use axum::{
    Extension, Json,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use relive_core::{Namespace, RunId, WorkflowId};
use relive_engine::{
    Engine, OnConflict, Reuse, StartPolicy, StartRequest, Target, schema,
    views::{ResultView, Started},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::result::{MAX_WAIT_MS, outcome};
use crate::{
    connection::Connection,
    envelope::CorrelationId,
    extract::{IdempotencyKey, JsonBody, NamespacePath, Query, idempotency_key, parse, take_json},
    problem::Problem,
    trace::{self, Trace},
};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct StartBody<'a> {
    /// The deployed workflow's name.
    #[schema(example = "hello")]
    workflow: String,
    /// The caller's key of the execution; at most one open run has it. If absent it derives from the idempotency key,
    /// or is a fresh UUID.
    #[schema(value_type = Option<String>, max_length = 256, example = "order-17")]
    workflow_id: Option<WorkflowId>,
    /// What the workflow is started with; `null` if absent.
    #[serde(borrow)]
    #[schema(value_type = schema::Json, required = false)]
    input: Option<&'a RawValue>,
    /// Names the request in logs and events; the header's if absent.
    correlation_id: Option<String>,
    /// The idempotency key, as the header `Idempotency-Key`: the same request again is answered with the run that it
    /// started, also after that has ended.
    #[schema(max_length = 256)]
    request_id: Option<String>,
    /// What to do if the workflow id has an open run.
    #[serde(default)]
    on_conflict: OnConflict,
    /// What to do if the latest run of the workflow id has ended.
    #[serde(default)]
    reuse: Reuse,
}

/// The answers of status 200.
#[derive(ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "read by the derive alone")]
enum StartAnswer {
    Existing(Started),
    Stands(ResultView),
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StartQuery {
    /// Answer once the execution has ended, and wait this long at most; more is cut to 60,000.
    #[param(minimum = 0, maximum = 60_000)]
    wait_ms: Option<u64>,
}

/// Starts an execution
#[utoipa::path(
    post,
    path = "/executions",
    tag = "executions",
    operation_id = "start",
    params(StartQuery, IdempotencyKey),
    request_body(content = StartBody),
    responses((status = 201, description = "It is durable", body = Started), (status = 200, description = "The run that was there already; with `wait_ms`: how the run ended, or how it stands", body = inline(StartAnswer))),
    extensions(("x-problems" = json!(["unknown-workflow", "already-started", "id-reuse-refused", "idempotency-mismatch", "invalid-argument", "schema-mismatch", "shutting-down", "fenced"])))
)]
pub async fn start(
    State(engine): State<Engine>,
    NamespacePath(namespace): NamespacePath,
    Query(query): Query<StartQuery>,
    Extension(correlation): Extension<CorrelationId>,
    (trace, connection): (Option<Extension<Trace>>, Option<Extension<Connection>>),
    headers: HeaderMap,
    JsonBody(bytes): JsonBody,
) -> Result<Response, Problem> {
    let body: StartBody<'_> = parse(&bytes)?;
    let request = StartRequest {
        namespace: namespace.clone(),
        workflow: body.workflow,
        workflow_id: body.workflow_id,
        input: take_json(body.input, "input")?,
        correlation_id: Some(body.correlation_id.unwrap_or_else(|| correlation.as_str().to_owned())),
        trace: trace.map(|Extension(trace)| trace.id()),
        policy: StartPolicy {
            request_id: idempotency_key(&headers, body.request_id, "request_id")?,
            on_conflict: body.on_conflict,
            reuse: body.reuse,
        },
    };
    let started = engine.start_execution(request).await?;
    if !started.existing {
        trace::started(started.run_id);
    }
    let Some(wait_ms) = query.wait_ms else {
        let status = if started.existing { StatusCode::OK } else { StatusCode::CREATED };
        return Ok((status, Json(started)).into_response());
    };
    let target = of(namespace, &started)?;
    let wait = Duration::from_millis(wait_ms.min(MAX_WAIT_MS));
    Ok(Json(outcome(&engine, target, Some(wait), connection).await?).into_response())
}

fn of(namespace: Namespace, started: &Started) -> Result<Target, Problem> {
    let workflow_id =
        WorkflowId::new(&started.workflow_id).map_err(|e| Problem::invalid("invalid-name", e.to_string()))?;
    let run_id: RunId = started.run_id;
    Ok(Target { namespace, workflow_id, run_id: Some(run_id) })
}
