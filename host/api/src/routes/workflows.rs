//! `GET /workflows`: deployed versions. `POST /workflows?name=`: deploys a component's workflows.

use axum::{
    Extension, Json,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode},
    response::{IntoResponse, Response},
};
use relive_core::{Digest, Namespace, ports::VersionRow};
use relive_engine::{
    DeployRequest, DeployTold, Engine, schema, signers::DeploymentSignature, versions::Activate, views::Deployed,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::versions;
use crate::{
    connection::Connection,
    extract::{NamespacePath, Query, read_upload},
    page::{self, List, Paging},
    problem::Problem,
    sse::{self, Emit, Text},
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
    /// The SHA-256 that the bytes must have, in hexadecimal digits.
    #[param(value_type = Option<schema::Digest>)]
    digest: Option<String>,
    /// Whether new runs take the version; they do if absent.
    activate: Option<bool>,
    /// The share of new runs that takes it, by workflow id: more than 0 and less than 100, by hundredths.
    canary_percent: Option<f64>,
    /// The canary stops by itself when more than this share of its runs failed, timed out or is blocked; 10 if absent,
    #[param(minimum = 1, maximum = 100)]
    bad_percent: Option<u8>,
    /// of at least so many; 20 if absent.
    min_runs: Option<u32>,
    /// Who deploys.
    #[param(max_length = 1000)]
    author: Option<String>,
    /// What is to be said of the version.
    #[param(max_length = 1000)]
    note: Option<String>,
}

impl DeployQuery {
    fn activate(&self) -> Result<Activate, Problem> {
        match (self.activate, self.canary_percent) {
            (Some(false), Some(_)) => {
                let what = "activate=false and canary_percent contradict each other: a canary is active";
                Err(Problem::invalid("invalid-argument", what.to_owned()))
            }
            (Some(false), None) => Ok(Activate::Not),
            (_, Some(percent)) => {
                Ok(Activate::Canary(versions::share_of(percent)?, versions::limits(self.bad_percent, self.min_runs)))
            }
            (_, None) => Ok(Activate::Whole),
        }
    }

    fn request(
        self,
        namespace: Namespace,
        bytes: Vec<u8>,
        signatures: Vec<DeploymentSignature>,
    ) -> Result<DeployRequest, Problem> {
        let digest = self.digest.as_deref().map(str::parse::<Digest>).transpose();
        let digest = digest.map_err(|e| Problem::invalid("invalid-argument", format!("the digest: {e}")))?;
        let activate = self.activate()?;
        let signed = versions::signed(self.author, None)?;
        // As long as a reason.
        versions::signed(None, self.note.clone())?;
        Ok(DeployRequest {
            name: self.name,
            digest,
            activate,
            note: self.note,
            signed,
            signatures,
            ..DeployRequest::new(namespace, bytes)
        })
    }
}

/// Deploys a component's workflows
#[utoipa::path(
    post,
    path = "/workflows",
    tag = "deploy",
    operation_id = "deploy-workflows",
    params(DeployQuery, ("relive-signature" = Option<String>, Header, description = "`ed25519 KEY SIGNATURE`, both in base64; once for each signer that the namespace requires")),
    request_body(content((schema::Component = "application/wasm"), (schema::Component = "application/octet-stream")), description = "A WebAssembly component"),
    responses(
        (status = 201, description = "Deployed, and active unless it was said otherwise", body = Deployed),
        (status = 200, description = "With `Accept: text/event-stream`: a `stage` for each part that is through (`received`, `checked`, `compiled`, `described`), `deployed` or `failed` with the problem's document, and `end`", content_type = "text/event-stream", body = String),
    ),
    extensions(("x-problems" = json!(["upload", "wrong-digest", "unsigned", "wrong-signature", "invalid-argument", "no-active-version", "try-again", "shutting-down"])))
)]
pub async fn deploy(
    State(engine): State<Engine>,
    NamespacePath(namespace): NamespacePath,
    Query(query): Query<DeployQuery>,
    connection: Option<Extension<Connection>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let signatures = signatures(&headers)?;
    let bytes = read_upload(body).await?;
    let request = query.request(namespace, bytes, signatures)?;
    if sse::is_wanted(&headers, false) {
        return Ok(sse::answer(sse::Told::new(engine.deploy_told(request).await?), connection));
    }
    Ok((StatusCode::CREATED, Json(engine.deploy(request).await?)).into_response())
}

impl Emit for DeployTold {
    fn emit(self, out: &mut Text) -> Result<bool, Problem> {
        match self {
            Self::Stage(stage) => out.event("stage", None, &json!({"stage": stage})).map(|()| false),
            Self::Deployed(deployed) => out.event("deployed", None, &deployed).map(|()| true),
            Self::Failed(error) => out.event("failed", None, &Problem::from(error).document()).map(|()| true),
        }
    }
}

/// The signatures that came with an upload.
pub(super) fn signatures(headers: &HeaderMap) -> Result<Vec<DeploymentSignature>, Problem> {
    let read = |value: &HeaderValue| {
        let text = value.to_str().map_err(|_| "a signature is text".to_owned())?;
        text.parse()
    };
    let all: Result<_, String> = headers.get_all("relive-signature").iter().map(read).collect();
    all.map_err(|what| Problem::invalid("invalid-argument", what))
}
