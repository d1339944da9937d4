//! `GET /activities`: what the host runs itself, each with its circuit breaker. `POST /activities?name=&grants=`: deploys
//! one activity of a component; `grants` is the manifest's `grants` as JSON, nothing if absent, with its `breaker` and
//! `concurrency` among them. With `kind=http` the body
//! is JSON: the URL that the host shall post to, and what goes with it.

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use relive_core::WorkflowId;
use relive_engine::{
    DeployActivityRequest, DeployHttpRequest, Engine, PendingActivity, Target, schema, views::ActivityView,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::workflows::signatures;
use crate::{
    extract::{NamespacePath, Query, read_small, read_upload, whole_json},
    page::{self, List, Paging},
    problem::Problem,
};

#[derive(Serialize, ToSchema)]
pub struct Activities {
    activities: Vec<ActivityView>,
    /// The `cursor` of the next page; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// What the host runs itself
#[utoipa::path(
    get,
    path = "/activities",
    tag = "deploy",
    operation_id = "list-activities",
    params(ListQuery),
    responses((status = 200, description = "The activities, by name", body = Activities)),
    extensions(("x-problems" = json!(["invalid-cursor"])))
)]
pub async fn list(
    State(engine): State<Engine>,
    NamespacePath(namespace): NamespacePath,
    Query(query): Query<ListQuery>,
) -> Result<Json<Activities>, Problem> {
    let all = engine.activities(namespace).await?;
    let key = |row: &ActivityView| row.name.clone();
    let (activities, next_cursor) = page::cut(all, &Paging::new(query.limit, query.cursor), List::Activities, key)?;
    Ok(Json(Activities { activities, next_cursor }))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Activities a page; more is cut to 1,000.
    #[param(minimum = 1, maximum = 1000, default = 1000)]
    limit: Option<usize>,
    /// The `next_cursor` of the page before.
    #[param(max_length = 2048)]
    cursor: Option<String>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeployQuery {
    /// The name to deploy under.
    #[param(example = "charge")]
    name: String,
    /// What the body is.
    #[serde(default)]
    #[param(inline)]
    kind: Kind,
    /// Capabilities of a component: the manifest's `grants` as JSON; nothing if absent. Its `breaker` and `concurrency`
    /// go among them.
    grants: Option<String>,
}

#[derive(Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    /// A component.
    #[default]
    Wasm,
    /// JSON: the URL that the host shall post to, and what goes with it.
    Http,
}

/// What was deployed: a component with what admission found, or a URL.
#[derive(Serialize, ToSchema)]
#[schema(as = DeployedActivity)]
#[serde(untagged)]
pub enum Deployed {
    Wasm {
        name: String,
        kind: &'static str,
        #[schema(value_type = schema::Json)]
        inspection: relive_core::Json,
    },
    Http(Box<ActivityView>),
}

/// Deploys one activity: of a component, or behind a URL
#[utoipa::path(
    post,
    path = "/activities",
    tag = "deploy",
    operation_id = "deploy-activity",
    params(DeployQuery, ("relive-signature" = Option<String>, Header, description = "`ed25519 KEY SIGNATURE`, both in base64; once for each signer that the namespace requires")),
    request_body(
        content(
            (schema::Component = "application/wasm"),
            (schema::Component = "application/octet-stream"),
            (Object = "application/json"),
        ),
        description = "A WebAssembly component; with `kind=http` how it is called",
    ),
    responses((status = 201, description = "Deployed", body = Deployed)),
    extensions(("x-problems" = json!(["upload", "unsigned", "wrong-signature", "invalid-argument", "shutting-down", "invalid-json", "invalid-grants", "invalid-http-activity"])))
)]
pub async fn deploy(
    State(engine): State<Engine>,
    NamespacePath(namespace): NamespacePath,
    Query(query): Query<DeployQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Deployed>), Problem> {
    let DeployQuery { name, kind, grants } = query;
    let deployed = match kind {
        Kind::Wasm => {
            let grants = grants
                .map(|text| relive_core::Json::parse(&text))
                .transpose()
                .map_err(|e| Problem::invalid("invalid-json", format!("the grants are not acceptable: {e}")))?;
            let signatures = signatures(&headers)?;
            let bytes = read_upload(body).await?;
            let request = DeployActivityRequest { namespace, bytes, name: name.clone(), grants, signatures };
            Deployed::Wasm { name, kind: "wasm", inspection: engine.deploy_activity(request).await? }
        }
        Kind::Http => {
            if grants.is_some() {
                let message = "grants are for components; an http activity has `allow_private` and `allow_hosts`";
                return Err(Problem::invalid("invalid-query", message));
            }
            let config = whole_json(&read_small(body).await?, "configuration")?;
            let view = engine.deploy_http_activity(DeployHttpRequest { namespace, name, config }).await?;
            Deployed::Http(Box::new(view))
        }
    };
    Ok((StatusCode::CREATED, Json(deployed)))
}

const DEFAULT_LIMIT: usize = 100;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PendingQuery {
    /// Of this execution alone; the namespace's if absent.
    workflow_id: Option<String>,
    /// Activities a page; more is cut to 1,000.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// The `next_cursor` of the page before.
    #[param(max_length = 2048)]
    cursor: Option<String>,
}

/// A page of pending activities, by execution and step.
#[derive(Serialize, ToSchema)]
pub struct PendingPage {
    activities: Vec<PendingActivity>,
    /// The `cursor` of the next page; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// Activities that are scheduled and not resolved
#[utoipa::path(
    get,
    path = "/activities/pending",
    tag = "workers",
    operation_id = "pending-activities",
    params(PendingQuery),
    responses((status = 200, description = "A page of them", body = PendingPage)),
    extensions(("x-problems" = json!(["unknown-execution", "invalid-cursor"])))
)]
pub async fn pending(
    State(engine): State<Engine>,
    NamespacePath(namespace): NamespacePath,
    Query(query): Query<PendingQuery>,
) -> Result<Json<PendingPage>, Problem> {
    let invalid = |e: relive_core::ids::NameError| Problem::invalid("invalid-name", e.to_string());
    let id = query.workflow_id.as_deref().map(WorkflowId::new).transpose().map_err(invalid)?;
    let target = id.map(|workflow_id| Target { namespace: namespace.clone(), workflow_id, run_id: None });
    let paging = Paging::new(query.limit, query.cursor);
    let after = paging.position::<String>(List::Pending)?;
    let found = engine.pending_activities(namespace, target, after, paging.limit(DEFAULT_LIMIT)).await?;
    let next_cursor = found.next.map(|next| page::encode(List::Pending, &next));
    Ok(Json(PendingPage { activities: found.activities, next_cursor }))
}
