//! `GET /workflows`: deployed versions. `POST /workflows?name=`: deploys a component's workflows.

use axum::{Json, body::Body, extract::State, http::StatusCode};
use relive_core::ports::VersionRow;
use relive_engine::{DeployRequest, Engine, schema, views::Deployed};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    extract::{NamespacePath, Query, read_upload},
    page::{self, List, Paging},
    problem::Problem,
};

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Only this workflow.
    workflow: Option<String>,
    /// Versions a page; more is cut to 1,000.
    #[param(minimum = 1, maximum = 1000, default = 1000)]
    limit: Option<usize>,
    /// The `next_cursor` of the page before.
    #[param(max_length = 2048)]
    cursor: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct Versions {
    #[schema(value_type = Vec<schema::Version>)]
    workflows: Vec<VersionRow>,
    /// The `cursor` of the next page; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// Deployed versions, by name and number
#[utoipa::path(
    get,
    path = "/workflows",
    tag = "deploy",
    operation_id = "list-workflows",
    params(ListQuery),
    responses((status = 200, description = "The versions", body = Versions)),
    extensions(("x-problems" = json!(["invalid-cursor"]))),
)]
pub async fn list(
    State(engine): State<Engine>,
    NamespacePath(namespace): NamespacePath,
    Query(query): Query<ListQuery>,
) -> Result<Json<Versions>, Problem> {
    let all = engine.versions(namespace, query.workflow).await?;
    let key = |row: &VersionRow| (row.workflow.to_string(), row.version);
    let (workflows, next_cursor) = page::cut(all, &Paging::new(query.limit, query.cursor), List::Workflows, key)?;
    Ok(Json(Versions { workflows, next_cursor }))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeployQuery {
    /// The name to deploy under, if the component holds one workflow; its own names if absent.
    name: Option<String>,
}

/// Deploys a component's workflows
#[utoipa::path(
    post,
    path = "/workflows",
    tag = "deploy",
    operation_id = "deploy-workflows",
    params(DeployQuery),
    request_body(content((schema::Component = "application/wasm"), (schema::Component = "application/octet-stream")), description = "A WebAssembly component"),
    responses((status = 201, description = "Deployed, and active", body = Deployed)),
    extensions(("x-problems" = json!(["upload", "shutting-down"])))
)]
pub async fn deploy(
    State(engine): State<Engine>,
    NamespacePath(namespace): NamespacePath,
    Query(query): Query<DeployQuery>,
    body: Body,
) -> Result<(StatusCode, Json<Deployed>), Problem> {
    let bytes = read_upload(body).await?;
    let deployed = engine.deploy(DeployRequest { namespace, bytes, name: query.name }).await?;
    Ok((StatusCode::CREATED, Json(deployed)))
}
