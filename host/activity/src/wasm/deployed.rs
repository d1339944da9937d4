//! The wasm activities that are loaded, by namespace and name; those of the catalog are loaded when first asked for.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use relive_core::{Digest, ids::Namespace, ports::Catalog};
use tokio::sync::Semaphore;
use tower::limit::GlobalConcurrencyLimitLayer;

use super::access::OpenGrants;
use super::call;
use super::host::{LoadedActivity, WasmHost};
use crate::dispatch::{self, Run};
use crate::grants::{GrantError, Grants};

/// Activities of the catalog that are kept loaded; the one unused for longest goes first. Each keeps native code
/// mapped and its directories open.
pub const MAX_LOADED: usize = 256;

/// How long it is believed that the catalog does not know a name; another host may deploy it meanwhile.
const BELIEVE_ABSENT: Duration = Duration::from_secs(1);
/// Names of that kind that are kept: guests make them up.
const MAX_ABSENT: usize = 10_000;

pub(crate) struct Deployed {
    host: WasmHost,
    limit: GlobalConcurrencyLimitLayer,
    catalog: Option<Arc<dyn Catalog>>,
    entries: RwLock<HashMap<Arc<str>, Vec<Entry>>>,
    /// One load at a time: they compile, which the sandbox does one at a time too, and the next may find it done.
    loading: Semaphore,
    /// Counts deployments, so that a load notices one that overtook it.
    changes: AtomicU64,
    /// Counts uses: the clock by which the one unused for longest is found.
    uses: AtomicU64,
    /// Names that the catalog did not know, and until when that is believed.
    absent: Mutex<HashMap<(Namespace, Arc<str>), Instant>>,
}

struct Entry {
    namespace: Namespace,
    loaded: LoadedActivity,
    run: Run,
    /// Can be had again from there.
    from_catalog: bool,
    used: AtomicU64,
}

impl Deployed {
    pub(crate) fn new(host: WasmHost, limit: usize, catalog: Option<Arc<dyn Catalog>>) -> Arc<Self> {
        let limit = GlobalConcurrencyLimitLayer::new(limit);
        let (entries, changes, uses, absent) = Default::default();
        Arc::new(Self { host, limit, catalog, entries, loading: Semaphore::new(1), changes, uses, absent })
    }

    pub(crate) fn find(&self, namespace: &Namespace, name: &str) -> Option<Run> {
        let entries = self.entries.read();
        let entry = entries.get(name)?.iter().find(|entry| entry.namespace == *namespace)?;
        entry.used.store(self.uses.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        Some(Arc::clone(&entry.run))
    }

    /// Whether an activity of the name is loaded or in the catalog. That it is not is believed for a moment: it is asked
    /// for every task that workers take. A catalog that cannot be read counts as yes: the attempt then says why.
    pub(crate) fn knows(&self, namespace: &Namespace, name: &str) -> bool {
        if self.digest_of(namespace, name).is_some() {
            return true;
        }
        let Some(catalog) = &self.catalog else { return false };
        let key = (namespace.clone(), Arc::<str>::from(name));
        let now = Instant::now();
        if self.absent.lock().get(&key).is_some_and(|until| *until > now) {
            return false;
        }
        let unknown = catalog.activity(namespace, name).is_ok_and(|row| row.is_none());
        if unknown {
            let mut absent = self.absent.lock();
            if absent.len() >= MAX_ABSENT {
                absent.clear();
            }
            absent.insert(key, now + BELIEVE_ABSENT);
        }
        !unknown
    }

    pub(crate) fn digest_of(&self, namespace: &Namespace, name: &str) -> Option<Digest> {
        let entries = self.entries.read();
        entries.get(name)?.iter().find(|entry| entry.namespace == *namespace).map(|entry| entry.loaded.digest())
    }

    pub(crate) fn put(
        &self,
        namespace: &Namespace,
        name: &str,
        loaded: LoadedActivity,
        grants: &Grants,
    ) -> Result<(), GrantError> {
        let entry = self.entry(namespace, loaded, grants, false)?;
        let mut entries = self.entries.write();
        self.changes.fetch_add(1, Ordering::Relaxed);
        self.absent.lock().clear();
        let named = entries.entry(name.into()).or_default();
        named.retain(|e| e.namespace != *namespace);
        named.push(entry);
        Ok(())
    }

    pub(crate) fn forget(&self, namespace: &Namespace, name: &str) -> bool {
        let mut entries = self.entries.write();
        self.changes.fetch_add(1, Ordering::Relaxed);
        self.absent.lock().clear();
        let Some(named) = entries.get_mut(name) else {
            return false;
        };
        let before = named.len();
        named.retain(|e| e.namespace != *namespace);
        let found = named.len() < before;
        if named.is_empty() {
            entries.remove(name);
        }
        found
    }

    /// Loads an activity from the catalog. `None`: the catalog does not know it.
    pub(crate) async fn load(self: &Arc<Self>, namespace: &Namespace, name: &Arc<str>) -> Result<Option<Run>, String> {
        if self.catalog.is_none() {
            return Ok(None);
        }
        let _turn = self.loading.acquire().await.map_err(|e| e.to_string())?;
        if let Some(run) = self.find(namespace, name) {
            return Ok(Some(run));
        }
        let runtime = self.host.handle().ok_or("the host is shutting down")?;
        let (this, namespace, name) = (Arc::clone(self), namespace.clone(), Arc::clone(name));
        let loaded = runtime.spawn_blocking(move || this.load_blocking(&namespace, &name));
        loaded.await.map_err(|e| e.to_string())?
    }

    fn load_blocking(&self, namespace: &Namespace, name: &Arc<str>) -> Result<Option<Run>, String> {
        let Some(catalog) = &self.catalog else {
            return Ok(None);
        };
        loop {
            let seen = self.changes.load(Ordering::Relaxed);
            let Some(row) = catalog.activity(namespace, name).map_err(|e| e.to_string())? else {
                return Ok(None);
            };
            let grants = Grants::from_json(&row.grants).map_err(|e| e.to_string())?;
            let loaded = match self.with_digest(&row.digest) {
                Some(loaded) => loaded,
                None => {
                    let bytes = catalog.component(&row.digest).map_err(|e| e.to_string())?;
                    let bytes = bytes.ok_or_else(|| format!("the store has no component {}", row.digest))?;
                    self.host.load(row.digest, &bytes).map_err(|e| e.to_string())?
                }
            };
            let entry = self.entry(namespace, loaded, &grants, true).map_err(|e| e.to_string())?;
            let run = Arc::clone(&entry.run);
            let mut entries = self.entries.write();
            // A deployment in between: the row may be old.
            if self.changes.load(Ordering::Relaxed) != seen {
                continue;
            }
            make_room(&mut entries);
            let named = entries.entry(Arc::clone(name)).or_default();
            named.retain(|e| e.namespace != *namespace);
            named.push(entry);
            return Ok(Some(run));
        }
    }

    /// A component with several activities is linked once.
    fn with_digest(&self, digest: &Digest) -> Option<LoadedActivity> {
        let entries = self.entries.read();
        entries.values().flatten().map(|entry| &entry.loaded).find(|loaded| loaded.digest() == *digest).cloned()
    }

    fn entry(
        &self,
        namespace: &Namespace,
        loaded: LoadedActivity,
        grants: &Grants,
        from_catalog: bool,
    ) -> Result<Entry, GrantError> {
        let grants = Arc::new(OpenGrants::open(grants)?);
        let runtime = self.host.handle().ok_or_else(|| GrantError::Form("the host is shutting down".into()))?.clone();
        let (host, component) = (self.host.clone(), loaded.clone());
        let run = dispatch::spawned(&self.limit, runtime, move |task| {
            call::attempt(host.clone(), component.clone(), Arc::clone(&grants), task)
        });
        let used = AtomicU64::new(self.uses.fetch_add(1, Ordering::Relaxed));
        Ok(Entry { namespace: namespace.clone(), loaded, run, from_catalog, used })
    }
}

/// Lets go of what the catalog can give again. Attempts under way keep what they run.
fn make_room(entries: &mut HashMap<Arc<str>, Vec<Entry>>) {
    let loaded = entries.values().flatten().filter(|entry| entry.from_catalog);
    if loaded.clone().count() < MAX_LOADED {
        return;
    }
    let Some(oldest) = loaded.map(|entry| entry.used.load(Ordering::Relaxed)).min() else {
        return;
    };
    entries.retain(|_, named| {
        named.retain(|entry| !entry.from_catalog || entry.used.load(Ordering::Relaxed) != oldest);
        !named.is_empty()
    });
}
