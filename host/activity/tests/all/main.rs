//! The tests of the crate, in one program: each that links wasmtime costs seconds to link.

mod catalog;
mod grants;
mod guest;
mod http;
mod limits;
mod manifest;
mod native;
mod order;
mod support;
mod wasm;
