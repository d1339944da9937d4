//! What paths name: a namespace, an execution in it, and one thing more.

use axum::{
    extract::{FromRequestParts, RawPathParams},
    http::request::Parts,
};
use relive_core::{Namespace, RunId, WorkflowId, ids::NameError};
use relive_engine::Target;
use serde::Deserialize;

use super::Query;
use crate::problem::Problem;

/// `{namespace}`.
pub struct NamespacePath(pub Namespace);

/// `{namespace}` and `{id}`, with `?run_id=`.
pub struct ExecutionPath(pub Target);

/// The one thing more that a path names (`{channel}`, `{key}`), decoded.
pub struct Param(pub String);

/// `{workflow}` and `{version}`.
pub struct VersionPath {
    pub workflow: String,
    pub version: u32,
}

#[derive(Deserialize)]
struct RunQuery {
    run_id: Option<String>,
}

fn refused(error: NameError) -> Problem {
    Problem::invalid("invalid-name", error.to_string())
}

async fn params<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<RawPathParams, Problem> {
    RawPathParams::from_request_parts(parts, state)
        .await
        .map_err(|e| Problem::invalid("invalid-path", format!("the path is not understood: {}", e.body_text())))
}

/// Routes and extractors belong together in one crate: a parameter that the route lacks reads as empty, and is refused.
fn named<'a>(params: &'a RawPathParams, name: &str) -> &'a str {
    params.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value)
}

impl<S: Send + Sync> FromRequestParts<S> for NamespacePath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let params = params(parts, state).await?;
        Namespace::new(named(&params, "namespace")).map(Self).map_err(refused)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ExecutionPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let params = params(parts, state).await?;
        let run_id = match parts.uri.query() {
            None => None,
            Some(_) => Query::<RunQuery>::from_request_parts(parts, state).await?.0.run_id,
        };
        Ok(Self(Target {
            namespace: Namespace::new(named(&params, "namespace")).map_err(refused)?,
            workflow_id: WorkflowId::new(named(&params, "id")).map_err(refused)?,
            run_id: run_id.map(|id| id.parse::<RunId>()).transpose().map_err(refused)?,
        }))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Param {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let params = params(parts, state).await?;
        let more = params.iter().find(|(key, _)| !matches!(*key, "namespace" | "id"));
        Ok(Self(more.map_or("", |(_, value)| value).to_owned()))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for VersionPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let params = params(parts, state).await?;
        let version = named(&params, "version");
        let wrong = |_| Problem::invalid("invalid-argument", format!("{version:?} is no version's number"));
        Ok(Self { workflow: named(&params, "workflow").to_owned(), version: version.parse().map_err(wrong)? })
    }
}
