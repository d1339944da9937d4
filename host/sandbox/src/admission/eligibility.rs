//! Whether a component's idle instances are nothing but linear memory and numeric globals, so that a memory image can
//! hold them.
//!
//! Every core module is looked at, every instruction too. A no is no refusal: such components are relived from their
//! history instead; `relive inspect` shows the reason. Works on validated bytes. Must not know: how images are made.

use std::collections::HashMap;

use wasmparser::{
    CanonicalFunction, CanonicalOption, ComponentAlias, ComponentExternalKind, ComponentOuterAliasKind, ComponentType,
    Encoding, FunctionBody, GlobalType, Instance, Operator, Parser, Payload, TypeRef, ValType, WasmFeatures,
};

/// What a module has that lives between two calls.
#[derive(Debug, Default)]
struct ModuleState {
    memories: usize,
    mutable_globals: usize,
}

/// What makes a component ineligible, or the number of mutable globals in its main module.
type Found<T> = Result<T, String>;

#[derive(Default)]
struct Survey {
    open: Vec<Encoding>,
    modules: Vec<ModuleState>,
    instantiated: HashMap<u32, u32>,
}

/// Looks at a whole component. `Ok` holds the number of mutable globals that an image must carry.
pub fn survey(component: &[u8], features: WasmFeatures) -> Found<usize> {
    let mut survey = Survey::default();
    let mut parser = Parser::new(0);
    parser.set_features(features);
    for payload in parser.parse_all(component) {
        survey.payload(payload.map_err(|e| e.to_string())?)?;
    }
    survey.judge()
}

impl Survey {
    fn payload(&mut self, payload: Payload<'_>) -> Found<()> {
        match payload {
            Payload::Version { encoding, .. } => {
                self.open.push(encoding);
                if encoding == Encoding::Module {
                    if self.open.len() > 2 {
                        return Err("a nested component holds a core module".into());
                    }
                    self.modules.push(ModuleState::default());
                }
            }
            Payload::End(_) => {
                self.open.pop();
            }
            Payload::CodeSectionEntry(body) => check_body(&body)?,
            Payload::MemorySection(r) => {
                for memory in r {
                    let memory = memory.map_err(|e| e.to_string())?;
                    self.memory(memory)?;
                }
            }
            Payload::GlobalSection(r) => {
                for global in r {
                    self.global(global.map_err(|e| e.to_string())?.ty)?;
                }
            }
            Payload::ImportSection(r) => {
                for import in r.into_imports() {
                    match import.map_err(|e| e.to_string())?.ty {
                        TypeRef::Global(global) => self.global(global)?,
                        TypeRef::Memory(memory) => check_memory(&memory)?,
                        _ => {}
                    }
                }
            }
            other => self.component(other)?,
        }
        Ok(())
    }

    fn memory(&mut self, memory: wasmparser::MemoryType) -> Found<()> {
        check_memory(&memory)?;
        if let Some(module) = self.modules.last_mut() {
            module.memories += 1;
        }
        Ok(())
    }

    fn global(&mut self, global: GlobalType) -> Found<()> {
        if !global.mutable {
            return Ok(());
        }
        if !matches!(global.content_type, ValType::I32 | ValType::I64 | ValType::F32 | ValType::F64) {
            return Err(format!("a core module has a mutable global of type {}", global.content_type));
        }
        if let Some(module) = self.modules.last_mut() {
            module.mutable_globals += 1;
        }
        Ok(())
    }

    fn component(&mut self, payload: Payload<'_>) -> Found<()> {
        match payload {
            Payload::ComponentStartSection { .. } => {
                return Err("the component has a start function".into());
            }
            Payload::InstanceSection(r) => {
                for instance in r {
                    if let Instance::Instantiate { module_index, .. } = instance.map_err(|e| e.to_string())? {
                        *self.instantiated.entry(module_index).or_default() += 1;
                    }
                }
            }
            Payload::ComponentTypeSection(r) => {
                for ty in r {
                    if let ComponentType::Resource { .. } = ty.map_err(|e| e.to_string())? {
                        return Err("the component defines a resource, whose handles an image does not hold".into());
                    }
                }
            }
            Payload::ComponentCanonicalSection(r) => {
                for function in r {
                    check_canonical(&function.map_err(|e| e.to_string())?)?;
                }
            }
            Payload::ComponentAliasSection(r) => {
                for alias in r {
                    check_alias(&alias.map_err(|e| e.to_string())?)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn judge(self) -> Found<usize> {
        if let Some((index, count)) = self.instantiated.iter().find(|(_, count)| **count > 1) {
            return Err(format!("core module {index} is instantiated {count} times"));
        }
        let memories: usize = self.modules.iter().map(|m| m.memories).sum();
        if memories != 1 {
            return Err(format!("the component has {memories} linear memories; an image holds exactly one"));
        }
        if let Some(index) = self.modules.iter().position(|m| m.memories == 0 && m.mutable_globals > 0) {
            return Err(format!("core module {index} has mutable globals but is not the one with the memory"));
        }
        Ok(self.modules.iter().map(|m| m.mutable_globals).sum())
    }
}

fn check_memory(memory: &wasmparser::MemoryType) -> Found<()> {
    if memory.shared || memory.memory64 || memory.page_size_log2.is_some() {
        return Err("the memory is shared, 64-bit or of another page size".into());
    }
    Ok(())
}

fn check_alias(alias: &ComponentAlias<'_>) -> Found<()> {
    let of_module = matches!(
        alias,
        ComponentAlias::InstanceExport { kind: ComponentExternalKind::Module, .. }
            | ComponentAlias::Outer { kind: ComponentOuterAliasKind::CoreModule, .. }
    );
    if of_module { Err("a core module is passed between components".into()) } else { Ok(()) }
}

fn check_canonical(function: &CanonicalFunction) -> Found<()> {
    let (CanonicalFunction::Lift { options, .. } | CanonicalFunction::Lower { options, .. }) = function else {
        return Err("the component uses resources or asynchronous functions".into());
    };
    let plain = |option: &CanonicalOption| {
        use CanonicalOption::{Memory, PostReturn, Realloc, UTF8};
        matches!(option, UTF8 | Memory(_) | Realloc(_) | PostReturn(_))
    };
    if options.iter().all(plain) {
        Ok(())
    } else {
        Err("the component's functions are asynchronous or their strings are not UTF-8".into())
    }
}

/// Refuses instructions that change what an image does not hold: tables and dropped segments.
fn check_body(body: &FunctionBody<'_>) -> Found<()> {
    let mut operators = body.get_operators_reader().map_err(|e| e.to_string())?;
    while !operators.eof() {
        let name = match operators.read().map_err(|e| e.to_string())? {
            Operator::TableSet { .. } => "table.set",
            Operator::TableGrow { .. } => "table.grow",
            Operator::TableFill { .. } => "table.fill",
            Operator::TableCopy { .. } => "table.copy",
            Operator::TableInit { .. } => "table.init",
            Operator::ElemDrop { .. } => "elem.drop",
            Operator::DataDrop { .. } => "data.drop",
            Operator::MemoryInit { .. } => "memory.init",
            _ => continue,
        };
        return Err(format!("the code at byte {} uses {name}", body.range().start));
    }
    Ok(())
}
