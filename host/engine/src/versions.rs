//! What callers ask of versions, and what they are told: shapes of requests and answers.

use std::sync::Arc;

use relive_core::{
    Digest, Namespace, Timestamp,
    ports::{Activation, CanaryLimits, WHOLE},
};
use serde::Serialize;
use utoipa::ToSchema;

pub use crate::diff::Change;
use crate::schema;

/// What a deployment does about new runs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Activate {
    /// All of them take the version.
    #[default]
    Whole,
    /// A share of them does: of [`WHOLE`].
    Canary(u16, CanaryLimits),
    /// None does until somebody activates it.
    Not,
}

/// Who changes what new runs take, and why.
#[derive(Clone, Debug, Default)]
pub struct Signed {
    pub author: Option<Arc<str>>,
    pub reason: Option<Arc<str>>,
}

/// Make a version the one that new runs take, or that a share of them takes.
#[derive(Clone, Debug)]
pub struct ActivateRequest {
    pub namespace: Namespace,
    pub workflow: String,
    pub version: u32,
    /// Of [`WHOLE`]; all if none.
    pub share: Option<u16>,
    pub limits: CanaryLimits,
    pub signed: Signed,
}

/// What new runs of a workflow take.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ActivationView {
    pub workflow: String,
    /// Grows by one with each change.
    pub number: u64,
    /// `activated`, `canary-started`, `canary-stopped` or `rolled-back`.
    pub kind: &'static str,
    /// What new runs take,
    pub version: u32,
    /// but for these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<CanaryView>,
    #[schema(value_type = schema::Timestamp)]
    pub at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct CanaryView {
    pub version: u32,
    /// The share of new runs that takes it, by workflow id.
    pub percent: f64,
    /// It stops by itself when more than this share of its runs failed, timed out or is blocked,
    pub bad_percent: u8,
    /// of at least so many.
    pub min_runs: u32,
}

impl From<Activation> for ActivationView {
    fn from(activation: Activation) -> Self {
        let percent = |share: u16| f64::from(share) * 100.0 / f64::from(WHOLE);
        Self {
            workflow: activation.workflow.to_string(),
            number: activation.number,
            kind: activation.kind.name(),
            version: activation.version,
            canary: activation.canary.map(|canary| CanaryView {
                version: canary.version,
                percent: percent(canary.share),
                bad_percent: canary.limits.bad_percent,
                min_runs: canary.limits.min_runs,
            }),
            at: activation.at,
            author: activation.author.as_deref().map(str::to_owned),
            reason: activation.reason.as_deref().map(str::to_owned),
        }
    }
}

/// How a version does.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct VersionReport {
    pub version: u32,
    #[schema(value_type = schema::Digest)]
    pub digest: Digest,
    /// `active`, `canary` or `idle`.
    pub state: &'static str,
    /// The share of new runs that takes it.
    pub percent: f64,
    /// Runs that have not ended: running ones,
    pub open: u64,
    /// and blocked ones beside them.
    pub blocked: u64,
    /// Runs that ended, of the latest ones (`counted_runs`).
    pub closed: u64,
    /// Those of them that failed or timed out.
    pub failed: u64,
    /// When the oldest open run began.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::Timestamp>)]
    pub oldest_open: Option<Timestamp>,
    #[schema(value_type = schema::Timestamp)]
    pub deployed_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A workflow's versions, and what new runs take.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct WorkflowReport {
    pub workflow: String,
    /// Absent until a version is activated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activation: Option<ActivationView>,
    /// By number.
    pub versions: Vec<VersionReport>,
    /// How many of the latest runs of the workflow were counted, at most.
    pub counted_runs: u64,
}
