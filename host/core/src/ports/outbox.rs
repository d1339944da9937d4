//! The outbox: which events of histories other systems have not been told of yet. Written in the transaction of the events
//! themselves, by a store that is told to ([`AppendItem`](super::AppendItem)s know nothing of it).

use super::StoreError;
use crate::{ids::RunKey, shard::ShardSet};

/// Events of one run that were appended together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Unpublished {
    pub run: RunKey,
    /// The first event.
    pub first: u64,
    /// The last one.
    pub last: u64,
}

/// What waits to be published. Reading is of what was committed; whoever publishes it deletes it afterwards, and publishes
/// again what it could not delete.
pub trait Outbox: Send + Sync {
    /// What waits in these shards, by run and event, after `after`.
    fn unpublished(
        &self,
        shards: &ShardSet,
        after: Option<Unpublished>,
        limit: usize,
    ) -> Result<Vec<Unpublished>, StoreError>;

    /// These were published. Durable when it returns; those that are gone already are fine.
    fn published(&self, events: &[Unpublished]) -> Result<(), StoreError>;
}
