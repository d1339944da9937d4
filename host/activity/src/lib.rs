//! Activities: the work with side effects that the host runs for workflows, outside of their sandbox.
//!
//! `registry` finds the activity that a task names, `deployed` those that come and go; `native` (closures of the
//! embedder), `wasm` (components with granted capabilities, a fresh instance a call) and `http` (signed requests to a
//! URL) run it; `dispatch` is the tower stack that every attempt passes, with the `breaker` of a deployed one.
//! `grants` and `manifest` say what a deployment allows, `protection` what it spares. Retries and deadlines are the engine's: it drops the future of
//! an attempt to stop it. Knows `relive-core` and `relive-sandbox`: no engine, no HTTP server, no particular store.

mod breaker;
mod deployed;
mod dispatch;
mod failures;
mod grants;
mod http;
pub mod manifest;
mod native;
mod protection;
mod registry;
mod wasm;

pub use breaker::{Breaker, BreakerPolicy, BreakerState, BreakerView};
pub use dispatch::DispatchLimits;
pub use failures::{MAX_RESULT_BYTES, code};
pub use grants::{Access, DirGrant, GrantError, Grants, HostPattern, Scheme};
pub use http::{HttpConfig, HttpConfigError, HttpHost, HttpHostError, KeyError, SigningKey};
pub use manifest::{ActivitySource, Manifest, ManifestError};
pub use native::NativeTask;
pub use protection::{BreakerSettings, MAX_CONCURRENCY, Protection, ProtectionError};
pub use registry::{ActivityRegistry, Builder};
pub use wasm::{DeployError, LoadedActivity, WasmHost, WasmHostError, WasmLimits};
