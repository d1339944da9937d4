//! Wasm activities: components with granted capabilities, a fresh instance a call.
//!
//! `host` links, describes and runs them; `call` is one attempt. `access` and `outbound`
//! enforce the grants, `limiter`, `output` and `ticker` the bounds. Compilation and its cache are the sandbox's.

mod access;
mod bindings;
mod call;
mod error;
mod fault;
mod host;
mod limiter;
mod outbound;
mod output;
mod state;
mod ticker;
mod workers;

pub(crate) use access::OpenGrants;
pub(crate) use call::attempt;
pub use error::{DeployError, WasmHostError};
pub use host::{LoadedActivity, WasmHost};
pub use limiter::WasmLimits;
