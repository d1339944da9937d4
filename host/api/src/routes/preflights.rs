//! `POST /workflows/{name}/preflight`: relives executions of a workflow on other code and says which agree, as server-sent
//! events while it runs, or all at once. `GET /workflows/{name}/preflights?version=`: what earlier ones found.

use std::time::Duration;

use axum::{
    Extension, Json,
    body::Body,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use relive_engine::{
    Engine,
    preflight::{Code, PreflightReport, PreflightRequest, Told},
    schema,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use crate::{
    connection::Connection,
    extract::{NamespacePath, Param, Query, read_upload},
    problem::Problem,
    sse::{self, Emit, Text},
};

/// Closed executions of longer ago are not looked for.
const MAX_CLOSED_HOURS: u64 = 24 * 366;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PreflightQuery {
    /// The version to relive them on; absent if the body is a component that is not deployed.
    version: Option<u32>,
    /// So many of the open executions, the same each time; all if absent.
    #[param(minimum = 1)]
    sample: Option<usize>,
    /// Also executions that ended within so many hours.
    #[param(maximum = 8784)]
    closed_hours: Option<u64>,
    /// Send progress as server-sent events, also asked for by `Accept: text/event-stream`: `progress` now and then, `report`
    /// or `failed`, and `end`.
    #[serde(default)]
    follow: bool,
    /// Send a `verdict` for each execution, too.
    #[serde(default)]
    verdicts: bool,
    /// Also relive executions that run on this code already: for `version_answers` of the report.
    #[serde(default)]
    answers: bool,
}

/// Relives executions on other code, without effects
#[utoipa::path(
    post,
    path = "/workflows/{workflow}/preflight",
    tag = "deploy",
    operation_id = "preflight",
    params(PreflightQuery),
    request_body(content((schema::Component = "application/wasm"), (schema::Component = "application/octet-stream")), description = "A component that is not deployed; empty for a version"),
    responses((status = 200, description = "What was found", content((PreflightReport = "application/json"), (String = "text/event-stream")))),
    extensions(("x-problems" = json!(["unknown-version", "upload", "invalid-argument", "shutting-down"])))
)]
pub async fn preflight(
    State(engine): State<Engine>,
    NamespacePath(namespace): NamespacePath,
    Param(workflow): Param,
    Query(query): Query<PreflightQuery>,
    connection: Option<Extension<Connection>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let follow = query.follow;
    let invalid = |what: &str| Problem::invalid("invalid-argument", what.to_owned());
    let wasm = read_upload(body).await?;
    let code = match (query.version, wasm.is_empty()) {
        (Some(version), true) => Code::Version(version),
        (None, false) => Code::Wasm(wasm),
        (None, true) => return Err(invalid("name a version, or send a component")),
        (Some(_), false) => return Err(invalid("name a version or send a component, not both")),
    };
    let closed_within = query.closed_hours.map(|hours| Duration::from_secs(hours.min(MAX_CLOSED_HOURS) * 3_600));
    let PreflightQuery { sample, verdicts, answers, .. } = query;
    let request = PreflightRequest { namespace, workflow, code, sample, closed_within, verdicts, answers };
    let mut told = engine.preflight(request).await?;
    if sse::is_wanted(&headers, follow) {
        return Ok(sse::answer(sse::Told::new(told), connection));
    }
    while let Some(next) = told.recv().await {
        match next {
            Told::Report(report) => return Ok(Json(report).into_response()),
            Told::Failed(error) => return Err(error.into()),
            Told::Progress(_) | Told::Verdict(_) => {}
        }
    }
    Err(Problem::internal())
}

impl Emit for Told {
    fn emit(self, out: &mut Text) -> Result<bool, Problem> {
        match self {
            Self::Progress(progress) => out.event("progress", None, &progress).map(|()| false),
            Self::Verdict(verdict) => out.event("verdict", None, &verdict).map(|()| false),
            Self::Report(report) => out.event("report", None, &report).map(|()| true),
            Self::Failed(error) => {
                out.event("failed", None, &json!({"code": error.code, "detail": error.message})).map(|()| true)
            }
        }
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PastQuery {
    /// Of this version.
    version: u32,
}

#[derive(Serialize, ToSchema)]
pub struct Preflights {
    /// Newest first; the last few of a version are kept.
    #[schema(value_type = Vec<PreflightReport>)]
    preflights: Vec<relive_core::Json>,
}

/// What pre-flights of a version found
#[utoipa::path(
    get,
    path = "/workflows/{workflow}/preflights",
    tag = "deploy",
    operation_id = "list-preflights",
    params(PastQuery),
    responses((status = 200, description = "The reports, newest first", body = Preflights))
)]
pub async fn past(
    State(engine): State<Engine>,
    NamespacePath(namespace): NamespacePath,
    Param(workflow): Param,
    Query(query): Query<PastQuery>,
) -> Result<Json<Preflights>, Problem> {
    Ok(Json(Preflights { preflights: engine.preflights(namespace, workflow, query.version).await? }))
}
