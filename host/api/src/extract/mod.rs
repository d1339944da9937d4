//! Extractors whose refusals are problems: names in paths, queries, bodies.

mod body;
mod key;
mod names;
mod query;

pub use body::{JsonBody, header, parse, parse_or_default, read_small, read_upload, take_json, whole_json};
pub use key::{IdempotencyKey, idempotency_key};
pub use names::{ExecutionPath, NamespacePath, Param, VersionPath};
pub use query::Query;
