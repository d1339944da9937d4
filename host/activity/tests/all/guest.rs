//! Activity components made of WebAssembly text: the contract's ABI by hand, WASI through the preview 1 adapter.

use std::path::PathBuf;
use std::sync::OnceLock;

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// What `kitchen` holds; the first letter says which.
pub const KITCHEN: &[&str] =
    &["big", "echo", "fail", "garbage", "env", "loop", "memory", "print", "quit", "read", "trap", "write", "zero"];

/// All that a guest can do wrong, and files and environment.
pub fn kitchen() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| component(include_str!("guests/kitchen.wat"), None, KITCHEN))
}

/// Sends `GET http://<input>/`, and answers the status.
pub fn http() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| component(include_str!("guests/http.wat"), Some(include_str!("guests/http.wit")), &["get"]))
}

/// A component whose `describe` runs for ever.
pub fn endless_describe() -> Vec<u8> {
    let text = include_str!("guests/kitchen.wat").replace(";;DESCRIBE", "(loop $l (br $l))");
    component(&text, None, &["loop"])
}

/// A component that describes itself with these names.
pub fn named(names: &[&str]) -> Vec<u8> {
    component(include_str!("guests/kitchen.wat"), None, names)
}

fn component(text: &str, wit: Option<&str>, names: &[&str]) -> Vec<u8> {
    let text = text.replace(";;NAMES", &descriptions(names)).replace("NAME_COUNT", &names.len().to_string());
    let mut module = wat::parse_str(&text).unwrap_or_else(|e| panic!("{e}"));
    let mut resolve = Resolve::default();
    let contract = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../wit/activity");
    let (mut package, _) = resolve.push_dir(&contract).expect("the contract");
    if let Some(wit) = wit {
        package = resolve.push_str("test.wit", wit).unwrap_or_else(|e| panic!("{e:?}"));
    }
    let world =
        resolve.select_world(&[package], Some(if wit.is_some() { "guest" } else { "activity" })).expect("a world");
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).expect("metadata");
    ComponentEncoder::default()
        .validate(true)
        .module(&module)
        .expect("a module")
        .adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER)
        .expect("the adapter")
        .encode()
        .unwrap_or_else(|e| panic!("{e:#}"))
}

/// The list that `describe` answers, laid out at 20480, its names at 24576.
fn descriptions(names: &[&str]) -> String {
    const RECORD: usize = 44;
    let mut list = Vec::new();
    let mut at = 24_576_u32;
    for name in names {
        let mut record = [0; RECORD];
        record[..4].copy_from_slice(&at.to_le_bytes());
        let length = u32::try_from(name.len()).expect("short");
        record[4..8].copy_from_slice(&length.to_le_bytes());
        list.extend_from_slice(&record);
        at += length;
    }
    let escaped: String = list.iter().map(|byte| format!("\\{byte:02x}")).collect();
    format!("(data (i32.const 20480) \"{escaped}\")\n(data (i32.const 24576) \"{}\")", names.concat())
}
