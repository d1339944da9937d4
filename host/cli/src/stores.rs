//! The stores that a host may have, behind the ports: the one that it has to itself, and the one that hosts share.

use std::{path::Path, sync::Arc};

use relive_core::ports::{Catalog, ClusterStore, HistoryStore, ImageStore, Outbox, StoreError, WorkerStore};
use relive_store::{ConnectError, OpenError, OpenOptions, PostgresOptions, PostgresStore, SqliteStore};

type Close = Box<dyn Fn() -> Result<(), StoreError> + Send + Sync>;

/// An open store.
pub struct Opened {
    pub history: Arc<dyn HistoryStore>,
    pub catalog: Arc<dyn Catalog>,
    pub images: Arc<dyn ImageStore>,
    /// Only of a store that hosts share.
    pub cluster: Option<Arc<dyn ClusterStore>>,
    /// Likewise.
    pub workers: Option<Arc<dyn WorkerStore>>,
    /// Likewise.
    pub outbox: Option<Arc<dyn Outbox>>,
    /// The epoch of a host that has it to itself.
    pub epoch: u64,
    /// Whether the host before ended in good order, as far as the store knows.
    pub clean: bool,
    /// Commits so far, as the store counts them; of a shared one, round trips.
    pub commits: Arc<dyn Fn() -> u64 + Send + Sync>,
    close: Close,
}

impl Opened {
    /// The embedded database in `dir`.
    pub fn sqlite(dir: &Path) -> Result<Self, OpenError> {
        let store = Arc::new(SqliteStore::open(dir, OpenOptions::default())?);
        let (counted, closed) = (store.clone(), store.clone());
        Ok(Self {
            history: store.clone(),
            catalog: store.clone(),
            images: store.clone(),
            cluster: None,
            workers: None,
            outbox: None,
            epoch: store.epoch(),
            clean: store.was_clean(),
            commits: Arc::new(move || counted.commits()),
            close: Box::new(move || closed.close_clean()),
        })
    }

    /// The database that hosts share.
    pub fn shared(options: &PostgresOptions) -> Result<Self, ConnectError> {
        let store = Arc::new(PostgresStore::connect(options)?);
        let counted = store.clone();
        Ok(Self {
            history: store.clone(),
            catalog: store.clone(),
            images: store.clone(),
            cluster: Some(store.clone()),
            workers: Some(store.clone()),
            outbox: Some(store),
            epoch: 0,
            // What ran here when this host died is in its marks; what was dispatched is counted at the take-over.
            clean: false,
            commits: Arc::new(move || counted.round_trips()),
            close: Box::new(|| Ok(())),
        })
    }

    /// Notes that the host ends in good order.
    pub fn close_clean(&self) -> Result<(), StoreError> {
        (self.close)()
    }
}
