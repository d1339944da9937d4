//! `GET /workflows`: deployed versions. `POST /workflows?name=`: deploys a component's workflows.

use axum::{Json, body::Body, extract::State, http::StatusCode};
use relive_core::ports::VersionRow;
use relive_engine::{DeployRequest, Engine, views::Deployed};
use serde::{Deserialize, Serialize};

use crate::{
    extract::{NamespacePath, Query, read_upload},
    problem::Problem,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    workflow: Option<String>,
}

#[derive(Serialize)]
pub struct Versions {
    workflows: Vec<VersionRow>,
}

pub async fn list(
    State(engine): State<Engine>,
    NamespacePath(namespace): NamespacePath,
    Query(query): Query<ListQuery>,
) -> Result<Json<Versions>, Problem> {
    Ok(Json(Versions { workflows: engine.versions(namespace, query.workflow).await? }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeployQuery {
    /// The name to deploy under, if the component holds one workflow; its own names if absent.
    name: Option<String>,
}

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
