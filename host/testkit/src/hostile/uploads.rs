//! Uploads that are well-formed and far too much of something. Each comes with the code that it is refused with.

use wasm_encoder::{
    CodeSection, Component, ComponentTypeSection, ConstExpr, DataSection, ElementSection, Elements, ExportKind,
    ExportSection, Function, FunctionSection, GlobalSection, GlobalType, InstanceSection, MemorySection, MemoryType,
    Module, ModuleArg, ModuleSection, PrimitiveValType, RefType, TableSection, TableType, TypeSection, ValType,
};

/// An upload that must be refused.
pub struct Hostile {
    pub name: &'static str,
    pub bytes: Vec<u8>,
    /// The code of its refusal.
    pub code: &'static str,
}

/// Everything that is too much in one direction.
#[must_use]
pub fn all() -> Vec<Hostile> {
    let hostile = |name, code, bytes| Hostile { name, bytes, code };
    let one = |module: Module| component([module]);
    vec![
        hostile("60,000 functions", "too-many-functions", one(functions(60_000, 2))),
        hostile("6 modules of 10,000 functions", "too-many-functions", component((0..6).map(|_| functions(10_000, 2)))),
        hostile("a 10 MB function", "function-too-large", one(functions(1, 10 << 20))),
        hostile("100 components deep", "nested-too-deep", nested(100)),
        hostile("8,000 components deep", "nested-too-deep", nested(8_000)),
        hostile("5,000 modules", "too-many-modules", component((0..5_000).map(|_| Module::new()))),
        hostile("5,000 memories", "too-many-memories", one(memories(5_000))),
        hostile("5,000 tables", "too-many-tables", one(tables(5_000, 1))),
        hostile("a table of 4 billion elements", "table-too-large", one(tables(1, u64::from(u32::MAX)))),
        hostile("60,000 data segments", "too-many-data-segments", one(data(60_000))),
        hostile("20,000 element segments", "too-many-element-segments", one(elements(20_000))),
        hostile("60,000 globals", "too-many-globals", one(globals(60_000))),
        hostile("300,000 types", "too-many-items", one(types(300_000))),
        hostile("300,000 exports", "too-many-items", one(exports(300_000))),
        hostile("100,000 component types", "too-many-items", component_types(100_000)),
        hostile("5,000 instances", "too-many-instances", instances(5_000)),
        hostile("32 MB and a byte", "too-large", padded((32 << 20) + 1)),
    ]
}

fn component(modules: impl IntoIterator<Item = Module>) -> Vec<u8> {
    let mut component = Component::new();
    for module in modules {
        component.section(&ModuleSection(&module));
    }
    component.finish()
}

fn one_type() -> TypeSection {
    let mut types = TypeSection::new();
    types.ty().function([], []);
    types
}

/// Functions of that many bytes each, about.
fn functions(count: u32, size: usize) -> Module {
    let (mut functions, mut code) = (FunctionSection::new(), CodeSection::new());
    for _ in 0..count {
        functions.function(0);
        let mut body = Function::new([]);
        for _ in 0..size {
            body.instructions().nop();
        }
        body.instructions().end();
        code.function(&body);
    }
    let mut module = Module::new();
    module.section(&one_type()).section(&functions).section(&code);
    module
}

fn nested(depth: usize) -> Vec<u8> {
    let mut inner = Component::new();
    for _ in 1..depth {
        let mut outer = Component::new();
        outer.section(&wasm_encoder::NestedComponentSection(&inner));
        inner = outer;
    }
    inner.finish()
}

fn memories(count: u32) -> Module {
    let mut section = MemorySection::new();
    for _ in 0..count {
        section.memory(MemoryType { minimum: 1, maximum: None, memory64: false, shared: false, page_size_log2: None });
    }
    let mut module = Module::new();
    module.section(&section);
    module
}

fn tables(count: u32, minimum: u64) -> Module {
    let element_type = RefType::FUNCREF;
    let mut section = TableSection::new();
    for _ in 0..count {
        section.table(TableType { element_type, table64: false, minimum, maximum: None, shared: false });
    }
    let mut module = Module::new();
    module.section(&section);
    module
}

fn data(count: u32) -> Module {
    let mut section = DataSection::new();
    for _ in 0..count {
        section.passive([0]);
    }
    let mut module = Module::new();
    module.section(&section);
    module
}

fn elements(count: u32) -> Module {
    let mut section = ElementSection::new();
    for _ in 0..count {
        section.passive(Elements::Functions((&[] as &[u32]).into()));
    }
    let mut module = Module::new();
    module.section(&section);
    module
}

fn globals(count: u32) -> Module {
    let mut section = GlobalSection::new();
    for _ in 0..count {
        section.global(GlobalType { val_type: ValType::I32, mutable: true, shared: false }, &ConstExpr::i32_const(0));
    }
    let mut module = Module::new();
    module.section(&section);
    module
}

fn types(count: u32) -> Module {
    let mut section = TypeSection::new();
    for _ in 0..count {
        section.ty().function([], []);
    }
    let mut module = Module::new();
    module.section(&section);
    module
}

fn exports(count: u32) -> Module {
    let mut section = ExportSection::new();
    for n in 0..count {
        section.export(&n.to_string(), ExportKind::Func, 0);
    }
    let mut module = Module::new();
    module.section(&one_type()).section(&section);
    module
}

fn component_types(count: u32) -> Vec<u8> {
    let mut section = ComponentTypeSection::new();
    for _ in 0..count {
        section.defined_type().list(PrimitiveValType::String);
    }
    let mut component = Component::new();
    component.section(&section);
    component.finish()
}

fn instances(count: u32) -> Vec<u8> {
    let mut section = InstanceSection::new();
    for _ in 0..count {
        section.instantiate(0, [] as [(&str, ModuleArg); 0]);
    }
    let mut component = Component::new();
    component.section(&ModuleSection(&Module::new())).section(&section);
    component.finish()
}

fn padded(size: usize) -> Vec<u8> {
    let mut bytes = Component::new().finish();
    bytes.resize(size, 0);
    bytes
}
