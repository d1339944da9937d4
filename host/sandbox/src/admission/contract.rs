//! Which interfaces a component may name: the allow-list of imports, and what makes a workflow or an activity.
//!
//! Names are compared exactly. Must not know: bytes, compilation.

use super::caps::quote;
use super::error::AdmissionError;
use super::scan::Structure;
use crate::instrument::RESERVED;

/// What a component is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ComponentKind {
    /// Exports `relive:workflow/reactor`.
    Workflow,
    /// Exports `relive:activity/handler`.
    Activity,
}

impl ComponentKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Workflow => "workflow",
            Self::Activity => "activity",
        }
    }
}

/// The version of the contract that this host speaks.
const VERSION: &str = "0.1.0";
const REACTOR: &str = "relive:workflow/reactor";
const HANDLER: &str = "relive:activity/handler";
/// Our interfaces that workflows may import.
const WORKFLOW_IMPORTS: &[&str] = &["relive:workflow/durable", "relive:workflow/types"];
const OUR_INTERFACES: &[&str] =
    &["relive:workflow/durable", "relive:workflow/types", "relive:workflow/reactor", "relive:activity/handler"];
const KNOWN: &str = "relive:workflow/durable, types and reactor, relive:activity/handler";

const NO_WASI: &str = "workflows see nothing of WASI in this version of the host; take time and randomness from the \
    SDK, and build for wasm32-unknown-unknown";
const FOREIGN: &str = "it is another host's interface; a workflow may import relive:workflow/durable@0.1.0 alone, \
    everything else belongs into an activity";
const FOREIGN_ACTIVITY: &str = "an activity may import wasi:*@0.2.x alone";
const EXPORT_ONLY: &str = "it is an interface that components export, not one that the host has";

/// Finds out the kind of a component and refuses imports that it may not have.
pub fn check(structure: &Structure) -> Result<ComponentKind, AdmissionError> {
    let exports = |interface: &str| {
        structure.exports.iter().any(|e| e.strip_prefix(interface).and_then(|v| v.strip_prefix('@')) == Some(VERSION))
    };
    let kind = match (exports(REACTOR), exports(HANDLER)) {
        (true, true) => return Err(AdmissionError::Ambiguous),
        (true, false) => Some(ComponentKind::Workflow),
        (false, true) => Some(ComponentKind::Activity),
        (false, false) => None,
    };
    for import in &structure.imports {
        check_import(import, kind)?;
    }
    if let Some(export) = structure.exports.iter().find(|e| e.starts_with(RESERVED)) {
        return Err(AdmissionError::ReservedExport { export: quote(export), reserved: RESERVED });
    }
    if let Some(kind) = kind {
        return Ok(kind);
    }
    for export in &structure.exports {
        let interface = export.split_once('@').map(|(interface, _)| interface);
        if interface.is_some_and(|i| i == REACTOR || i == HANDLER) {
            return Err(AdmissionError::UnknownInterfaceVersion { interface: quote(export), known: VERSION });
        }
    }
    let listed = structure.exports.iter().take(5).map(|e| format!("`{}`", quote(e))).collect::<Vec<_>>().join(", ");
    let exports = if listed.is_empty() { "nothing".to_owned() } else { listed };
    Err(AdmissionError::NoWorkflow { exports })
}

/// With an unknown kind, what either kind may import passes: the missing export is the better message then.
fn check_import(import: &str, kind: Option<ComponentKind>) -> Result<(), AdmissionError> {
    let refused = |reason| Err(AdmissionError::ImportRefused { import: quote(import), reason });
    let (interface, version) = import.split_once('@').unwrap_or((import, ""));
    if interface.starts_with("relive:") {
        if !OUR_INTERFACES.contains(&interface) {
            return Err(AdmissionError::UnknownInterface { interface: quote(import), known: KNOWN });
        }
        if version != VERSION {
            return Err(AdmissionError::UnknownInterfaceVersion { interface: quote(import), known: VERSION });
        }
        return match kind {
            Some(ComponentKind::Activity) if interface.starts_with("relive:activity/") => Ok(()),
            Some(ComponentKind::Activity) => refused("it is for workflows; activities cannot issue durable calls"),
            _ if WORKFLOW_IMPORTS.contains(&interface) => Ok(()),
            _ => refused(EXPORT_ONLY),
        };
    }
    if interface.starts_with("wasi:") {
        return match kind {
            Some(ComponentKind::Workflow) => refused(NO_WASI),
            _ if version.starts_with("0.2.") => Ok(()),
            _ => refused("the host has WASI 0.2.x for activities; build for that version"),
        };
    }
    match kind {
        Some(ComponentKind::Activity) => refused(FOREIGN_ACTIVITY),
        _ => refused(FOREIGN),
    }
}
