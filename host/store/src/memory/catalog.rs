//! The catalog in memory.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;
use relive_core::{
    Digest, Namespace, Timestamp,
    ports::{
        Activation, ActivityRow, Catalog, ComponentMeta, PreflightRow, QueueRow, Standing, StoreError, VersionRow,
    },
};

use super::MemoryStore;

#[derive(Default)]
pub(super) struct Shelves {
    components: Mutex<HashMap<Digest, (ComponentMeta, Vec<u8>)>>,
    versions: Mutex<BTreeMap<(Namespace, String), Shelf>>,
    activities: Mutex<BTreeMap<(Namespace, String), ActivityRow>>,
    queues: Mutex<BTreeMap<(Namespace, String), QueueRow>>,
    /// Changes so far.
    revision: AtomicU64,
}

/// A workflow's versions, and which of them new runs take, change by change.
#[derive(Default)]
struct Shelf {
    versions: Vec<VersionRow>,
    deleted: BTreeSet<u32>,
    activations: Vec<Activation>,
    /// Oldest first.
    preflights: Vec<PreflightRow>,
}

impl Shelf {
    fn version(&self, number: u32) -> Option<&VersionRow> {
        self.there().find(|v| v.version == number)
    }

    fn there(&self) -> impl Iterator<Item = &VersionRow> {
        self.versions.iter().filter(|v| !self.deleted.contains(&v.version))
    }
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

    fn add_version(&self, namespace: &Namespace, row: &VersionRow) -> Result<VersionRow, StoreError> {
        let mut all = self.catalog.versions.lock();
        self.catalog.changed();
        let shelf = all.entry((namespace.clone(), row.workflow.to_string())).or_default();
        if let Some(known) = shelf.versions.iter_mut().find(|v| v.digest == row.digest && v.export == row.export) {
            if shelf.deleted.remove(&known.version) {
                let version = known.version;
                *known = VersionRow { version, active: false, ..row.clone() };
            }
            return Ok(known.clone());
        }
        let version = shelf.versions.last().map_or(1, |v| v.version + 1);
        let new = VersionRow { version, active: false, ..row.clone() };
        shelf.versions.push(new.clone());
        Ok(new)
    }

    fn activate(&self, namespace: &Namespace, last: u64, next: &Activation) -> Result<Option<Activation>, StoreError> {
        let mut all = self.catalog.versions.lock();
        let Some(shelf) = all.get_mut(&(namespace.clone(), next.workflow.to_string())) else { return Ok(None) };
        let named = [Some(next.version), next.canary.map(|c| c.version)];
        let known = named.into_iter().flatten().all(|number| shelf.version(number).is_some());
        if shelf.activations.len() as u64 != last || !known {
            return Ok(None);
        }
        self.catalog.changed();
        let next = Activation { number: last + 1, ..next.clone() };
        shelf.versions.iter_mut().for_each(|v| v.active = v.version == next.version);
        shelf.activations.push(next.clone());
        Ok(Some(next))
    }

    fn delete_version(
        &self,
        namespace: &Namespace,
        workflow: &str,
        version: u32,
        last: u64,
        _at: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut all = self.catalog.versions.lock();
        let Some(shelf) = all.get_mut(&(namespace.clone(), workflow.to_owned())) else { return Ok(false) };
        let stands = shelf.activations.last().is_some_and(|a| a.names(version));
        if shelf.activations.len() as u64 != last || stands || shelf.version(version).is_none() {
            return Ok(false);
        }
        self.catalog.changed();
        shelf.deleted.insert(version);
        Ok(true)
    }

    fn standing(&self, namespace: &Namespace, workflow: &str) -> Result<Option<Standing>, StoreError> {
        let all = self.catalog.versions.lock();
        let stands = |shelf: &Shelf| {
            let activation = shelf.activations.last()?.clone();
            let active = shelf.version(activation.version)?.clone();
            let canary = activation.canary.and_then(|c| shelf.version(c.version)).cloned();
            Some(Standing { activation, active, canary })
        };
        Ok(all.get(&(namespace.clone(), workflow.to_owned())).and_then(stands))
    }

    fn activations(&self, namespace: &Namespace, workflow: &str, limit: usize) -> Result<Vec<Activation>, StoreError> {
        let all = self.catalog.versions.lock();
        let shelf = all.get(&(namespace.clone(), workflow.to_owned()));
        Ok(shelf.map(|s| s.activations.iter().rev().take(limit).cloned().collect()).unwrap_or_default())
    }

    fn put_preflight(&self, namespace: &Namespace, row: &PreflightRow, keep: usize) -> Result<(), StoreError> {
        let mut all = self.catalog.versions.lock();
        let shelf = all.entry((namespace.clone(), row.workflow.to_string())).or_default();
        shelf.preflights.retain(|kept| kept.version != row.version || kept.at != row.at);
        shelf.preflights.push(row.clone());
        shelf.preflights.sort_by_key(|kept| kept.at);
        let of = |kept: &PreflightRow| kept.version == row.version;
        let mut over = shelf.preflights.iter().filter(|kept| of(kept)).count().saturating_sub(keep);
        shelf.preflights.retain(|kept| {
            let goes = of(kept) && over > 0;
            over -= usize::from(goes);
            !goes
        });
        Ok(())
    }

    fn preflights(&self, namespace: &Namespace, workflow: &str, version: u32) -> Result<Vec<PreflightRow>, StoreError> {
        let all = self.catalog.versions.lock();
        let shelf = all.get(&(namespace.clone(), workflow.to_owned()));
        let rows = shelf.into_iter().flat_map(|s| s.preflights.iter().rev());
        Ok(rows.filter(|row| row.version == version).cloned().collect())
    }

    fn versions(&self, namespace: &Namespace, workflow: Option<&str>) -> Result<Vec<VersionRow>, StoreError> {
        let all = self.catalog.versions.lock();
        let wanted = all.iter().filter(|((ns, name), _)| ns == namespace && workflow.is_none_or(|w| w == name));
        Ok(wanted.flat_map(|(_, shelf)| shelf.there()).cloned().collect())
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
