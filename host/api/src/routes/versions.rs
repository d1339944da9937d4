//! `GET /workflows/{name}`: how a workflow's versions do. `POST /workflows/{name}/activate` and `/rollback`: which version new
//! runs take. `GET /workflows/{name}/activations`: what they took, change by change. `DELETE /workflows/{name}/versions/{n}`.

use axum::{Json, extract::State};
use relive_core::ports::{CanaryLimits, WHOLE};
use relive_engine::{
    Engine,
    versions::{ActivateRequest, ActivationView, Signed, WorkflowReport},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    extract::{JsonBody, NamespacePath, Param, Query, VersionPath, parse, parse_or_default},
    problem::Problem,
};

/// How many of the last activations are shown unless more are asked for.
const DEFAULT_LIMIT: usize = 100;
/// Longer names and reasons are cut off nowhere, so they are refused.
const MAX_TEXT: usize = 1_000;

/// Parts of the whole that a percentage is; `None`: it is no share of a whole.
pub(super) fn share_of(percent: f64) -> Result<u16, Problem> {
    let parts = (percent * f64::from(WHOLE) / 100.0).round();
    if !(parts >= 1.0 && parts < f64::from(WHOLE)) {
        return Err(Problem::invalid(
            "invalid-argument",
            format!("{percent} percent is no share for a canary: more than 0 and less than 100, by hundredths"),
        ));
    }
    // Within 1 and 9,999, and whole.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "just checked")]
    Ok(parts as u16)
}

pub(super) fn signed(author: Option<String>, reason: Option<String>) -> Result<Signed, Problem> {
    for (what, text) in [("author", &author), ("reason", &reason)] {
        if text.as_ref().is_some_and(|text| text.len() > MAX_TEXT) {
            return Err(Problem::invalid("invalid-argument", format!("the {what} is longer than {MAX_TEXT} bytes")));
        }
    }
    Ok(Signed { author: author.map(Into::into), reason: reason.map(Into::into) })
}

pub(super) fn limits(bad_percent: Option<u8>, min_runs: Option<u32>) -> CanaryLimits {
    let default = CanaryLimits::default();
    CanaryLimits {
        bad_percent: bad_percent.unwrap_or(default.bad_percent),
        min_runs: min_runs.unwrap_or(default.min_runs),
    }
}

/// A workflow's versions, and what new runs take
#[utoipa::path(
    get,
    path = "/workflows/{workflow}",
    tag = "deploy",
    operation_id = "describe-workflow",
    responses((status = 200, description = "The versions and how they do", body = WorkflowReport)),
    extensions(("x-problems" = json!(["unknown-workflow"])))
)]
pub async fn describe(
    State(engine): State<Engine>,
    NamespacePath(namespace): NamespacePath,
    Param(workflow): Param,
) -> Result<Json<WorkflowReport>, Problem> {
    Ok(Json(engine.workflow_report(namespace, workflow).await?))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ActivateBody {
    version: u32,
    /// The share of new runs that takes it, by workflow id: more than 0 and less than 100, by hundredths. All if absent.
    canary_percent: Option<f64>,
    /// The canary stops by itself when more than this share of its runs failed, timed out or is blocked; 10 if absent,
    #[schema(minimum = 1, maximum = 100)]
    bad_percent: Option<u8>,
    /// of at least so many; 20 if absent.
    min_runs: Option<u32>,
    /// Who asks for it.
    #[schema(max_length = 1000)]
    author: Option<String>,
    #[schema(max_length = 1000)]
    reason: Option<String>,
}

/// Has new runs take a version, all of them or a share
#[utoipa::path(
    post,
    path = "/workflows/{workflow}/activate",
    tag = "deploy",
    operation_id = "activate-version",
    request_body(content = ActivateBody),
    responses((status = 200, description = "What new runs take from now on", body = ActivationView)),
    extensions(("x-problems" = json!(["unknown-workflow", "unknown-version", "no-active-version", "invalid-argument", "try-again", "shutting-down"])))
)]
pub async fn activate(
    State(engine): State<Engine>,
    NamespacePath(namespace): NamespacePath,
    Param(workflow): Param,
    JsonBody(bytes): JsonBody,
) -> Result<Json<ActivationView>, Problem> {
    let body: ActivateBody = parse(&bytes)?;
    let request = ActivateRequest {
        namespace,
        workflow,
        version: body.version,
        share: body.canary_percent.map(share_of).transpose()?,
        limits: limits(body.bad_percent, body.min_runs),
        signed: signed(body.author, body.reason)?,
    };
    Ok(Json(engine.activate(request).await?))
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RollbackBody {
    /// Who asks for it.
    #[schema(max_length = 1000)]
    author: Option<String>,
    #[schema(max_length = 1000)]
    reason: Option<String>,
}

/// Has new runs take what they took before
#[utoipa::path(
    post,
    path = "/workflows/{workflow}/rollback",
    tag = "deploy",
    operation_id = "roll-back",
    description = "A canary stops; without one the version that was active before is so again. What was rolled back before is passed over.",
    request_body(content = Option<RollbackBody>),
    responses((status = 200, description = "What new runs take from now on", body = ActivationView)),
    extensions(("x-problems" = json!(["unknown-workflow", "unknown-version", "no-active-version", "nothing-to-roll-back", "invalid-argument", "try-again", "shutting-down"])))
)]
pub async fn rollback(
    State(engine): State<Engine>,
    NamespacePath(namespace): NamespacePath,
    Param(workflow): Param,
    JsonBody(bytes): JsonBody,
) -> Result<Json<ActivationView>, Problem> {
    let body: RollbackBody = parse_or_default(&bytes)?;
    Ok(Json(engine.rollback(namespace, workflow, signed(body.author, body.reason)?).await?))
}

#[derive(Serialize, ToSchema)]
pub struct DeletedVersion {
    workflow: String,
    version: u32,
}

/// Deletes a version that nothing runs on
#[utoipa::path(
    delete,
    path = "/workflows/{workflow}/versions/{version}",
    tag = "deploy",
    operation_id = "delete-version",
    description = "Its number is not given again, unless the same bytes are deployed. Its component stays for the histories that were made by it.",
    responses((status = 200, description = "It is gone", body = DeletedVersion)),
    extensions(("x-problems" = json!(["unknown-workflow", "unknown-version", "version-in-use", "invalid-argument", "try-again", "shutting-down"])))
)]
pub async fn delete(
    State(engine): State<Engine>,
    NamespacePath(namespace): NamespacePath,
    VersionPath { workflow, version }: VersionPath,
) -> Result<Json<DeletedVersion>, Problem> {
    engine.delete_version(namespace, workflow.clone(), version).await?;
    Ok(Json(DeletedVersion { workflow, version }))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PastQuery {
    /// How many of the last ones; at most 1,000.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
}

#[derive(Serialize, ToSchema)]
pub struct Activations {
    /// Newest first.
    activations: Vec<ActivationView>,
}

/// What new runs of a workflow took, change by change
#[utoipa::path(
    get,
    path = "/workflows/{workflow}/activations",
    tag = "deploy",
    operation_id = "list-activations",
    params(PastQuery),
    responses((status = 200, description = "The changes, newest first", body = Activations))
)]
pub async fn past(
    State(engine): State<Engine>,
    NamespacePath(namespace): NamespacePath,
    Param(workflow): Param,
    Query(query): Query<PastQuery>,
) -> Result<Json<Activations>, Problem> {
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT).max(1);
    Ok(Json(Activations { activations: engine.activations(namespace, workflow, limit).await? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_become_parts() {
        let share = |percent| share_of(percent).ok();
        assert_eq!(
            (share(10.0), share(0.01), share(99.99), share(33.333)),
            (Some(1_000), Some(1), Some(9_999), Some(3_333))
        );
        for none in [0.0, -1.0, 100.0, 0.004, f64::NAN, f64::INFINITY] {
            assert!(share_of(none).is_err(), "{none}");
        }
    }
}
