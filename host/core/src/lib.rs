//! What Relive *means*: events, history, commands, the replay cursor, limits, errors and ports.
//!
//! Everything here is a pure function of its arguments: no I/O, no clock, no thread, no async runtime. Effects live at
//! the edges, behind the traits in [`ports`] and [`guest`]. Nothing here knows about WebAssembly, SQL or HTTP.

pub mod canonical_hash;
pub mod codec;
pub mod command;
pub mod cursor;
pub mod deadline;
pub mod error;
pub mod event;
pub mod failure;
pub mod fingerprint;
pub mod guest;
pub mod history;
pub mod ids;
pub mod image;
pub mod json;
pub mod life;
pub mod limits;
pub mod options;
pub mod ports;
pub mod random;
pub mod retry;
pub mod shard;
pub mod time;
pub mod trace;

pub use error::{Error, ErrorContext, ErrorKind};
pub use event::{Attributes, Category, EventClass, EventType, HistoryEvent};
pub use failure::{Failure, FailureKind};
pub use ids::{Digest, ExecutionKey, Namespace, RunId, RunKey, WorkflowId};
pub use json::Json;
pub use shard::{SHARDS, Shard, ShardSet};
pub use time::Timestamp;
