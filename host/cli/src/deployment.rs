//! Deployment of activities: the engine's port over the sandbox, the wasm host and the registry.

use relive_activity::{ActivityRegistry, DeployError, GrantError, Grants, WasmHost};
use relive_core::{Error, ErrorKind, Json, Namespace};
use relive_engine::{ActivityHost, AdmittedActivity, inspection_view};
use relive_sandbox::{AdmissionError, AdmittedComponent, Sandbox};

/// Admits activities and tells the registry of deployments.
pub struct WasmActivities {
    sandbox: Sandbox,
    wasm: WasmHost,
    registry: ActivityRegistry,
}

impl WasmActivities {
    #[must_use]
    pub fn new(sandbox: Sandbox, wasm: WasmHost, registry: ActivityRegistry) -> Self {
        Self { sandbox, wasm, registry }
    }
}

fn refused(error: &AdmissionError) -> Error {
    Error::new(ErrorKind::Validation, error.code(), format!("failed to {error}"))
}

fn not_deployable(error: &DeployError) -> Error {
    Error::new(ErrorKind::Validation, error.code(), format!("failed to {error}"))
}

fn not_granted(error: &GrantError) -> Error {
    Error::new(ErrorKind::Validation, "invalid-grants", format!("failed to {error}"))
}

impl ActivityHost for WasmActivities {
    fn admit(&self, bytes: &[u8], name: &str, grants: Option<&Json>) -> Result<AdmittedActivity, Error> {
        let grants = grants.map(Grants::from_json).transpose().map_err(|e| not_granted(&e))?.unwrap_or_default();
        if let Some(missing) = grants.directories.iter().find(|directory| !directory.host.is_dir()) {
            let message =
                format!("the granted directory {} is not there; make it and deploy again", missing.host.display());
            return Err(Error::new(ErrorKind::Validation, "invalid-grants", message));
        }
        let admitted = self.sandbox.admit(bytes).map_err(|e| refused(&e))?;
        let mut inspection = admitted.inspection;
        let AdmittedComponent::Activity(component) = admitted.component else {
            let wrong = AdmissionError::WrongKind { expected: "an activity", found: "a workflow" };
            return Err(refused(&wrong));
        };
        let loaded = self.wasm.link(inspection.digest, &component).map_err(|e| not_deployable(&e))?;
        inspection.descriptions = self.wasm.check(&loaded, &[name]).map_err(|e| not_deployable(&e))?;
        let internal = |e: relive_core::json::JsonError| {
            Error::new(ErrorKind::Unknown, "internal", format!("failed to describe the activity: {e}"))
        };
        Ok(AdmittedActivity {
            digest: inspection.digest,
            grants: grants.to_json().map_err(internal)?,
            inspection: Json::of(&inspection_view(&inspection)).map_err(internal)?,
        })
    }

    fn deployed(&self, namespace: &Namespace, name: &str) {
        self.registry.forget(namespace, name);
    }
}
