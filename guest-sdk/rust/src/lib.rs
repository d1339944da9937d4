//! Relive's SDK for Rust: durable workflows as `async fn`s, and the activities that they call.
//!
//! A workflow crate is a `cdylib` for `wasm32-unknown-unknown`:
//!
//! ```
//! use relive_sdk::{activity, workflow, Failure};
//! use schemars::JsonSchema;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Deserialize, JsonSchema)]
//! struct Order { card: String, cents: u64 }
//! #[derive(Serialize, Deserialize, JsonSchema)]
//! struct Receipt { id: String }
//!
//! /// Charges an order.
//! #[workflow]
//! async fn order(input: Order) -> Result<Receipt, Failure> {
//!     activity("charge", &(input.card, input.cents)).max_attempts(5).await
//! }
//!
//! relive_sdk::workflows![order];
//! # fn main() {}
//! ```
//!
//! Workflows that read messages say from which channels: `#[workflow(channels = ["go", "stop"])]`. The host then refuses
//! messages to others, which nobody would ever read; `channels = []` takes none. Undeclared, any channel has messages.
//!
//! This file lists what is public. It owns no behaviour.
#![warn(missing_docs)]

mod activity;
mod bindings;
mod combine;
mod context;
mod export;
mod failure;
mod group;
mod host;
pub mod log;
mod message;
mod promise;
mod runtime;
mod task;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
mod timer;
#[cfg(feature = "wasi")]
pub mod wasi;

pub use activity::{activity, Activity, CancellationType, RetryPolicy};
pub use combine::{join, join_all, race, select, try_join_all, Either};
pub use context::{
    cancel_requested, continue_as_new, info, now, patched, publish, random_bytes, random_u64, uuid, version, Info,
};
pub use failure::{ActivityFailure, Failure, FailureKind};
pub use message::{message, Message};
pub use promise::Pending;
pub use relive_sdk_macros::{activity, workflow};
pub use schemars;
pub use serde;
pub use serde_json;
pub use task::Task;
pub use timer::{timer, Timer};

/// What the macros expand to. No part of the public interface.
#[doc(hidden)]
pub mod __private {
    pub use crate::bindings::{activity_world, workflow_world};
    pub use crate::bindings::{export_activity, export_workflow, handler, reactor};
    pub use crate::export::*;
    pub use schemars;
    pub use serde_json;
}
