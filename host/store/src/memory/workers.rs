//! Workers that hosts share, in memory: the meaning of the port in its plainest form.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use relive_core::{
    Namespace, Timestamp,
    ports::{HistoryStore, Replaces, StoreError, WorkerEnd, WorkerRow, WorkerStore},
    shard::ShardSet,
};

use super::{MemoryStore, cluster::wall_clock};

#[derive(Default)]
pub(super) struct Workers {
    /// With the time of the end.
    rows: BTreeMap<Arc<str>, (WorkerRow, Timestamp)>,
}

impl Workers {
    fn end(&mut self, namespace: &Namespace, id: &str, how: WorkerEnd) -> bool {
        let found = self.rows.get_mut(id).filter(|(row, _)| row.namespace == *namespace && row.ended.is_none());
        let Some((row, at)) = found else { return false };
        (row.ended, *at) = (Some(how), wall_clock());
        true
    }
}

impl WorkerStore for MemoryStore {
    fn put_worker(&self, row: &WorkerRow, replaces: Option<Replaces<'_>>, most: usize) -> Result<bool, StoreError> {
        let mut workers = self.workers.lock();
        let of = workers.rows.values().filter(|(other, _)| other.namespace == row.namespace && other.ended.is_none());
        if of.count() >= most {
            return Ok(false);
        }
        let now = wall_clock();
        let added = WorkerRow { registered_at: now, last_seen: now, ended: None, ..row.clone() };
        workers.rows.entry(row.id.clone()).or_insert((added, now)).0.last_seen = now;
        if let Some(replaces) = replaces {
            let holds = replaces.holds.map(<[u64]>::to_vec);
            workers.end(&row.namespace, replaces.id, WorkerEnd::Replaced { by: row.id.clone(), holds });
        }
        Ok(true)
    }

    fn end_worker(&self, namespace: &Namespace, id: &str) -> Result<bool, StoreError> {
        Ok(self.workers.lock().end(namespace, id, WorkerEnd::Stopped))
    }

    fn workers_seen(&self, ids: &[Arc<str>]) -> Result<(), StoreError> {
        let mut workers = self.workers.lock();
        let now = wall_clock();
        for id in ids {
            if let Some((row, _)) = workers.rows.get_mut(id).filter(|(row, _)| row.ended.is_none()) {
                row.last_seen = now;
            }
        }
        Ok(())
    }

    fn reap_workers(&self, silent: Duration, keep: Duration) -> Result<u64, StoreError> {
        let mut workers = self.workers.lock();
        let now = wall_clock();
        let longer = |since: Timestamp, than: Duration| u128::from(now.since(since)) > than.as_nanos();
        workers.rows.retain(|_, (row, at)| row.ended.is_none() || !longer(*at, keep));
        let mut lost = 0;
        for (row, at) in workers.rows.values_mut().filter(|(row, _)| row.ended.is_none()) {
            if longer(row.last_seen, silent) {
                (row.ended, *at) = (Some(WorkerEnd::Lost), now);
                lost += 1;
            }
        }
        Ok(lost)
    }

    fn workers_by_id(&self, ids: &[Arc<str>]) -> Result<Vec<WorkerRow>, StoreError> {
        let workers = self.workers.lock();
        Ok(ids.iter().filter_map(|id| workers.rows.get(id)).map(|(row, _)| row.clone()).collect())
    }

    fn workers(&self, namespace: &Namespace) -> Result<Vec<(WorkerRow, u64)>, StoreError> {
        let tasks = self.open_tasks(&ShardSet::ALL, None, usize::MAX)?;
        let claims = |id: &str| {
            let of = tasks.iter().filter_map(|task| task.claim.as_ref()?.worker.as_deref());
            of.filter(|worker| *worker == id).count() as u64
        };
        let workers = self.workers.lock();
        let of = workers.rows.values().filter(|(row, _)| row.namespace == *namespace);
        Ok(of.map(|(row, _)| (row.clone(), claims(&row.id))).collect())
    }
}
