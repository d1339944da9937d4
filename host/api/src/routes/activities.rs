//! `GET /activities`: what the host runs itself, each with its circuit breaker. `POST /activities?name=&grants=`: deploys
//! one activity of a component; `grants` is the manifest's `grants` as JSON, nothing if absent. With `kind=http` the body
//! is JSON: the URL that the host shall post to, and what goes with it.

use axum::{Json, body::Body, extract::State, http::StatusCode};
use relive_core::WorkflowId;
use relive_engine::{DeployActivityRequest, DeployHttpRequest, Engine, PendingPage, Target, views::ActivityView};
use serde::{Deserialize, Serialize};

use crate::{
    extract::{NamespacePath, Query, read_small, read_upload, whole_json},
    problem::Problem,
};

#[derive(Serialize)]
pub struct Activities {
    activities: Vec<ActivityView>,
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
    #[serde(default)]
    kind: Kind,
    grants: Option<String>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    #[default]
    Wasm,
    Http,
}

/// What was deployed: a component with what admission found, or a URL.
#[derive(Serialize)]
#[serde(untagged)]
pub enum Deployed {
    Wasm { name: String, kind: &'static str, inspection: relive_core::Json },
    Http(ActivityView),
}

pub async fn deploy(
    State(engine): State<Engine>,
    NamespacePath(namespace): NamespacePath,
    Query(query): Query<DeployQuery>,
    body: Body,
) -> Result<(StatusCode, Json<Deployed>), Problem> {
    let DeployQuery { name, kind, grants } = query;
    let deployed = match kind {
        Kind::Wasm => {
            let grants = grants
                .map(|text| relive_core::Json::parse(&text))
                .transpose()
                .map_err(|e| Problem::invalid("invalid-json", format!("the grants are not acceptable: {e}")))?;
            let bytes = read_upload(body).await?;
            let request = DeployActivityRequest { namespace, bytes, name: name.clone(), grants };
            Deployed::Wasm { name, kind: "wasm", inspection: engine.deploy_activity(request).await? }
        }
        Kind::Http => {
            if grants.is_some() {
                let message = "grants are for components; an http activity has `allow_private` and `allow_hosts`";
                return Err(Problem::invalid("invalid-query", message));
            }
            let config = whole_json(&read_small(body).await?, "configuration")?;
            Deployed::Http(engine.deploy_http_activity(DeployHttpRequest { namespace, name, config }).await?)
        }
    };
    Ok((StatusCode::CREATED, Json(deployed)))
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
