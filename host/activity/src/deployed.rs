//! The deployed activities that are loaded, by namespace and name; those of the catalog are loaded when first asked for.
//!
//! Each has a circuit breaker of its own. Must not know: what an attempt does.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use relive_core::{
    Digest,
    ids::Namespace,
    ports::{Catalog, Implementation},
};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tower::limit::GlobalConcurrencyLimitLayer;

use crate::breaker::{Breaker, BreakerPolicy};
use crate::dispatch::{self, DispatchLimits, Limits, Run};
use crate::grants::{GrantError, Grants};
use crate::http::{self, HttpConfig, HttpConfigError, HttpHost};
use crate::wasm::{self, LoadedActivity, OpenGrants, WasmHost};

/// Activities of the catalog that are kept loaded; the one unused for longest goes first. Each may keep native code
/// mapped and its directories open.
pub const MAX_LOADED: usize = 256;

/// How long it is believed that the catalog does not know a name; another host may deploy it meanwhile.
const BELIEVE_ABSENT: Duration = Duration::from_secs(1);
/// Names of that kind that are kept: guests make them up.
const MAX_ABSENT: usize = 10_000;

pub(crate) struct Deployed {
    wasm: Option<WasmHost>,
    http: Option<HttpHost>,
    wasm_limit: GlobalConcurrencyLimitLayer,
    http_limit: GlobalConcurrencyLimitLayer,
    policy: BreakerPolicy,
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
    /// The component, of a wasm activity.
    loaded: Option<LoadedActivity>,
    breaker: Breaker,
    run: Run,
    /// Can be had again from there.
    from_catalog: bool,
    used: AtomicU64,
}

/// What a registry runs deployed activities with.
pub(crate) struct Hosts {
    pub(crate) wasm: Option<WasmHost>,
    pub(crate) http: Option<HttpHost>,
}

impl Deployed {
    pub(crate) fn new(
        hosts: Hosts,
        limits: DispatchLimits,
        policy: BreakerPolicy,
        catalog: Option<Arc<dyn Catalog>>,
    ) -> Arc<Self> {
        let Hosts { wasm, http } = hosts;
        let wasm_limit = GlobalConcurrencyLimitLayer::new(limits.wasm);
        let http_limit = GlobalConcurrencyLimitLayer::new(limits.http);
        let loading = Semaphore::new(1);
        let (entries, changes, uses, absent) = Default::default();
        Arc::new(Self { wasm, http, wasm_limit, http_limit, policy, catalog, entries, loading, changes, uses, absent })
    }

    pub(crate) fn find(&self, namespace: &Namespace, name: &str) -> Option<Run> {
        self.with(namespace, name, |entry| {
            entry.used.store(self.uses.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
            Arc::clone(&entry.run)
        })
    }

    /// Whether an activity of the name is loaded or in the catalog. That it is not is believed for a moment: it is asked
    /// for every task that workers take. A catalog that cannot be read counts as yes: the attempt then says why.
    pub(crate) fn knows(&self, namespace: &Namespace, name: &str) -> bool {
        if self.with(namespace, name, |_| ()).is_some() {
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
        self.with(namespace, name, |entry| entry.loaded.as_ref().map(LoadedActivity::digest)).flatten()
    }

    pub(crate) fn breaker_of(&self, namespace: &Namespace, name: &str) -> Option<Breaker> {
        self.with(namespace, name, |entry| entry.breaker.clone())
    }

    /// All that are loaded.
    pub(crate) fn breakers(&self) -> Vec<(Namespace, Arc<str>, Breaker)> {
        let entries = self.entries.read();
        let all = entries.iter().flat_map(|(name, named)| named.iter().map(move |entry| (name, entry)));
        all.map(|(name, entry)| (entry.namespace.clone(), Arc::clone(name), entry.breaker.clone())).collect()
    }

    fn with<T>(&self, namespace: &Namespace, name: &str, look: impl FnOnce(&Entry) -> T) -> Option<T> {
        let entries = self.entries.read();
        entries.get(name)?.iter().find(|entry| entry.namespace == *namespace).map(look)
    }

    pub(crate) fn put_wasm(
        &self,
        namespace: &Namespace,
        name: &str,
        loaded: LoadedActivity,
        grants: &Grants,
    ) -> Result<(), GrantError> {
        let entry = self.wasm_entry(namespace, loaded, grants)?;
        self.put(name, entry);
        Ok(())
    }

    pub(crate) fn put_http(
        &self,
        namespace: &Namespace,
        name: &str,
        config: &HttpConfig,
    ) -> Result<(), HttpConfigError> {
        let entry = self.http_entry(namespace, config)?;
        self.put(name, entry);
        Ok(())
    }

    fn put(&self, name: &str, entry: Entry) {
        let mut entries = self.entries.write();
        self.changes.fetch_add(1, Ordering::Relaxed);
        self.absent.lock().clear();
        insert(&mut entries, name.into(), entry);
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

    /// Forgets everything that the catalog can give again.
    pub(crate) fn forget_all(&self) {
        let mut entries = self.entries.write();
        self.changes.fetch_add(1, Ordering::Relaxed);
        self.absent.lock().clear();
        entries.values_mut().for_each(|named| named.retain(|entry| !entry.from_catalog));
        entries.retain(|_, named| !named.is_empty());
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
        let runtime = match &self.wasm {
            Some(host) => host.handle().ok_or("the host is shutting down")?.clone(),
            None => Handle::current(),
        };
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
            let mut entry = match &row.implementation {
                Implementation::Wasm { digest, grants } => {
                    let grants = Grants::from_json(grants).map_err(|e| e.to_string())?;
                    let loaded = self.component(catalog.as_ref(), digest)?;
                    self.wasm_entry(namespace, loaded, &grants).map_err(|e| e.to_string())?
                }
                Implementation::Http { config } => {
                    let config = HttpConfig::from_json(config).map_err(|e| e.to_string())?;
                    self.http_entry(namespace, &config).map_err(|e| e.to_string())?
                }
            };
            entry.from_catalog = true;
            let run = Arc::clone(&entry.run);
            let mut entries = self.entries.write();
            // A deployment in between: the row may be old.
            if self.changes.load(Ordering::Relaxed) != seen {
                continue;
            }
            make_room(&mut entries);
            insert(&mut entries, Arc::clone(name), entry);
            return Ok(Some(run));
        }
    }

    /// The component of a digest. One with several activities is linked once.
    fn component(&self, catalog: &dyn Catalog, digest: &Digest) -> Result<LoadedActivity, String> {
        let entries = self.entries.read();
        let mut loaded = entries.values().flatten().filter_map(|entry| entry.loaded.as_ref());
        if let Some(known) = loaded.find(|loaded| loaded.digest() == *digest) {
            return Ok(known.clone());
        }
        drop(entries);
        let host = self.wasm.as_ref().ok_or("this host runs no components")?;
        let bytes = catalog.component(digest).map_err(|e| e.to_string())?;
        let bytes = bytes.ok_or_else(|| format!("the store has no component {digest}"))?;
        host.load(*digest, &bytes).map_err(|e| e.to_string())
    }

    fn wasm_entry(&self, namespace: &Namespace, loaded: LoadedActivity, grants: &Grants) -> Result<Entry, GrantError> {
        let form = |what: &str| GrantError::Form(what.to_owned());
        let host = self.wasm.clone().ok_or_else(|| form("this host runs no components"))?;
        let protection = grants.protection();
        let grants = Arc::new(OpenGrants::open(grants)?);
        let runtime = host.handle().ok_or_else(|| form("the host is shutting down"))?.clone();
        let breaker = Breaker::new(loaded.digest().short(), protection.policy(self.policy));
        let component = loaded.clone();
        let limits = Limits::new(protection.concurrency, &self.wasm_limit);
        let run = dispatch::spawned(&limits, &breaker, runtime, move |task| {
            wasm::attempt(host.clone(), component.clone(), Arc::clone(&grants), task)
        });
        Ok(self.entry(namespace, Some(loaded), breaker, run))
    }

    fn http_entry(&self, namespace: &Namespace, config: &HttpConfig) -> Result<Entry, HttpConfigError> {
        let missing = || HttpConfigError::Form("this host calls no URLs: build the registry with an http host".into());
        let host = self.http.clone().ok_or_else(missing)?;
        let endpoint = Arc::new(config.endpoint()?);
        let protection = config.protection();
        let breaker = Breaker::new(endpoint.target().to_owned(), protection.policy(self.policy));
        let limits = Limits::new(protection.concurrency, &self.http_limit);
        let run =
            dispatch::guarded(&limits, &breaker, move |task| http::attempt(host.clone(), Arc::clone(&endpoint), task));
        Ok(self.entry(namespace, None, breaker, run))
    }

    fn entry(&self, namespace: &Namespace, loaded: Option<LoadedActivity>, breaker: Breaker, run: Run) -> Entry {
        let used = AtomicU64::new(self.uses.fetch_add(1, Ordering::Relaxed));
        Entry { namespace: namespace.clone(), loaded, breaker, run, from_catalog: false, used }
    }
}

fn insert(entries: &mut HashMap<Arc<str>, Vec<Entry>>, name: Arc<str>, entry: Entry) {
    let named = entries.entry(name).or_default();
    named.retain(|e| e.namespace != entry.namespace);
    named.push(entry);
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
