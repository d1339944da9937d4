//! `GET /activities`: what the host runs itself. `POST /activities?name=&grants=`: deploys one activity of a component;
//! `grants` is the manifest's `grants` as JSON, nothing if absent.

use axum::{Json, body::Body, extract::State, http::StatusCode};
use relive_core::ports::ActivityRow;
use relive_engine::{DeployActivityRequest, Engine, schema};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    extract::{NamespacePath, Query, read_upload},
    page::{self, List, Paging},
    problem::Problem,
};

#[derive(Serialize, ToSchema)]
pub struct Activities {
    #[schema(value_type = Vec<schema::Activity>)]
    activities: Vec<ActivityRow>,
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
    let key = |row: &ActivityRow| row.name.to_string();
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
    /// Capabilities: the manifest's `grants` as JSON; nothing if absent.
    grants: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = DeployedActivity)]
pub struct Deployed {
    name: String,
    /// What admission found out about the component.
    #[schema(value_type = schema::Json)]
    inspection: relive_core::Json,
}

/// Deploys one activity of a component
#[utoipa::path(
    post,
    path = "/activities",
    tag = "deploy",
    operation_id = "deploy-activity",
    params(DeployQuery),
    request_body(content((schema::Component = "application/wasm"), (schema::Component = "application/octet-stream")), description = "A WebAssembly component"),
    responses((status = 201, description = "Deployed", body = Deployed)),
    extensions(("x-problems" = json!(["upload", "shutting-down", "invalid-json", "invalid-grants"])))
)]
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
