//! The HTTP/JSON surface of a host, under `/v1`.
//!
//! A request's way: [`serve`] (connection limits, timeouts) -> `envelope` (correlation id, origin check, panics, problem
//! details) -> `extract` (names, queries, bodies) -> one file per route in `routes` -> the engine. `openapi` makes the document of it. Users' JSON passes
//! through as text that was checked and never rebuilt. Knows the engine's facade alone: no stores, no sandbox.

mod codes;
mod connection;
mod direct;
mod envelope;
mod exposition;
mod extract;
mod forward;
mod openapi;
mod page;
mod problem;
mod routes;
mod serve;
mod sse;
mod trace;
mod traffic;

pub use axum::Router;
pub use codes::{CODES, status_of};
pub use direct::{DirectRequest, direct};
pub use forward::HttpPeers;
pub use openapi::openapi;
pub use routes::router;
pub use serve::serve;

/// Every metric that `/metrics` shows.
pub fn metric_definitions() -> impl Iterator<Item = &'static relive_engine::metrics::Definition> {
    relive_engine::metrics::DEFINITIONS.iter().chain(traffic::DEFINITIONS).copied()
}
