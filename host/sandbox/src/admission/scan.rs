//! One pass over an upload's structure: caps, counts, top-level names.
//!
//! Works on hostile bytes before any validation, so every count is compared with its cap before what it counts is
//! read, nothing here recurses, and nothing is allocated in proportion to a declared number. Must not know: which
//! imports are allowed, what makes a workflow.

use wasmparser::{Encoding, Parser, Payload, TypeRef, WasmFeatures};

use super::caps;
use super::error::AdmissionError;

/// Core import modules that are kept by name, to tell what kind of module it is.
const MAX_KEPT_CORE_IMPORTS: usize = 1_000;

/// What one pass finds.
#[derive(Debug, Default)]
pub struct Structure {
    pub is_component: bool,
    /// Names of the component's own imports and exports, in order.
    pub imports: Vec<String>,
    pub exports: Vec<String>,
    pub core_modules: u64,
    pub functions: u64,
    pub memories: u64,
    pub tables: u64,
    /// Bytes that the memories begin with, together.
    pub initial_memory: u64,
    /// A core module's: whether it says what component it wants to be, and from where it imports functions.
    pub has_metadata: bool,
    pub core_import_modules: Vec<String>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    core_items: u64,
    globals: u64,
    elements: u64,
    data: u64,
    instances: u64,
    component_items: u64,
}

/// Adds to a count and holds it against its cap.
fn add(sum: &mut u64, more: u64, limit: u64, what: &'static str, code: &'static str) -> Result<(), AdmissionError> {
    *sum = sum.saturating_add(more);
    if *sum > limit {
        return Err(AdmissionError::LimitExceeded { code, what, found: *sum, limit });
    }
    Ok(())
}

/// Reads the structure of an upload; `features` are those that the engine has.
pub fn scan(bytes: &[u8], features: WasmFeatures) -> Result<Structure, AdmissionError> {
    let (size, limit) = (bytes.len() as u64, caps::MAX_UPLOAD_BYTES as u64);
    add(&mut 0, size, limit, "its size in bytes is", "too-large")?;
    check_magic(bytes)?;
    let mut structure = Structure::default();
    let mut open: Vec<Encoding> = Vec::new();
    let mut parser = Parser::new(0);
    parser.set_features(features);
    for payload in parser.parse_all(bytes) {
        let payload = payload.map_err(|e| parse_error(&e))?;
        match &payload {
            Payload::Version { encoding, .. } => {
                open.push(*encoding);
                let depth = open.len() as u64;
                add(&mut 0, depth, caps::MAX_NESTING as u64, "its depth of nesting is", "nested-too-deep")?;
                if *encoding == Encoding::Module {
                    let what = "the number of its core modules is";
                    add(&mut structure.core_modules, 1, caps::MAX_CORE_MODULES, what, "too-many-modules")?;
                } else if depth == 1 {
                    structure.is_component = true;
                }
            }
            Payload::End(_) => {
                open.pop();
            }
            other => {
                structure.core(other)?;
                structure.component(other, open.len())?;
            }
        }
    }
    Ok(structure)
}

fn check_magic(bytes: &[u8]) -> Result<(), AdmissionError> {
    const MAGIC: &[u8] = b"\0asm";
    if bytes.starts_with(MAGIC) {
        return Ok(());
    }
    if !bytes.is_empty() && MAGIC.starts_with(bytes) {
        return Err(AdmissionError::Truncated { offset: bytes.len(), message: "not even the header is there".into() });
    }
    let found = match bytes.get(..bytes.len().min(8)) {
        None | Some([]) => "nothing (it is empty)".to_owned(),
        Some(head) => format!("{:?}", String::from_utf8_lossy(head)),
    };
    Err(AdmissionError::NotWasm { found })
}

/// Tells bytes that are missing from bytes that are wrong.
pub(super) fn parse_error(error: &wasmparser::Error) -> AdmissionError {
    let (offset, message) = (error.offset(), caps::quote(error.message()));
    if message.contains("unexpected end") {
        AdmissionError::Truncated { offset, message }
    } else {
        AdmissionError::Invalid { offset, message }
    }
}

impl Structure {
    fn core(&mut self, payload: &Payload<'_>) -> Result<(), AdmissionError> {
        let items = "the number of its core types, imports and exports is";
        match payload {
            Payload::TypeSection(r) => self.core_items(r.count(), items),
            Payload::ExportSection(r) => self.core_items(r.count(), items),
            Payload::ImportSection(r) => {
                self.core_items(r.count(), items)?;
                for import in r.clone().into_imports() {
                    self.core_import(import.map_err(|e| parse_error(&e))?)?;
                }
                Ok(())
            }
            Payload::CustomSection(section) if section.name().starts_with("component-type") => {
                self.has_metadata = true;
                Ok(())
            }
            other => self.definitions(other),
        }
    }

    /// What a core module defines itself.
    fn definitions(&mut self, payload: &Payload<'_>) -> Result<(), AdmissionError> {
        match payload {
            Payload::FunctionSection(r) => {
                let what = "the number of its functions is";
                add(&mut self.functions, r.count().into(), caps::MAX_FUNCTIONS, what, "too-many-functions")
            }
            Payload::CodeSectionStart { count, .. } => {
                let what = "the number of its function bodies is";
                add(&mut 0, (*count).into(), caps::MAX_FUNCTIONS, what, "too-many-functions")
            }
            Payload::CodeSectionEntry(body) => {
                let size = body.range().len() as u64;
                let what = "the size in bytes of one of its functions is";
                add(&mut 0, size, caps::MAX_FUNCTION_BYTES, what, "function-too-large")
            }
            Payload::TableSection(r) => self.table_section(r),
            Payload::MemorySection(r) => self.memory_section(r),
            Payload::GlobalSection(r) => {
                let what = "the number of its globals is";
                add(&mut self.counts.globals, r.count().into(), caps::MAX_GLOBALS, what, "too-many-globals")
            }
            Payload::ElementSection(r) => {
                let what = "the number of its element segments is";
                let limit = caps::MAX_ELEMENT_SEGMENTS;
                add(&mut self.counts.elements, r.count().into(), limit, what, "too-many-element-segments")
            }
            Payload::DataSection(r) => {
                let what = "the number of its data segments is";
                let limit = caps::MAX_DATA_SEGMENTS;
                add(&mut self.counts.data, r.count().into(), limit, what, "too-many-data-segments")
            }
            _ => Ok(()),
        }
    }

    fn core_items(&mut self, count: u32, what: &'static str) -> Result<(), AdmissionError> {
        add(&mut self.counts.core_items, count.into(), caps::MAX_CORE_ITEMS, what, "too-many-items")
    }

    fn core_import(&mut self, import: wasmparser::Import<'_>) -> Result<(), AdmissionError> {
        let kept = &mut self.core_import_modules;
        let is_function = matches!(import.ty, TypeRef::Func(_) | TypeRef::FuncExact(_));
        if is_function && kept.len() < MAX_KEPT_CORE_IMPORTS && kept.last().is_none_or(|last| last != import.module) {
            kept.push(caps::quote(import.module));
        }
        Ok(())
    }

    fn table_section(&mut self, tables: &wasmparser::TableSectionReader<'_>) -> Result<(), AdmissionError> {
        let what = "the number of its tables is";
        add(&mut self.tables, tables.count().into(), caps::MAX_TABLES, what, "too-many-tables")?;
        for table in tables.clone() {
            let table = table.map_err(|e| parse_error(&e))?;
            let what = "the number of elements that one of its tables begins with is";
            add(&mut 0, table.ty.initial, caps::MAX_TABLE_ELEMENTS, what, "table-too-large")?;
        }
        Ok(())
    }

    fn memory_section(&mut self, memories: &wasmparser::MemorySectionReader<'_>) -> Result<(), AdmissionError> {
        let what = "the number of its memories is";
        add(&mut self.memories, memories.count().into(), caps::MAX_MEMORIES, what, "too-many-memories")?;
        for memory in memories.clone() {
            let memory = memory.map_err(|e| parse_error(&e))?;
            let page = 1_u64.checked_shl(memory.page_size_log2.unwrap_or(16)).unwrap_or(u64::MAX);
            self.initial_memory = self.initial_memory.saturating_add(memory.initial.saturating_mul(page));
        }
        Ok(())
    }

    fn component(&mut self, payload: &Payload<'_>, depth: usize) -> Result<(), AdmissionError> {
        let count = match payload {
            Payload::InstanceSection(r) => return self.instances(r.count()),
            Payload::ComponentInstanceSection(r) => return self.instances(r.count()),
            Payload::CoreTypeSection(r) => r.count(),
            Payload::ComponentAliasSection(r) => r.count(),
            Payload::ComponentTypeSection(r) => r.count(),
            Payload::ComponentCanonicalSection(r) => r.count(),
            Payload::ComponentImportSection(r) => r.count(),
            Payload::ComponentExportSection(r) => r.count(),
            _ => return Ok(()),
        };
        let what = "the number of its component types, aliases, functions, imports and exports is";
        let limit = caps::MAX_COMPONENT_ITEMS;
        add(&mut self.counts.component_items, count.into(), limit, what, "too-many-items")?;
        if depth != 1 {
            return Ok(());
        }
        match payload {
            Payload::ComponentImportSection(r) => {
                for import in r.clone() {
                    self.imports.push(import.map_err(|e| parse_error(&e))?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(r) => {
                for export in r.clone() {
                    self.exports.push(export.map_err(|e| parse_error(&e))?.name.name.to_owned());
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn instances(&mut self, count: u32) -> Result<(), AdmissionError> {
        let what = "the number of instances that it makes is";
        add(&mut self.counts.instances, count.into(), caps::MAX_INSTANCES, what, "too-many-instances")
    }
}
