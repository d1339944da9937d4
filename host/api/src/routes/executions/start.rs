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
use relive_engine::{Engine, StartRequest, Target, views::Started};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::result::{MAX_WAIT_MS, outcome};
use crate::{
    connection::Connection,
    envelope::CorrelationId,
    extract::{NamespacePath, Query, parse, read_small, take_json},
    problem::Problem,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StartBody<'a> {
    workflow: String,
    workflow_id: Option<WorkflowId>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    correlation_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartQuery {
    wait_ms: Option<u64>,
}

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
