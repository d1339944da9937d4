//! The versions that new runs take, with their input schemas compiled, kept in memory between deployments; and the channels
//! that components declare, kept for good.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::RwLock;
use relive_core::{
    Digest, Error, ErrorKind, Json, Namespace, WorkflowId,
    ports::{Activation, CanaryLimits, Catalog, Standing, StoreError, VersionRow},
};

use crate::channels::Declared;

/// A version, ready to start runs.
pub(crate) struct Active {
    pub row: VersionRow,
    input: Option<jsonschema::Validator>,
}

/// Findings of a schema that are shown; more help nobody.
const MAX_FINDINGS: usize = 5;

impl Active {
    fn new(row: VersionRow) -> Self {
        let schema = row.input_schema.as_ref().and_then(|s| serde_json::from_str(s.as_str()).ok());
        let input = schema.and_then(|schema: serde_json::Value| jsonschema::validator_for(&schema).ok());
        Self { row, input }
    }

    /// Checks an input against the workflow's schema.
    pub fn check(&self, input: &Json) -> Result<(), Error> {
        let Some(validator) = &self.input else {
            return Ok(());
        };
        let value: serde_json::Value = serde_json::from_str(input.as_str())
            .map_err(|e| Error::new(ErrorKind::Validation, "invalid-json", format!("the input is no JSON: {e}")))?;
        if validator.is_valid(&value) {
            return Ok(());
        }
        let findings: Vec<String> = validator
            .validate(&value)
            .err()
            .into_iter()
            .flatten()
            .take(MAX_FINDINGS)
            .map(|e| {
                let place = e.instance_path.to_string();
                format!("{}: {e}", if place.is_empty() { "input".to_owned() } else { format!("input{place}") })
            })
            .collect();
        let message = format!("the input does not fit the schema of {}: {}", self.row.workflow, findings.join("; "));
        Err(Error::new(ErrorKind::Validation, "schema-mismatch", message))
    }
}

pub(crate) type Key = (Namespace, String);

/// What new runs of a workflow take.
pub(crate) struct Takes {
    pub activation: Activation,
    active: Arc<Active>,
    canary: Option<Arc<Active>>,
}

impl Takes {
    fn new(standing: Standing) -> Self {
        let Standing { activation, active, canary } = standing;
        Self { activation, active: Arc::new(Active::new(active)), canary: canary.map(|row| Arc::new(Active::new(row))) }
    }

    /// The component of the canary, and what it is held to.
    pub fn trial(&self) -> Option<(Digest, CanaryLimits)> {
        Some((self.canary.as_ref()?.row.digest, self.activation.canary?.limits))
    }

    /// The version that a run of this workflow id takes.
    pub fn version_for(&self, namespace: &Namespace, id: &WorkflowId) -> &Arc<Active> {
        let version = self.activation.version_for(namespace, id);
        self.canary.as_ref().filter(|canary| canary.row.version == version).unwrap_or(&self.active)
    }
}

#[derive(Default)]
pub(crate) struct Workflows {
    takes: RwLock<HashMap<Key, Arc<Takes>>>,
    used: RwLock<HashSet<Key>>,
    /// Changes so far: what was read before one is not kept after it.
    changes: AtomicU64,
    /// By component. As many as have had a message: fewer, and smaller, than the components that are kept linked.
    declared: RwLock<HashMap<Digest, Arc<Declared>>>,
}

impl Workflows {
    /// What new runs of a workflow take, if a version is active.
    pub fn takes(
        &self,
        catalog: &Arc<dyn Catalog>,
        namespace: &Namespace,
        workflow: &str,
    ) -> Result<Option<Arc<Takes>>, StoreError> {
        let key = (namespace.clone(), workflow.to_owned());
        if let Some(takes) = self.takes.read().get(&key) {
            return Ok(Some(takes.clone()));
        }
        let before = self.changes.load(Ordering::Acquire);
        let Some(standing) = catalog.standing(namespace, workflow)? else {
            return Ok(None);
        };
        let takes = Arc::new(Takes::new(standing));
        let mut kept = self.takes.write();
        if self.changes.load(Ordering::Acquire) == before {
            kept.insert(key.clone(), takes.clone());
        }
        drop(kept);
        if !self.used.read().contains(&key) {
            self.used.write().insert(key);
        }
        Ok(Some(takes))
    }

    /// The version that a run of the workflow id takes, if one is active.
    pub fn for_run(
        &self,
        catalog: &Arc<dyn Catalog>,
        namespace: &Namespace,
        workflow: &str,
        id: &WorkflowId,
    ) -> Result<Option<Arc<Active>>, StoreError> {
        Ok(self.takes(catalog, namespace, workflow)?.map(|takes| takes.version_for(namespace, id).clone()))
    }

    /// Canaries that this host knows of.
    pub fn canaries(&self) -> Vec<(Namespace, Arc<Takes>)> {
        let takes = self.takes.read();
        let trying = takes.iter().filter(|(_, takes)| takes.activation.canary.is_some());
        trying.map(|((namespace, _), takes)| (namespace.clone(), takes.clone())).collect()
    }

    /// What a component's workflows declare. `None`: the catalog does not hold it.
    pub fn declared(&self, catalog: &Arc<dyn Catalog>, digest: &Digest) -> Result<Option<Arc<Declared>>, StoreError> {
        if let Some(declared) = self.declared.read().get(digest) {
            return Ok(Some(declared.clone()));
        }
        let Some(meta) = catalog.component_meta(digest)? else {
            return Ok(None);
        };
        let declared = Arc::new(Declared::of(&meta.inspection));
        self.declared.write().insert(*digest, declared.clone());
        Ok(Some(declared))
    }

    /// Workflows that this host has started runs of.
    pub fn used(&self) -> Vec<Key> {
        self.used.read().iter().cloned().collect()
    }

    /// Forgets what new runs take: another host may have changed it.
    pub fn forget(&self) {
        let mut takes = self.takes.write();
        self.changes.fetch_add(1, Ordering::AcqRel);
        takes.clear();
    }

    /// Forgets what new runs of a workflow take, after a change.
    pub fn changed(&self, namespace: &Namespace, workflow: &str) {
        let mut takes = self.takes.write();
        self.changes.fetch_add(1, Ordering::AcqRel);
        takes.remove(&(namespace.clone(), workflow.to_owned()));
    }
}
