//! What wasmtime generates from `wit/`: typed calls in both directions, nothing by hand.
//!
//! One lowering path: live and relived guests get every value through these types, never through `Val`, because the
//! bytes that the host writes are part of the guest's memory. The generated code has `unsafe impl`s of wasmtime's own
//! macro; nothing else may stand in this file.
#![allow(unsafe_code, clippy::all)]

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "relive:workflow/workflow",
    imports: { default: trappable },
    additional_derives: [PartialEq],
});
