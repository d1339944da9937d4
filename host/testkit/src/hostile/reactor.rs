//! Hand-written guests: core modules in the text format that carry the contract's metadata, so that every refusal and
//! every fault can be provoked by a line of code. The sandbox's own tests take this file as a module of theirs, so it
//! must not know the rest of the testkit.

use std::path::Path;

use wit_component::StringEncoding;

/// A guest by its parts; each is text of the core module.
pub struct GuestText {
    pub imports: &'static str,
    pub fields: &'static str,
    pub memory: &'static str,
    pub describe: &'static str,
    pub start: &'static str,
    pub resume: &'static str,
}

/// What `start` and `resume` return: address 512 holds a state.
pub const WAITING: &str = "(i32.store8 (i32.const 512) (i32.const 0)) (i32.const 512)";
/// Address 256 holds a list of one description whose name is `demo`: a record of 56 bytes at 264, without summary (at 8),
/// schemas (at 20 and 32) and channels (at 44).
pub const DESCRIBED: &str = "(i32.store (i32.const 256) (i32.const 264)) (i32.store (i32.const 260) (i32.const 1))
    (i32.store (i32.const 264) (i32.const 16)) (i32.store (i32.const 268) (i32.const 4)) (i32.const 256)";
/// Completes with the JSON `"demo"`.
pub const DONE: &str = "(i32.store8 (i32.const 512) (i32.const 1)) (i32.store8 (i32.const 516) (i32.const 0))
    (i32.store (i32.const 520) (i32.const 32)) (i32.store (i32.const 524) (i32.const 6)) (i32.const 512)";
pub const TIMER: &str = r#"(import "relive:workflow/durable@0.1.0" "start-timer" (func $timer (param i64 i32)))"#;
pub const NOW: &str = r#"(import "relive:workflow/durable@0.1.0" "now" (func $now (result i64)))"#;
pub const PUBLISH: &str =
    r#"(import "relive:workflow/durable@0.1.0" "publish" (func $publish (param i32 i32 i32 i32 i32)))"#;
/// An infinite loop.
pub const FOREVER: &str = "(loop $l (br $l)) unreachable";
/// Calls itself until the stack is gone.
pub const RECURSION: &str = "(func $deep (param i64) (result i64)
    (i64.add (call $deep (i64.add (local.get 0) (i64.const 1))) (local.get 0)))";

impl Default for GuestText {
    fn default() -> Self {
        Self { imports: "", fields: "", memory: "2", describe: DESCRIBED, start: WAITING, resume: WAITING }
    }
}

impl GuestText {
    pub fn module_text(&self) -> String {
        let Self { imports, fields, memory, describe, start, resume } = self;
        format!(
            r#"(module
            {imports}
            (memory (export "memory") {memory})
            (global $bump (mut i32) (i32.const 4096))
            (data (i32.const 16) "demo")
            (data (i32.const 32) "\"demo\"")
            {fields}
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
              (local $at i32)
              (local.set $at (i32.and (i32.add (global.get $bump) (i32.const 7)) (i32.const -8)))
              (global.set $bump (i32.add (local.get $at) (local.get 3)))
              (local.get $at))
            (func $reset (param i32) (global.set $bump (i32.const 4096)))
            (export "cabi_post_relive:workflow/reactor@0.1.0#start" (func $reset))
            (export "cabi_post_relive:workflow/reactor@0.1.0#resume" (func $reset))
            (func (export "relive:workflow/reactor@0.1.0#describe") (result i32) {describe})
            (func (export "relive:workflow/reactor@0.1.0#start") (param i32 i32 i32 i32) (result i32) {start})
            (func (export "relive:workflow/reactor@0.1.0#resume")
              (param i32 i64 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32) {resume}))"#
        )
    }

    /// The core module with the contract's metadata.
    pub fn module(&self) -> Vec<u8> {
        let mut module = wat::parse_str(self.module_text()).expect("the test's text is well-formed");
        let mut resolve = wit_parser::Resolve::default();
        let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit");
        let (package, _) = resolve.push_dir(wit).expect("the contract parses");
        let world = resolve.select_world(&[package], Some("workflow")).expect("the world exists");
        wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false)
            .expect("embeds");
        module
    }

    pub fn component(&self) -> Vec<u8> {
        let mut encoder = wit_component::ComponentEncoder::default();
        encoder.module(&self.module()).expect("a module").encode().expect("a component")
    }
}
