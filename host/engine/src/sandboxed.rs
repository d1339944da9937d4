//! Guests from the sandbox: components are loaded from the catalog once and kept linked.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use parking_lot::{Mutex, RwLock};
use relive_core::{
    Digest, Error, ErrorKind, Json,
    cursor::Cursor,
    guest::{Guest, GuestFault, NotLaid},
    image::GuestStamp,
    ports::Catalog,
};
use relive_sandbox::{AdmissionError, AdmittedComponent, ComponentKind, Inspection, LoadedComponent, Sandbox, Stage};

use crate::guests::{Admitted, Described, GuestFactory, component_bytes};

/// The factory over a sandbox.
pub struct SandboxGuests {
    sandbox: Sandbox,
    catalog: Arc<dyn Catalog>,
    loaded: RwLock<HashMap<Digest, Arc<Slot>>>,
}

/// A component's place: whoever comes first loads it, and the others wait for that.
#[derive(Default)]
struct Slot {
    component: OnceLock<LoadedComponent>,
    loading: Mutex<()>,
}

impl SandboxGuests {
    #[must_use]
    pub fn new(sandbox: Sandbox, catalog: Arc<dyn Catalog>) -> Self {
        Self { sandbox, catalog, loaded: RwLock::default() }
    }

    fn loaded(&self, digest: &Digest) -> Result<LoadedComponent, GuestFault> {
        let slot = self.slot(digest);
        if let Some(loaded) = slot.component.get() {
            return Ok(loaded.clone());
        }
        let _first = slot.loading.lock();
        if let Some(loaded) = slot.component.get() {
            return Ok(loaded.clone());
        }
        let bytes = component_bytes(&self.catalog, digest)?;
        let loaded = self
            .sandbox
            .load(*digest, &bytes)
            .map_err(|e| GuestFault::Host(format!("load component {digest}: {e}")))?;
        Ok(slot.component.get_or_init(|| loaded).clone())
    }

    fn slot(&self, digest: &Digest) -> Arc<Slot> {
        if let Some(slot) = self.loaded.read().get(digest) {
            return slot.clone();
        }
        self.loaded.write().entry(*digest).or_default().clone()
    }
}

fn refused(error: &AdmissionError) -> Error {
    Error::new(ErrorKind::Validation, error.code(), format!("failed to {error}"))
}

impl GuestFactory for SandboxGuests {
    fn admit(&self, bytes: &[u8]) -> Result<Admitted, Error> {
        self.admit_told(bytes, &|_| {})
    }

    fn admit_told(&self, bytes: &[u8], told: &dyn Fn(&'static str)) -> Result<Admitted, Error> {
        let stage = |stage| {
            told(match stage {
                Stage::Checked => "checked",
                Stage::Compiled => "compiled",
            });
        };
        let admitted = self.sandbox.admit_told(bytes, &stage).map_err(|e| refused(&e))?;
        if let AdmittedComponent::Workflow(loaded) = &admitted.component {
            self.slot(&admitted.inspection.digest).component.get_or_init(|| loaded.clone());
        }
        let inspection = Json::of(&inspection_view(&admitted.inspection))
            .map_err(|e| Error::new(ErrorKind::Unknown, "internal", format!("describe the component: {e}")))?;
        let schema = |text: &Option<String>| text.as_deref().and_then(|t| Json::parse(t).ok());
        let workflows = admitted.inspection.descriptions.iter().map(|d| Described {
            name: d.name.clone(),
            summary: d.summary.clone(),
            input_schema: schema(&d.input_schema),
            output_schema: schema(&d.output_schema),
            channels: d.channels.clone(),
        });
        let holds_workflows = matches!(admitted.component, AdmittedComponent::Workflow(_));
        let workflows = if holds_workflows { workflows.collect() } else { Vec::new() };
        Ok(Admitted { digest: admitted.inspection.digest, inspection, workflows })
    }

    fn instantiate(&self, digest: &Digest, cursor: Cursor) -> Result<Box<dyn Guest>, GuestFault> {
        let guest = self.loaded(digest)?.instantiate(cursor)?;
        Ok(Box::new(guest))
    }

    fn warm(&self, digest: &Digest) -> Result<(), GuestFault> {
        self.loaded(digest).map(|_| ())
    }

    fn lay(&self, digest: &Digest, cursor: Cursor, stamp: &GuestStamp, body: &[u8]) -> Result<Box<dyn Guest>, NotLaid> {
        let guest = self.loaded(digest)?.lay(cursor, stamp, body)?;
        Ok(Box::new(guest))
    }

    fn instantiate_bytes(&self, bytes: &[u8], cursor: Cursor) -> Result<Box<dyn Guest>, GuestFault> {
        let admitted = self.sandbox.admit(bytes).map_err(|e| GuestFault::Host(e.to_string()))?;
        match admitted.component {
            AdmittedComponent::Workflow(loaded) => Ok(Box::new(loaded.instantiate(cursor)?)),
            AdmittedComponent::Activity(_) => {
                Err(GuestFault::Host("the component holds activities, no workflow".to_owned()))
            }
        }
    }
}

/// The inspection as the API shows it.
#[must_use]
pub fn inspection_view(i: &Inspection) -> serde_json::Value {
    let schema =
        |text: &Option<String>| text.as_deref().and_then(|t| serde_json::from_str::<serde_json::Value>(t).ok());
    let descriptions: Vec<_> = i
        .descriptions
        .iter()
        .map(|d| {
            serde_json::json!({
                "name": d.name, "summary": d.summary,
                "input_schema": schema(&d.input_schema), "output_schema": schema(&d.output_schema),
                "channels": d.channels,
            })
        })
        .collect();
    serde_json::json!({
        "digest": i.digest, "size": i.size, "from_core_module": i.from_core_module,
        "kind": match i.kind { ComponentKind::Workflow => "workflow", ComponentKind::Activity => "activity" },
        "imports": i.imports, "exports": i.exports, "wit": i.wit,
        "core_modules": i.core_modules, "functions": i.functions, "memories": i.memories, "tables": i.tables,
        "initial_memory": i.initial_memory,
        "memory_images": { "eligible": i.image.is_ok(), "reason": i.image.as_ref().err() },
        "descriptions": descriptions,
    })
}
