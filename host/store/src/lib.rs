//! Histories and what belongs to them, kept: the adapters of relive-core's store ports.
//!
//! [`SqliteStore`] is the embedded database, [`PostgresStore`] the one that hosts share, [`MemoryStore`] the same in
//! memory, for tests and throw-away hosts. All judge items by the same rules (`check`) and pass the same suite
//! (`contract`, behind the feature of that name).
//! Nothing here knows what events mean, how turns run, or that there is HTTP.

mod artifacts;
mod check;
mod columns;
#[cfg(feature = "contract")]
pub mod contract;
mod memory;
mod postgres;
mod sqlite;

pub use memory::MemoryStore;
#[cfg(feature = "contract")]
pub use postgres::plans;
pub use postgres::{ConnectError, Migrated, PostgresOptions, PostgresStore};
pub use sqlite::{FatalHandler, FaultPoint, Faults, OpenError, OpenOptions, SqliteStore};
