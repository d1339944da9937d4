//! Checks every module that `scripts/guests` made: it becomes a valid component, imports what its kind may import, and,
//! if it is a workflow, can be kept as a memory image. Prints sizes with `--nocapture`.

use std::fs;
use std::path::{Path, PathBuf};
use wasmparser::{Operator, Parser, Payload, ValType, Validator, WasmFeatures};
use wit_component::{ComponentEncoder, DecodedWasm};

/// A workflow's initial data lies in the memory of every waiting execution.
const DATA_MAX: usize = 64 * 1024;

/// Where the guests are.
fn folder() -> PathBuf {
    let target = || match std::env::var_os("CARGO_TARGET_DIR") {
        Some(target) => PathBuf::from(target),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"),
    };
    std::env::var_os("RELIVE_GUESTS").map_or_else(|| target().join("guests/out"), PathBuf::from)
}

/// All modules, as `example/module` and bytes.
fn modules() -> Vec<(String, Vec<u8>)> {
    let folder = folder();
    let mut found = Vec::new();
    let examples =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}: run scripts/guests first", folder.display()));
    for example in examples {
        let example = example.expect("a folder entry").path();
        for file in fs::read_dir(&example).expect("an example's folder") {
            let file = file.expect("a folder entry").path();
            if file.extension().is_some_and(|extension| extension == "wasm") {
                let name = file.strip_prefix(&folder).expect("inside").display().to_string();
                found.push((name, fs::read(&file).expect("a module")));
            }
        }
    }
    assert!(!found.is_empty(), "{}: no modules: run scripts/guests first", folder.display());
    found.sort();
    found
}

/// Names of the component's imports and exports.
fn world(component: &[u8]) -> (Vec<String>, Vec<String>) {
    let DecodedWasm::Component(resolve, id) = wit_component::decode(component).expect("decodes") else {
        panic!("not a component");
    };
    let world = &resolve.worlds[id];
    let names = |items: &mut dyn Iterator<Item = &wit_parser::WorldKey>| {
        items.map(|key| resolve.name_world_key(key)).collect::<Vec<_>>()
    };
    (names(&mut world.imports.keys()), names(&mut world.exports.keys()))
}

/// What is found in all core modules of a component.
#[derive(Default)]
struct Structure {
    memories: usize,
    data: usize,
    refused: Vec<String>,
}

fn structure(component: &[u8]) -> Structure {
    let mut found = Structure::default();
    for payload in Parser::new(0).parse_all(component) {
        inspect(payload.expect("parses"), &mut found);
    }
    found
}

fn inspect(payload: Payload<'_>, found: &mut Structure) {
    match payload {
        Payload::MemorySection(section) => {
            for memory in section {
                let memory = memory.expect("a memory");
                found.memories += 1;
                if memory.memory64 || memory.shared || memory.page_size_log2.is_some() {
                    found.refused.push("an unusual memory".to_owned());
                }
            }
        }
        Payload::GlobalSection(section) => {
            for global in section {
                let ty = global.expect("a global").ty;
                let numeric = matches!(ty.content_type, ValType::I32 | ValType::I64 | ValType::F32 | ValType::F64);
                if ty.mutable && !numeric {
                    found.refused.push("a mutable global that is not numeric".to_owned());
                }
            }
        }
        Payload::DataSection(section) => {
            for data in section {
                let data = data.expect("data");
                found.data += data.data.len();
                if matches!(data.kind, wasmparser::DataKind::Passive) {
                    found.refused.push("a passive data segment".to_owned());
                }
            }
        }
        Payload::ElementSection(section) => {
            for element in section {
                if !matches!(element.expect("elements").kind, wasmparser::ElementKind::Active { .. }) {
                    found.refused.push("an element segment that is not active".to_owned());
                }
            }
        }
        Payload::StartSection { .. } | Payload::ComponentStartSection { .. } => {
            found.refused.push("a start function".to_owned());
        }
        Payload::ExportSection(section) => {
            for export in section {
                if export.expect("an export").name == "_initialize" {
                    found.refused.push("an initializer".to_owned());
                }
            }
        }
        Payload::CodeSectionEntry(body) => {
            for operator in body.get_operators_reader().expect("a body") {
                operators(&operator.expect("an operator"), found);
            }
        }
        _ => {}
    }
}

fn operators(operator: &Operator<'_>, found: &mut Structure) {
    let refused = matches!(
        operator,
        Operator::TableSet { .. }
            | Operator::TableGrow { .. }
            | Operator::TableFill { .. }
            | Operator::TableCopy { .. }
            | Operator::TableInit { .. }
            | Operator::ElemDrop { .. }
            | Operator::MemoryInit { .. }
            | Operator::DataDrop { .. }
    );
    if refused {
        found.refused.push(format!("{operator:?}"));
    }
}

#[test]
fn every_guest_is_a_component_of_its_kind() {
    for (name, module) in modules() {
        let component = ComponentEncoder::default()
            .validate(true)
            .module(&module)
            .and_then(|encoder| encoder.encode())
            .unwrap_or_else(|error| panic!("{name}: {error:#}"));
        Validator::new_with_features(WasmFeatures::default())
            .validate_all(&component)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let (imports, exports) = world(&component);
        let structure = structure(&component);
        println!(
            "{name}: module {} B, component {} B, data {} B, imports {imports:?}",
            module.len(),
            component.len(),
            structure.data
        );
        let workflow = exports.iter().any(|export| export.starts_with("relive:workflow/reactor@"));
        let activity = exports.iter().any(|export| export.starts_with("relive:activity/handler@"));
        assert!(workflow != activity, "{name}: exports {exports:?}");
        let allowed = if workflow { "relive:workflow/" } else { "wasi:" };
        for import in &imports {
            assert!(import.starts_with(allowed), "{name} imports {import}");
        }
        if workflow {
            assert_eq!(structure.memories, 1, "{name}: memories");
            assert!(structure.refused.is_empty(), "{name} has {:?}", structure.refused);
            assert!(structure.data <= DATA_MAX, "{name}: {} bytes of data", structure.data);
        }
    }
}
