//! The catalog in memory.

use std::{
    collections::{BTreeMap, HashMap},
    sync::atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;
use relive_core::{
    Digest, Namespace,
    ports::{ActivityRow, Catalog, ComponentMeta, QueueRow, StoreError, VersionRow},
};

use super::MemoryStore;

#[derive(Default)]
pub(super) struct Shelves {
    components: Mutex<HashMap<Digest, (ComponentMeta, Vec<u8>)>>,
    versions: Mutex<BTreeMap<(Namespace, String), Vec<VersionRow>>>,
    activities: Mutex<BTreeMap<(Namespace, String), ActivityRow>>,
    queues: Mutex<BTreeMap<(Namespace, String), QueueRow>>,
    /// Changes so far.
    revision: AtomicU64,
}

impl Shelves {
    pub(super) fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    fn changed(&self) {
        self.revision.fetch_add(1, Ordering::AcqRel);
    }
}

impl Catalog for MemoryStore {
    fn put_component(&self, meta: &ComponentMeta, bytes: &[u8]) -> Result<(), StoreError> {
        crate::check::component(meta, bytes)?;
        self.catalog.components.lock().entry(meta.digest).or_insert_with(|| (meta.clone(), bytes.to_vec()));
        Ok(())
    }

    fn component(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.catalog.components.lock().get(digest).map(|(_, bytes)| bytes.clone()))
    }

    fn component_meta(&self, digest: &Digest) -> Result<Option<ComponentMeta>, StoreError> {
        Ok(self.catalog.components.lock().get(digest).map(|(meta, _)| meta.clone()))
    }

    fn deploy(&self, namespace: &Namespace, row: &VersionRow) -> Result<VersionRow, StoreError> {
        let mut all = self.catalog.versions.lock();
        self.catalog.changed();
        let versions = all.entry((namespace.clone(), row.workflow.to_string())).or_default();
        versions.iter_mut().for_each(|v| v.active = false);
        if let Some(known) = versions.iter_mut().find(|v| v.digest == row.digest && v.export == row.export) {
            known.active = true;
            return Ok(known.clone());
        }
        let version = versions.last().map_or(1, |v| v.version + 1);
        let new = VersionRow { version, active: true, ..row.clone() };
        versions.push(new.clone());
        Ok(new)
    }

    fn active_version(&self, namespace: &Namespace, workflow: &str) -> Result<Option<VersionRow>, StoreError> {
        let all = self.catalog.versions.lock();
        let versions = all.get(&(namespace.clone(), workflow.to_owned()));
        Ok(versions.and_then(|v| v.iter().find(|v| v.active)).cloned())
    }

    fn versions(&self, namespace: &Namespace, workflow: Option<&str>) -> Result<Vec<VersionRow>, StoreError> {
        let all = self.catalog.versions.lock();
        let wanted = all.iter().filter(|((ns, name), _)| ns == namespace && workflow.is_none_or(|w| w == name));
        Ok(wanted.flat_map(|(_, versions)| versions).cloned().collect())
    }

    fn put_activity(&self, namespace: &Namespace, row: &ActivityRow) -> Result<(), StoreError> {
        self.catalog.changed();
        self.catalog.activities.lock().insert((namespace.clone(), row.name.to_string()), row.clone());
        Ok(())
    }

    fn activity(&self, namespace: &Namespace, name: &str) -> Result<Option<ActivityRow>, StoreError> {
        Ok(self.catalog.activities.lock().get(&(namespace.clone(), name.to_owned())).cloned())
    }

    fn activities(&self, namespace: &Namespace) -> Result<Vec<ActivityRow>, StoreError> {
        Ok(self
            .catalog
            .activities
            .lock()
            .iter()
            .filter(|((ns, _), _)| ns == namespace)
            .map(|(_, row)| row.clone())
            .collect())
    }

    fn put_queue(&self, row: &QueueRow) -> Result<(), StoreError> {
        let (key, mut queues) = ((row.namespace.clone(), row.name.to_string()), self.catalog.queues.lock());
        self.catalog.changed();
        if row.limits.is_none() {
            queues.remove(&key);
        } else {
            queues.insert(key, row.clone());
        }
        Ok(())
    }

    fn queues(&self) -> Result<Vec<QueueRow>, StoreError> {
        Ok(self.catalog.queues.lock().values().cloned().collect())
    }
}
