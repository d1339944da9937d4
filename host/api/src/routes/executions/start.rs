//! `POST /executions`: starts one. 201 with its name once it is durable; with `?wait_ms=` 200 with how it ended.
//! This and `result` are the hot path.

use std::time::Duration;

use axum::{
    Extension, Json,
    body::Body,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use relive_core::{Namespace, RunId, WorkflowId};
use relive_engine::{
    Engine, StartRequest, Target, schema,
    views::{ResultView, Started},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::result::{MAX_WAIT_MS, outcome};
use crate::{
    connection::Connection,
    envelope::CorrelationId,
    extract::{IdempotencyKey, NamespacePath, Query, parse, read_small, take_json},
    problem::Problem,
};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct StartBody<'a> {
    /// The deployed workflow's name.
    #[schema(example = "hello")]
    workflow: String,
    /// The caller's key of the execution; at most one open run has it. A fresh UUID if absent.
    #[schema(value_type = Option<String>, max_length = 256, example = "order-17")]
    workflow_id: Option<WorkflowId>,
    /// What the workflow is started with; `null` if absent.
    #[serde(borrow)]
    #[schema(value_type = schema::Json, required = false)]
    input: Option<&'a RawValue>,
    /// Names the request in logs and events; the header's if absent.
    correlation_id: Option<String>,
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
    responses((status = 201, description = "It is durable", body = Started), (status = 200, description = "With `wait_ms`: how it ended, or how it stands", body = ResultView)),
    extensions(("x-problems" = json!(["unknown-workflow", "already-started", "schema-mismatch", "shutting-down", "fenced"])))
)]
pub async fn start(
    State(engine): State<Engine>,
    NamespacePath(namespace): NamespacePath,
    Query(query): Query<StartQuery>,
    Extension(correlation): Extension<CorrelationId>,
    connection: Option<Extension<Connection>>,
    body: Body,
) -> Result<Response, Problem> {
    let bytes = read_small(body).await?;
    let body: StartBody<'_> = parse(&bytes)?;
    let request = StartRequest {
        namespace: namespace.clone(),
        workflow: body.workflow,
        workflow_id: body.workflow_id,
        input: take_json(body.input, "input")?,
        correlation_id: Some(body.correlation_id.unwrap_or_else(|| correlation.as_str().to_owned())),
    };
    let started = engine.start_execution(request).await?;
    let Some(wait_ms) = query.wait_ms else {
        return Ok((StatusCode::CREATED, Json(started)).into_response());
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
