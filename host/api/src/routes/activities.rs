//! `GET /activities`: what the host runs itself. `POST /activities?name=&grants=`: deploys one activity of a component;
//! `grants` is the manifest's `grants` as JSON, nothing if absent.

use axum::{Json, body::Body, extract::State, http::StatusCode};
use relive_core::{WorkflowId, ports::ActivityRow};
use relive_engine::{DeployActivityRequest, Engine, PendingPage, Target};
use serde::{Deserialize, Serialize};

use crate::{
    extract::{NamespacePath, Query, read_upload},
    problem::Problem,
};

#[derive(Serialize)]
pub struct Activities {
    activities: Vec<ActivityRow>,
}

pub async fn list(
    State(engine): State<Engine>,
    NamespacePath(namespace): NamespacePath,
) -> Result<Json<Activities>, Problem> {
    Ok(Json(Activities { activities: engine.activities(namespace).await? }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeployQuery {
    name: String,
    grants: Option<String>,
}

#[derive(Serialize)]
pub struct Deployed {
    name: String,
    inspection: relive_core::Json,
}

pub async fn deploy(
    State(engine): State<Engine>,
    NamespacePath(namespace): NamespacePath,
    Query(query): Query<DeployQuery>,
    body: Body,
) -> Result<(StatusCode, Json<Deployed>), Problem> {
    let grants = query
        .grants
        .map(|text| relive_core::Json::parse(&text))
        .transpose()
        .map_err(|e| Problem::invalid("invalid-json", format!("the grants are not acceptable: {e}")))?;
    let bytes = read_upload(body).await?;
    let name = query.name.clone();
    let inspection =
        engine.deploy_activity(DeployActivityRequest { namespace, bytes, name: query.name, grants }).await?;
    Ok((StatusCode::CREATED, Json(Deployed { name, inspection })))
}

const DEFAULT_LIMIT: usize = 100;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PendingQuery {
    /// Of this execution alone; the namespace's if absent.
    workflow_id: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

/// `GET /activities/pending`: what is scheduled and not resolved.
pub async fn pending(
    State(engine): State<Engine>,
    NamespacePath(namespace): NamespacePath,
    Query(query): Query<PendingQuery>,
) -> Result<Json<PendingPage>, Problem> {
    let invalid = |e: relive_core::ids::NameError| Problem::invalid("invalid-name", e.to_string());
    let id = query.workflow_id.as_deref().map(WorkflowId::new).transpose().map_err(invalid)?;
    let target = id.map(|workflow_id| Target { namespace: namespace.clone(), workflow_id, run_id: None });
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    Ok(Json(engine.pending_activities(namespace, target, query.after, limit).await?))
}
