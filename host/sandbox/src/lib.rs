//! The sandbox for workflows: admission of uploads, compilation, linking, instances.
//!
//! An upload passes `admission` (pure checks), `compile` (a child process), `cache` (authenticated native code) and
//! `loaded` (linking, `describe`); guests of it are `reactor`s. Components that qualify are given accessors by
//! `instrument`, on which memory images (`image`) stand. `sandbox` is the facade over them. `memory` owns the guests' address space,
//! `engine` every setting that determinism rests on, `host` the guest's imports. Knows `relive-core` only: no store, no
//! HTTP, no async runtime.

pub mod admission;
mod bindings;
mod cache;
mod compile;
mod engine;
mod fault;
mod host;
mod image;
mod instrument;
mod loaded;
mod memory;
mod native;
mod reactor;
mod sandbox;
mod translate;

pub use admission::{AdmissionError, ComponentKind, Description, Inspection};
pub use cache::{CacheError, MAX_CACHE_BYTES};
pub use compile::{CompileError, CompileLimits, CompileMode, compile_child_main};
pub use engine::{EngineError, EngineKind, MAX_WASM_STACK, SandboxEngine};
pub use instrument::INSTRUMENTATION;
pub use loaded::{DESCRIBE_FUEL, IMAGE_ENGINE, INSTANTIATION_FUEL, LoadedComponent, check_descriptions};
pub use memory::{GuestStore, MemoryPool, MemoryStats, WASM_PAGE};
pub use reactor::ReactorGuest;
pub use sandbox::{Admitted, AdmittedComponent, CacheStats, Sandbox, SandboxConfig, SandboxError, Stage};
