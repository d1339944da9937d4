//! The active versions, with their input schemas compiled, kept in memory between deployments; and the channels that
//! components declare, kept for good.

use std::{collections::HashMap, sync::Arc};

use parking_lot::RwLock;
use relive_core::{
    Digest, Error, ErrorKind, Json, Namespace,
    ports::{Catalog, StoreError, VersionRow},
};

use crate::channels::Declared;

/// An active version, ready to start runs.
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

type Key = (Namespace, String);

#[derive(Default)]
pub(crate) struct Workflows {
    active: RwLock<HashMap<Key, Arc<Active>>>,
    /// By component. As many as have had a message: fewer, and smaller, than the components that are kept linked.
    declared: RwLock<HashMap<Digest, Arc<Declared>>>,
}

impl Workflows {
    /// The active version of a workflow, if it is deployed.
    pub fn active(
        &self,
        catalog: &Arc<dyn Catalog>,
        namespace: &Namespace,
        workflow: &str,
    ) -> Result<Option<Arc<Active>>, StoreError> {
        let key = (namespace.clone(), workflow.to_owned());
        if let Some(active) = self.active.read().get(&key) {
            return Ok(Some(active.clone()));
        }
        let Some(row) = catalog.active_version(namespace, workflow)? else {
            return Ok(None);
        };
        let active = Arc::new(Active::new(row));
        self.active.write().insert(key, active.clone());
        Ok(Some(active))
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

    /// Forgets all active versions: another host may have deployed.
    pub fn forget(&self) {
        self.active.write().clear();
    }

    /// Forgets a version after a deployment.
    pub fn changed(&self, namespace: &Namespace, workflow: &str) {
        self.active.write().remove(&(namespace.clone(), workflow.to_owned()));
    }
}
