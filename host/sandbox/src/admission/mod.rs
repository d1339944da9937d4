//! Pure checks of uploaded bytes, before anything is compiled or run.
//!
//! Owns the order of the checks: caps and structure, core module to component, allowed names, validation. The result
//! is a [`Checked`] component with an [`Inspection`] that lacks only what the component says of itself (`describe`).
//! Must not know: compilers, caches, instances.

pub mod caps;
mod contract;
mod eligibility;
mod error;
mod scan;
mod wit;

use std::borrow::Cow;

use relive_core::Digest;
use wasmparser::{Validator, WasmFeatures};

use crate::instrument::instrument;

pub use contract::ComponentKind;
pub use error::AdmissionError;
pub use scan::Structure;

/// A workflow or an activity that a component holds, in its own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Letters, digits, `-`, `_`, `.`; at most 128 bytes; unique in the component.
    pub name: String,
    pub summary: Option<String>,
    /// JSON Schemas, as the component gave them.
    pub input_schema: Option<String>,
    pub output_schema: Option<String>,
    /// The channels that the workflow reads; `None`: it declares none, so any. Activities have none to declare.
    pub channels: Option<Vec<String>>,
}

/// What is known about an uploaded component.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// SHA-256 of the bytes as they were uploaded.
    pub digest: Digest,
    /// Bytes uploaded.
    pub size: usize,
    /// Whether a core module was uploaded, of which the host made a component.
    pub from_core_module: bool,
    pub kind: ComponentKind,
    /// Names of the component's imports and exports.
    pub imports: Vec<String>,
    pub exports: Vec<String>,
    /// Its world and all that it names.
    pub wit: String,
    pub core_modules: u64,
    pub functions: u64,
    pub memories: u64,
    pub tables: u64,
    /// Bytes of memory that an instance begins with.
    pub initial_memory: u64,
    /// Whether idle instances can be kept as memory images; if not, why not.
    pub image: Result<(), String>,
    /// Mutable globals that an image must hold; 0 where it is not eligible.
    pub image_globals: usize,
    /// What the component holds; empty until it was asked.
    pub descriptions: Vec<Description>,
}

/// A component that passed the checks.
#[derive(Debug)]
pub struct Checked<'a> {
    /// What is compiled: the bytes uploaded or what was made of a core module, with accessors if it is eligible for
    /// images.
    pub component: Cow<'a, [u8]>,
    pub inspection: Inspection,
}

/// Checks an upload. `features` are those that the engine has.
pub fn check(upload: &[u8], features: WasmFeatures) -> Result<Checked<'_>, AdmissionError> {
    let (component, structure) = as_component(upload, features)?;
    let kind = contract::check(&structure)?;
    validate(&component, features)?;
    let image = match kind {
        ComponentKind::Workflow => eligibility::survey(&component, features)
            .and_then(|globals| Ok((globals, instrument(&component, features)?))),
        ComponentKind::Activity => Err("activities have a fresh instance a call".into()),
    };
    let inspection = Inspection {
        digest: Digest::of(upload),
        size: upload.len(),
        from_core_module: matches!(component, Cow::Owned(_)),
        kind,
        wit: wit::wit_text(&component),
        imports: structure.imports,
        exports: structure.exports,
        core_modules: structure.core_modules,
        functions: structure.functions,
        memories: structure.memories,
        tables: structure.tables,
        initial_memory: structure.initial_memory,
        image_globals: image.as_ref().map_or(0, |(globals, _)| *globals),
        image: image.as_ref().map(|_| ()).map_err(Clone::clone),
        descriptions: Vec::new(),
    };
    let component = image.map_or(component, |(_, instrumented)| Cow::Owned(instrumented));
    Ok(Checked { component, inspection })
}

/// The component that an upload is, or that a core module with metadata becomes.
fn as_component(upload: &[u8], features: WasmFeatures) -> Result<(Cow<'_, [u8]>, Structure), AdmissionError> {
    let structure = scan::scan(upload, features)?;
    if structure.is_component {
        return Ok((Cow::Borrowed(upload), structure));
    }
    // The encoder only sees modules that are valid.
    validate(upload, features)?;
    if !structure.has_metadata {
        let from = &structure.core_import_modules;
        let preview1 = !from.is_empty() && from.iter().all(|m| m == "wasi_snapshot_preview1" || m == "wasi_unstable");
        return Err(if preview1 { AdmissionError::Preview1Module } else { AdmissionError::NoMetadata });
    }
    let component = wit::componentize(upload)?;
    let structure = scan::scan(&component, features)?;
    Ok((Cow::Owned(component), structure))
}

fn validate(bytes: &[u8], features: WasmFeatures) -> Result<(), AdmissionError> {
    match Validator::new_with_features(features).validate_all(bytes) {
        Ok(_) => Ok(()),
        Err(e) => Err(scan::parse_error(&e)),
    }
}
