//! What callers can do with an engine, one file a subject. Nothing here decides: requests become messages to owners,
//! questions are answered from the store.

mod control;
pub(crate) mod deep;
mod deploy;
mod failed;
pub(crate) mod follow;
mod fork;
mod lookup;
mod pending;
pub(crate) mod place;
mod policies;
mod preflight;
mod reads;
mod relive;
mod results;
mod starts;
mod steps;
mod tasks;
mod verify;
mod versions;
pub(crate) mod workers;

pub use deploy::DeployTold;
pub use failed::{FailedPage, FailedTask};
pub(crate) use lookup::store_error;
pub use pending::{PendingActivity, PendingPage, PendingState};
pub use policies::derived_id;
pub(crate) use relive::{open_promises, record};
