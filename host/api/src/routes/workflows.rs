//! `GET /workflows`: deployed versions. `POST /workflows?name=`: deploys a component's workflows.

use axum::{Json, body::Body, extract::State, http::StatusCode};
use relive_core::ports::VersionRow;
use relive_engine::{DeployRequest, Engine, schema, views::Deployed};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    extract::{NamespacePath, Query, read_upload},
    problem::Problem,
};

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Only this workflow.
    workflow: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct Versions {
    #[schema(value_type = Vec<schema::Version>)]
    workflows: Vec<VersionRow>,
}

/// Deployed versions, by name and number
#[utoipa::path(
    get,
    path = "/workflows",
    tag = "deploy",
    operation_id = "list-workflows",
    params(ListQuery),
    responses((status = 200, description = "The versions", body = Versions)),
)]
pub async fn list(
    State(engine): State<Engine>,
    NamespacePath(namespace): NamespacePath,
    Query(query): Query<ListQuery>,
) -> Result<Json<Versions>, Problem> {
    Ok(Json(Versions { workflows: engine.versions(namespace, query.workflow).await? }))
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
