//! Histories and what belongs to them, kept: the adapters of relive-core's store ports.
//!
//! [`SqliteStore`] is the embedded database, [`MemoryStore`] the same in memory, for tests and throw-away hosts. Both
//! judge items by the same rules (`check`) and pass the same suite (`contract`, behind the feature of that name).
//! Nothing here knows what events mean, how turns run, or that there is HTTP.

mod check;
#[cfg(feature = "contract")]
pub mod contract;
mod memory;
mod sqlite;

pub use memory::MemoryStore;
pub use sqlite::{FatalHandler, FaultPoint, Faults, OpenError, OpenOptions, SqliteStore};
