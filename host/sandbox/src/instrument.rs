//! Accessors for the mutable globals of components that are eligible for memory images.
//!
//! Owns: the rewriting of a checked component so that it exports, beside its own, a getter and a setter a global (the
//! technique of `wasmtime-wizer`, kept to the components that `admission::eligibility` lets through: one main module
//! at the top level, instantiated once). Nothing that the component does changes by it. The digest stays that of the
//! upload; [`INSTRUMENTATION`] stands in the names of cached native code and in images. Must not know: images.

use wasm_encoder::{
    Alias, CanonicalFunctionSection, CodeSection, Component, ComponentAliasSection, ComponentExportKind,
    ComponentExportSection, ComponentSectionId, ComponentTypeSection, Encode, ExportKind, ExportSection, Function,
    FunctionSection, InstructionSink, Module, RawSection, SectionId, TypeSection,
};
use wasmparser::{
    CanonicalFunction, ComponentAlias, ComponentExternalKind, ComponentOuterAliasKind, ComponentTypeRef, Instance,
    Parser, Payload, TypeRef, ValType, WasmFeatures,
};

/// Version of what is added. Images and native code of another version are not used.
pub const INSTRUMENTATION: u32 = 1;

/// Names under which accessors are exported begin like this; uploads may not use it.
pub(crate) const RESERVED: &str = "relive-image";

/// Globals that an image carries at most; languages' runtimes have one to a few.
pub(crate) const MAX_GLOBALS: usize = 64;

/// The export that marks an instrumented component; as a function it does nothing.
pub(crate) const MARKER: &str = "relive-image-marker";

/// The component's export that gives the bits of the n-th mutable global.
pub(crate) fn getter(n: usize) -> String {
    format!("{RESERVED}-get{n}")
}

/// The export that sets them.
pub(crate) fn setter(n: usize) -> String {
    format!("{RESERVED}-set{n}")
}

type Found<T> = Result<T, String>;

/// Adds the accessors. `Err` says why it cannot be done; the component then goes without images.
pub(crate) fn instrument(component: &[u8], features: WasmFeatures) -> Found<Vec<u8>> {
    let survey = survey(component, features)?;
    let main = Main::read(&component[survey.main.clone()], features)?;
    let mut out = Component::new();
    for (id, range) in &survey.sections {
        if *range == survey.main {
            let module = main.rewrite(&component[range.clone()])?;
            out.section(&RawSection { id: ComponentSectionId::CoreModule.into(), data: &module });
        } else {
            out.section(&RawSection { id: *id, data: &component[range.clone()] });
        }
    }
    survey.lift(&mut out, main.globals.len());
    let bytes = out.finish();
    wasmparser::Validator::new_with_features(features).validate_all(&bytes).map_err(|e| format!("instrument: {e}"))?;
    Ok(bytes)
}

/// The top level of a component: its sections, and how many of each index space there are at its end.
#[derive(Default)]
struct Survey {
    sections: Vec<(u8, std::ops::Range<usize>)>,
    main: std::ops::Range<usize>,
    main_index: Option<u32>,
    main_instance: Option<u32>,
    modules: u32,
    instances: u32,
    core_functions: u32,
    functions: u32,
    types: u32,
}

fn survey(component: &[u8], features: WasmFeatures) -> Found<Survey> {
    let mut survey = Survey::default();
    let mut parser = Parser::new(0);
    parser.set_features(features);
    let mut depth = 0_usize;
    for payload in parser.parse_all(component) {
        let payload = payload.map_err(|e| e.to_string())?;
        match &payload {
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            _ if depth == 1 => survey.payload(&payload)?,
            // The memory's module is the main one.
            Payload::MemorySection(r) if depth == 2 && r.count() > 0 => {
                survey.main_index = Some(survey.modules - 1);
                survey.main = survey.sections.last().map(|(_, range)| range.clone()).unwrap_or_default();
            }
            _ => {}
        }
    }
    survey.main_instance()?;
    Ok(survey)
}

impl Survey {
    fn payload(&mut self, payload: &Payload<'_>) -> Found<()> {
        if let Some((id, range)) = payload.as_section() {
            self.sections.push((id, range));
        }
        let error = |e: wasmparser::BinaryReaderError| e.to_string();
        match payload {
            Payload::ModuleSection { .. } => self.modules += 1,
            Payload::InstanceSection(r) => {
                for instance in r.clone() {
                    if let Instance::Instantiate { module_index, .. } = instance.map_err(error)?
                        && Some(module_index) == self.main_index
                    {
                        self.main_instance = Some(self.instances);
                    }
                    self.instances += 1;
                }
            }
            Payload::ComponentTypeSection(r) => self.types += r.count(),
            Payload::ComponentAliasSection(r) => {
                for alias in r.clone() {
                    self.alias(&alias.map_err(error)?);
                }
            }
            Payload::ComponentImportSection(r) => {
                for import in r.clone() {
                    match import.map_err(error)?.ty {
                        ComponentTypeRef::Type(_) => self.types += 1,
                        ComponentTypeRef::Func(_) => self.functions += 1,
                        _ => {}
                    }
                }
            }
            Payload::ComponentExportSection(r) => {
                for export in r.clone() {
                    match export.map_err(error)?.kind {
                        ComponentExternalKind::Type => self.types += 1,
                        ComponentExternalKind::Func => self.functions += 1,
                        _ => {}
                    }
                }
            }
            Payload::ComponentCanonicalSection(r) => {
                for function in r.clone() {
                    match function.map_err(error)? {
                        CanonicalFunction::Lift { .. } => self.functions += 1,
                        _ => self.core_functions += 1,
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn alias(&mut self, alias: &ComponentAlias<'_>) {
        match alias {
            ComponentAlias::CoreInstanceExport { kind: wasmparser::ExternalKind::Func, .. } => self.core_functions += 1,
            ComponentAlias::InstanceExport { kind: ComponentExternalKind::Func, .. } => self.functions += 1,
            ComponentAlias::InstanceExport { kind: ComponentExternalKind::Type, .. }
            | ComponentAlias::Outer { kind: ComponentOuterAliasKind::Type, .. } => self.types += 1,
            _ => {}
        }
    }

    fn main_instance(&self) -> Found<u32> {
        self.main_instance.ok_or_else(|| "the module with the memory is not instantiated at the top level".to_owned())
    }

    /// Lifts and exports the accessors of the main module.
    fn lift(&self, out: &mut Component, globals: usize) {
        let mut types = ComponentTypeSection::new();
        let u64_type = wasm_encoder::PrimitiveValType::U64;
        types.function().params([] as [(&str, wasm_encoder::ComponentValType); 0]).result(Some(u64_type.into()));
        types.function().params([("bits", u64_type)]).result(None);
        types.function().params([] as [(&str, wasm_encoder::ComponentValType); 0]).result(None);
        let mut aliases = ComponentAliasSection::new();
        let mut lifts = CanonicalFunctionSection::new();
        let mut exports = ComponentExportSection::new();
        let names = (0..globals).flat_map(|n| [(getter(n), 0), (setter(n), 1)]).chain([(MARKER.to_owned(), 2)]);
        for ((name, ty), n) in names.zip(0..) {
            let instance = self.main_instance.unwrap_or_default();
            aliases.alias(Alias::CoreInstanceExport { instance, kind: ExportKind::Func, name: &name });
            lifts.lift(self.core_functions + n, self.types + ty, []);
            // An export gives its item a further index, so the lifted ones stand before all of them.
            exports.export(&name, ComponentExportKind::Func, self.functions + n, None);
        }
        out.section(&types).section(&aliases).section(&lifts).section(&exports);
    }
}

/// What must be known of the main module to add functions to it.
struct Main {
    types: u32,
    functions: u32,
    /// Index and type of each mutable global.
    globals: Vec<(u32, ValType)>,
}

impl Main {
    fn read(module: &[u8], features: WasmFeatures) -> Found<Self> {
        let mut main = Self { types: 0, functions: 0, globals: Vec::new() };
        let mut globals = 0;
        let mut sections = 0_u8;
        let mut parser = Parser::new(0);
        parser.set_features(features);
        for payload in parser.parse_all(module) {
            let error = |e: wasmparser::BinaryReaderError| e.to_string();
            let mut global = |ty: wasmparser::GlobalType| {
                if ty.mutable {
                    main.globals.push((globals, ty.content_type));
                }
                globals += 1;
            };
            match payload.map_err(error)? {
                Payload::TypeSection(r) => {
                    main.types += r.count();
                    sections += 1;
                }
                Payload::ImportSection(r) => {
                    for import in r.into_imports() {
                        match import.map_err(error)?.ty {
                            TypeRef::Func(_) => main.functions += 1,
                            TypeRef::Global(ty) => global(ty),
                            _ => {}
                        }
                    }
                }
                Payload::FunctionSection(r) => {
                    main.functions += r.count();
                    sections += 1;
                }
                Payload::GlobalSection(r) => {
                    for item in r {
                        global(item.map_err(error)?.ty);
                    }
                }
                Payload::ExportSection(_) | Payload::CodeSectionStart { .. } => sections += 1,
                _ => {}
            }
        }
        // Each of the four sections that grow is there, as it is in every module that a toolchain makes.
        if sections != 4 {
            return Err("the module with the memory has no functions or exports".into());
        }
        if main.globals.len() > MAX_GLOBALS {
            return Err(format!("it has {} mutable globals; an image carries {MAX_GLOBALS}", main.globals.len()));
        }
        Ok(main)
    }

    /// The module with the accessors' types, functions, exports and code behind its own.
    fn rewrite(&self, module: &[u8]) -> Found<Vec<u8>> {
        let mut out = Module::new();
        for payload in Parser::new(0).parse_all(module) {
            let payload = payload.map_err(|e| e.to_string())?;
            let Some((id, range)) = payload.as_section() else { continue };
            let bytes = &module[range];
            let added = if id == u8::from(SectionId::Type) {
                self.added_types()
            } else if id == u8::from(SectionId::Function) {
                self.added_functions()
            } else if id == u8::from(SectionId::Export) {
                self.added_exports()
            } else if id == u8::from(SectionId::Code) {
                self.added_code()?
            } else {
                out.section(&RawSection { id, data: bytes });
                continue;
            };
            out.section(&RawSection { id, data: &grow(bytes, &added)? });
        }
        Ok(out.finish())
    }

    fn accessors(&self) -> u32 {
        u32::try_from(self.globals.len() * 2 + 1).unwrap_or(u32::MAX)
    }

    fn added_types(&self) -> Vec<u8> {
        let mut types = TypeSection::new();
        types.ty().function([], [wasm_encoder::ValType::I64]);
        types.ty().function([wasm_encoder::ValType::I64], []);
        types.ty().function([], []);
        contents(&types)
    }

    fn added_functions(&self) -> Vec<u8> {
        let mut functions = FunctionSection::new();
        for _ in &self.globals {
            functions.function(self.types).function(self.types + 1);
        }
        functions.function(self.types + 2);
        contents(&functions)
    }

    fn added_exports(&self) -> Vec<u8> {
        let mut exports = ExportSection::new();
        let names = (0..self.globals.len()).flat_map(|n| [getter(n), setter(n)]).chain([MARKER.to_owned()]);
        for (name, index) in names.zip(self.functions..self.functions + self.accessors()) {
            exports.export(&name, ExportKind::Func, index);
        }
        contents(&exports)
    }

    fn added_code(&self) -> Found<Vec<u8>> {
        let mut code = CodeSection::new();
        for (index, ty) in &self.globals {
            let mut get = Function::new([]);
            let mut ops = get.instructions();
            ops.global_get(*index);
            to_bits(&mut ops, *ty)?;
            ops.end();
            code.function(&get);
            let mut set = Function::new([]);
            let mut ops = set.instructions();
            ops.local_get(0);
            of_bits(&mut ops, *ty)?;
            ops.global_set(*index).end();
            code.function(&set);
        }
        let mut marker = Function::new([]);
        marker.instructions().end();
        code.function(&marker);
        Ok(contents(&code))
    }
}

fn to_bits(ops: &mut InstructionSink<'_>, ty: ValType) -> Found<()> {
    match ty {
        ValType::I32 => ops.i64_extend_i32_u(),
        ValType::I64 => return Ok(()),
        ValType::F32 => ops.i32_reinterpret_f32().i64_extend_i32_u(),
        ValType::F64 => ops.i64_reinterpret_f64(),
        other => return Err(format!("a mutable global is of type {other}")),
    };
    Ok(())
}

fn of_bits(ops: &mut InstructionSink<'_>, ty: ValType) -> Found<()> {
    match ty {
        ValType::I32 => ops.i32_wrap_i64(),
        ValType::I64 => return Ok(()),
        ValType::F32 => ops.i32_wrap_i64().f32_reinterpret_i32(),
        ValType::F64 => ops.f64_reinterpret_i64(),
        other => return Err(format!("a mutable global is of type {other}")),
    };
    Ok(())
}

/// A section's contents: the number of its items, and the items. `Encode` puts their length before.
fn contents(section: &impl Encode) -> Vec<u8> {
    let mut bytes = Vec::new();
    section.encode(&mut bytes);
    let skip = leb_length(&bytes);
    bytes.split_off(skip)
}

fn leb_length(bytes: &[u8]) -> usize {
    bytes.iter().position(|b| b & 0x80 == 0).map_or(bytes.len(), |at| at + 1)
}

fn leb(bytes: &[u8]) -> Found<u32> {
    let mut reader = wasmparser::BinaryReader::new(bytes, 0);
    reader.read_var_u32().map_err(|e| e.to_string())
}

/// Puts the items of `added` behind those of `section`; both begin with their number of items.
fn grow(section: &[u8], added: &[u8]) -> Found<Vec<u8>> {
    let count = leb(section)?.checked_add(leb(added)?).ok_or("too many items")?;
    let mut bytes = Vec::with_capacity(section.len() + added.len() + 1);
    count.encode(&mut bytes);
    bytes.extend_from_slice(&section[leb_length(section)..]);
    bytes.extend_from_slice(&added[leb_length(added)..]);
    Ok(bytes)
}
