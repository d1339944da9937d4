//! The registry: from the name in a task to the activity that runs it.
//!
//! Native activities are fixed when the host is built; wasm and http activities come and go with deployments, and those that
//! the catalog knows are loaded when they are first asked for. Must not know: retries, deadlines, histories.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use relive_core::{
    Digest,
    failure::Failure,
    ids::Namespace,
    json::Json,
    ports::{ActivityRunner, ActivityTask, AttemptResult, Catalog},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::Semaphore;
use tower::limit::GlobalConcurrencyLimitLayer;

use crate::breaker::{Breaker, BreakerPolicy};
use crate::deployed::{Deployed, Hosts};
use crate::dispatch::{self, DispatchLimits, Run};
use crate::failures::{code, infrastructure, unknown_activity};
use crate::grants::{GrantError, Grants};
use crate::http::{HttpConfig, HttpConfigError, HttpHost};
use crate::native::{self, NativeTask};
use crate::wasm::{LoadedActivity, WasmHost};

/// Native activities of one name.
#[derive(Default)]
struct Native {
    /// For namespaces that have none of their own.
    everywhere: Option<Run>,
    by_namespace: Vec<(Namespace, Run)>,
}

impl Native {
    fn of(&self, namespace: &Namespace) -> Option<&Run> {
        self.by_namespace.iter().find(|(n, _)| n == namespace).map(|(_, run)| run).or(self.everywhere.as_ref())
    }
}

/// Collects what is fixed for the life of a host. Made by [`ActivityRegistry::builder`].
pub struct Builder {
    limits: DispatchLimits,
    native_limit: GlobalConcurrencyLimitLayer,
    native: HashMap<Arc<str>, Native>,
    wasm: Option<WasmHost>,
    http: Option<HttpHost>,
    breakers: BreakerPolicy,
    catalog: Option<Arc<dyn Catalog>>,
}

impl Builder {
    /// A typed native activity of every namespace: `|task, input: In| async { Ok::<Out, Failure>(..) }`. The last
    /// registration of a name counts.
    #[must_use]
    pub fn native<F, Fut, I, O, E>(self, name: &str, function: F) -> Self
    where
        F: Fn(NativeTask, I) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<O, E>> + Send + 'static,
        I: DeserializeOwned + Send + 'static,
        O: Serialize + Send + 'static,
        E: Into<Failure> + Send + 'static,
    {
        let function = Arc::new(function);
        let run = dispatch::in_place(&self.native_limit, move |task| {
            native::typed::<F, Fut, I, O, E>(function.clone(), task)
        });
        self.put_native(None, name, run)
    }

    /// A native activity of every namespace that takes and gives JSON as it is.
    #[must_use]
    pub fn native_raw<F, Fut, E>(self, name: &str, function: F) -> Self
    where
        F: Fn(NativeTask, Json) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Json, E>> + Send + 'static,
        E: Into<Failure> + Send + 'static,
    {
        let run = self.raw(function);
        self.put_native(None, name, run)
    }

    /// The same, of one namespace alone, where it goes before one of every namespace.
    #[must_use]
    pub fn native_raw_in<F, Fut, E>(self, namespace: &Namespace, name: &str, function: F) -> Self
    where
        F: Fn(NativeTask, Json) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Json, E>> + Send + 'static,
        E: Into<Failure> + Send + 'static,
    {
        let run = self.raw(function);
        self.put_native(Some(namespace), name, run)
    }

    fn raw<F, Fut, E>(&self, function: F) -> Run
    where
        F: Fn(NativeTask, Json) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Json, E>> + Send + 'static,
        E: Into<Failure> + Send + 'static,
    {
        let function = Arc::new(function);
        dispatch::in_place(&self.native_limit, move |task| native::raw::<F, Fut, E>(function.clone(), task))
    }

    fn put_native(mut self, namespace: Option<&Namespace>, name: &str, run: Run) -> Self {
        let native = self.native.entry(name.into()).or_default();
        match namespace {
            None => native.everywhere = Some(run),
            Some(namespace) => {
                native.by_namespace.retain(|(n, _)| n != namespace);
                native.by_namespace.push((namespace.clone(), run));
            }
        }
        self
    }

    /// Runs deployed components too.
    #[must_use]
    pub fn wasm(mut self, host: WasmHost) -> Self {
        self.wasm = Some(host);
        self
    }

    /// Calls deployed URLs too.
    #[must_use]
    pub fn http(mut self, host: HttpHost) -> Self {
        self.http = Some(host);
        self
    }

    /// When the circuit breakers of deployed activities open; [`BreakerPolicy::default`] if nothing is said.
    #[must_use]
    pub fn breakers(mut self, policy: BreakerPolicy) -> Self {
        self.breakers = policy;
        self
    }

    /// Where activities are looked up that were not put into the registry.
    #[must_use]
    pub fn catalog(mut self, catalog: Arc<dyn Catalog>) -> Self {
        self.catalog = Some(catalog);
        self
    }

    #[must_use]
    pub fn build(self) -> ActivityRegistry {
        let Self { limits, native, wasm, http, breakers, catalog, .. } = self;
        let hosts = Hosts { wasm, http };
        let some = hosts.wasm.is_some() || hosts.http.is_some();
        let deployed = some.then(|| Deployed::new(hosts, limits, breakers, catalog));
        ActivityRegistry(Arc::new(Inner { native, deployed }))
    }
}

/// All activities that this host runs itself. Cheap to clone.
#[derive(Clone)]
pub struct ActivityRegistry(Arc<Inner>);

struct Inner {
    native: HashMap<Arc<str>, Native>,
    deployed: Option<Arc<Deployed>>,
}

impl ActivityRegistry {
    #[must_use]
    pub fn builder(limits: DispatchLimits) -> Builder {
        let bounded = |limit: usize| limit.clamp(1, Semaphore::MAX_PERMITS);
        let limits =
            DispatchLimits { native: bounded(limits.native), wasm: bounded(limits.wasm), http: bounded(limits.http) };
        let native_limit = GlobalConcurrencyLimitLayer::new(limits.native);
        let (native, breakers) = (HashMap::new(), BreakerPolicy::default());
        Builder { limits, native_limit, native, wasm: None, http: None, breakers, catalog: None }
    }

    /// Deploys an activity: the next attempts run it; those under way end on what they began with. Opens the granted
    /// directories, so it blocks. Native activities of the name go before it.
    pub fn put_wasm(
        &self,
        namespace: &Namespace,
        name: &str,
        loaded: LoadedActivity,
        grants: &Grants,
    ) -> Result<(), GrantError> {
        match &self.0.deployed {
            Some(deployed) => deployed.put_wasm(namespace, name, loaded, grants),
            None => Err(GrantError::Form("this host runs no components: build the registry with a wasm host".into())),
        }
    }

    /// The same with a URL. Native activities of the name go before it.
    pub fn put_http(&self, namespace: &Namespace, name: &str, config: &HttpConfig) -> Result<(), HttpConfigError> {
        match &self.0.deployed {
            Some(deployed) => deployed.put_http(namespace, name, config),
            None => Err(HttpConfigError::Form("this host runs no deployed activities".into())),
        }
    }

    /// The circuit breaker of a deployed activity that is loaded; one that is not has had no call to judge by.
    #[must_use]
    pub fn breaker(&self, namespace: &Namespace, name: &str) -> Option<Breaker> {
        self.0.deployed.as_ref()?.breaker_of(namespace, name)
    }

    /// The breakers of all deployed activities that are loaded.
    #[must_use]
    pub fn breakers(&self) -> Vec<(Namespace, Arc<str>, Breaker)> {
        self.0.deployed.as_ref().map(|deployed| deployed.breakers()).unwrap_or_default()
    }

    /// Forgets a deployed activity, so that the next attempt reads the catalog again. Whether there was one.
    pub fn forget(&self, namespace: &Namespace, name: &str) -> bool {
        self.0.deployed.as_ref().is_some_and(|deployed| deployed.forget(namespace, name))
    }

    /// The same with all of them: another host may have deployed.
    pub fn forget_all(&self) {
        if let Some(deployed) = &self.0.deployed {
            deployed.forget_all();
        }
    }

    /// The component behind a deployed activity that is loaded.
    #[must_use]
    pub fn loaded(&self, namespace: &Namespace, name: &str) -> Option<Digest> {
        self.0.deployed.as_ref()?.digest_of(namespace, name)
    }

    /// Whether a native activity has the name.
    #[must_use]
    pub fn has_native(&self, namespace: &Namespace, name: &str) -> bool {
        self.0.native.get(name).is_some_and(|native| native.of(namespace).is_some())
    }
}

impl ActivityRunner for ActivityRegistry {
    fn hosts(&self, namespace: &Namespace, name: &str) -> bool {
        self.has_native(namespace, name) || self.0.deployed.as_ref().is_some_and(|d| d.knows(namespace, name))
    }

    fn run(&self, task: ActivityTask) -> BoxFuture<'static, AttemptResult> {
        if let Some(run) = self.0.native.get(&task.name).and_then(|native| native.of(&task.execution.namespace)) {
            return run(task);
        }
        let Some(deployed) = &self.0.deployed else {
            return Box::pin(std::future::ready(Err(unknown_activity(&task))));
        };
        if let Some(run) = deployed.find(&task.execution.namespace, &task.name) {
            return run(task);
        }
        let deployed = Arc::clone(deployed);
        Box::pin(async move {
            match deployed.load(&task.execution.namespace, &task.name).await {
                Ok(Some(run)) => run(task).await,
                Ok(None) => Err(unknown_activity(&task)),
                Err(reason) => {
                    tracing::warn!(name = %task.name, execution = %task.execution, %reason, "failed to load an activity");
                    Err(infrastructure(code::UNAVAILABLE, format!("load the activity `{}`: {reason}", task.name)))
                }
            }
        })
    }
}
