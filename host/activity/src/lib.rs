//! Activities: the work with side effects that the host runs for workflows, outside of their sandbox.
//!
//! `registry` finds the activity that a task names; `native` (closures of the embedder) and `wasm` (components with
//! granted capabilities, a fresh instance a call) run it; `dispatch` is the tower stack that every attempt passes.
//! `grants` and `manifest` say what a deployment allows. Retries and deadlines are the engine's: it drops the future of
//! an attempt to stop it. Knows `relive-core` and `relive-sandbox`: no engine, no HTTP server, no particular store.

mod dispatch;
mod failures;
mod grants;
pub mod manifest;
mod native;
mod registry;
mod wasm;

pub use dispatch::DispatchLimits;
pub use failures::{MAX_RESULT_BYTES, code};
pub use grants::{Access, DirGrant, GrantError, Grants, HostPattern, Scheme};
pub use manifest::{Manifest, ManifestError};
pub use native::NativeTask;
pub use registry::{ActivityRegistry, Builder};
pub use wasm::{DeployError, LoadedActivity, WasmHost, WasmHostError, WasmLimits};
