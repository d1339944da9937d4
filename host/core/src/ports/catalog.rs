//! The catalog port: components by digest, workflows with their versions, activities with what runs them, task queues
//! with their limits.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Activation, QueueRow, Standing, StoreError};
use crate::{
    ids::{Digest, Namespace},
    json::Json,
    time::Timestamp,
};

/// What is known of a component beside its bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ComponentMeta {
    pub digest: Digest,
    pub size: u64,
    /// What admission found out, as JSON (the sandbox's `Inspection`).
    pub inspection: Json,
    pub added_at: Timestamp,
}

/// One version of a workflow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VersionRow {
    pub workflow: Arc<str>,
    /// From 1.
    pub version: u32,
    pub digest: Digest,
    /// The name under which the component exports it.
    pub export: Arc<str>,
    pub input_schema: Option<Json>,
    pub output_schema: Option<Json>,
    /// New runs take it, but for the share of a canary.
    pub active: bool,
    pub deployed_at: Timestamp,
    /// Who deployed it first, and what they say of it.
    pub author: Option<Arc<str>>,
    pub note: Option<Arc<str>>,
    /// The public keys whose signatures were required and there, in base64 with spaces between; none: none was required.
    pub signed_by: Option<Arc<str>>,
}

/// An activity that the host runs itself.
#[derive(Clone, Debug, PartialEq)]
pub struct ActivityRow {
    pub name: Arc<str>,
    pub implementation: Implementation,
    pub deployed_at: Timestamp,
}

/// What a pre-flight of a version found.
#[derive(Clone, Debug, PartialEq)]
pub struct PreflightRow {
    pub workflow: Arc<str>,
    pub version: u32,
    pub at: Timestamp,
    /// The engine's report.
    pub report: Json,
}

/// What runs under an activity's name.
#[derive(Clone, Debug, PartialEq)]
pub enum Implementation {
    /// A component, with capabilities as JSON (relive-activity's `Grants`).
    Wasm { digest: Digest, grants: Json },
    /// A URL that the host posts to, with what goes with it as JSON (relive-activity's `HttpConfig`).
    Http { config: Json },
}

impl Implementation {
    /// The kind's name, in tables and answers.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Wasm { .. } => "wasm",
            Self::Http { .. } => "http",
        }
    }
}

/// Components, versions, activities and queues. Each write is durable when it returns; callers retry transient errors.
pub trait Catalog: Send + Sync {
    /// Keeps a component. The same bytes again are the same component.
    fn put_component(&self, meta: &ComponentMeta, bytes: &[u8]) -> Result<(), StoreError>;
    /// A component's bytes, checked against the digest.
    fn component(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError>;
    fn component_meta(&self, digest: &Digest) -> Result<Option<ComponentMeta>, StoreError>;
    /// Adds a version, numbered after the last. A digest and export that is a version already stays as it is; one that was
    /// deleted is there again, under its number. Nothing is activated.
    fn add_version(&self, namespace: &Namespace, row: &VersionRow) -> Result<VersionRow, StoreError>;
    /// Puts an activation behind the one with number `last` (0: there is none), and gives its number. `None`: another one
    /// stands there, or a version that it names is not there; nothing was changed.
    fn activate(&self, namespace: &Namespace, last: u64, next: &Activation) -> Result<Option<Activation>, StoreError>;
    /// Deletes a version that is neither active nor a canary after the activation with number `last` (0: there is none).
    /// Its number is not given again, and its component stays for the histories that were made by it. False: another
    /// activation stands there, or there is no such version; nothing was changed.
    fn delete_version(
        &self,
        namespace: &Namespace,
        workflow: &str,
        version: u32,
        last: u64,
        at: Timestamp,
    ) -> Result<bool, StoreError>;
    /// What new runs of the workflow take.
    fn standing(&self, namespace: &Namespace, workflow: &str) -> Result<Option<Standing>, StoreError>;
    /// The newest activations of a workflow, newest first.
    fn activations(&self, namespace: &Namespace, workflow: &str, limit: usize) -> Result<Vec<Activation>, StoreError>;
    /// Keeps what a pre-flight found with its version, and of the older ones so many that `keep` are left.
    fn put_preflight(&self, namespace: &Namespace, row: &PreflightRow, keep: usize) -> Result<(), StoreError>;
    /// What pre-flights of a version found, newest first.
    fn preflights(&self, namespace: &Namespace, workflow: &str, version: u32) -> Result<Vec<PreflightRow>, StoreError>;
    /// All versions of one workflow, or of all, by name and number.
    fn versions(&self, namespace: &Namespace, workflow: Option<&str>) -> Result<Vec<VersionRow>, StoreError>;
    fn put_activity(&self, namespace: &Namespace, row: &ActivityRow) -> Result<(), StoreError>;
    fn activity(&self, namespace: &Namespace, name: &str) -> Result<Option<ActivityRow>, StoreError>;
    fn activities(&self, namespace: &Namespace) -> Result<Vec<ActivityRow>, StoreError>;
    /// Puts limits in the place of those that the queue had; none at all: the row goes.
    fn put_queue(&self, row: &QueueRow) -> Result<(), StoreError>;
    /// The queues that have limits, of all namespaces, by namespace and name.
    fn queues(&self) -> Result<Vec<QueueRow>, StoreError>;
}
