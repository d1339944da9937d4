//! The workers that hosts share: any host serves any worker, so who there is and who is gone stands in the store. Which
//! attempts a worker has stands in their tasks' rows, and each owner gives back what is its own. Only stores that hosts
//! share have this port; a host that is alone keeps its workers in memory.

use std::{sync::Arc, time::Duration};

use super::StoreError;
use crate::{ids::Namespace, time::Timestamp};

/// Why a worker is no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkerEnd {
    /// It said so.
    Stopped,
    /// It was not heard of for too long.
    Lost,
    /// It goes on under another id, and its attempts with it.
    Replaced {
        by: Arc<str>,
        /// Secrets of the claims that it really has; what else it was given never reached it. None: it has them all.
        holds: Option<Vec<u64>>,
    },
}

/// A worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerRow {
    pub id: Arc<str>,
    pub namespace: Namespace,
    /// What it calls itself.
    pub identity: Arc<str>,
    pub task_queues: Vec<String>,
    /// What it says that it runs; none: anything.
    pub activities: Vec<String>,
    /// The library that it is made with.
    pub sdk: Option<String>,
    pub registered_at: Timestamp,
    /// By the store's clock; some seconds late.
    pub last_seen: Timestamp,
    pub ended: Option<WorkerEnd>,
}

/// The id that a worker had before.
#[derive(Clone, Copy, Debug)]
pub struct Replaces<'a> {
    pub id: &'a str,
    /// As [`WorkerEnd::Replaced::holds`].
    pub holds: Option<&'a [u64]>,
}

/// Workers of all hosts. Each write is durable when it returns. Times are the store's clock's. Callers repeat what failed,
/// all of it may be repeated.
pub trait WorkerStore: Send + Sync {
    /// Makes a worker known, and ends the one that it replaces, if that is of its namespace and has not ended. The times
    /// of `row` are not looked at. False: its namespace has `most` workers that have not ended.
    fn put_worker(&self, row: &WorkerRow, replaces: Option<Replaces<'_>>, most: usize) -> Result<bool, StoreError>;

    /// The worker has stopped. False: there is none of this namespace that has not ended.
    fn end_worker(&self, namespace: &Namespace, id: &str) -> Result<bool, StoreError>;

    /// These were heard of just now. The ended stay as they are.
    fn workers_seen(&self, ids: &[Arc<str>]) -> Result<(), StoreError>;

    /// Ends those that were not heard of for `silent`, and forgets those that ended `keep` ago. Says how many were lost.
    fn reap_workers(&self, silent: Duration, keep: Duration) -> Result<u64, StoreError>;

    /// Those of these that there are, in any order.
    fn workers_by_id(&self, ids: &[Arc<str>]) -> Result<Vec<WorkerRow>, StoreError>;

    /// The workers of a namespace, by id, each with how many attempts it has. The ended are among them for a while.
    fn workers(&self, namespace: &Namespace) -> Result<Vec<(WorkerRow, u64)>, StoreError>;
}
