//! The tests of the crate, in one program: each that links wasmtime costs seconds to link.

mod catalog;
mod grants;
mod guest;
mod http;
mod http_calls;
mod limits;
mod manifest;
mod native;
mod order;
#[allow(dead_code, reason = "the testkit's; it is shared by the file, as the testkit needs this crate")]
#[path = "../../../testkit/src/receiver.rs"]
mod receiver;
mod support;
mod wasm;
