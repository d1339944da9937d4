//! The host of wasm activities: links components, asks them what they hold, and makes the stores that they run in.
//!
//! Owns the linker, the threads and the clock that all calls share. Must not know: names, namespaces, deployments.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use relive_core::Digest;
use relive_core::guest::GuestFault;
use relive_sandbox::{AdmissionError, Description, Sandbox, check_descriptions};
use tokio::runtime::Handle;
use wasmtime::component::{Component, Linker};
use wasmtime::{Engine, Store};

use super::access::OpenGrants;
use super::bindings::ActivityPre;
use super::error::{DeployError, WasmHostError};
use super::fault;
use super::limiter::{HOSTCALL_BYTES, Limiter, MAX_HANDLES, MemoryBudget, WasmLimits};
use super::state::CallState;
use super::ticker::{Ticker, Ticking};
use super::workers::Workers;
use crate::grants::GrantError;

/// Fuel of `describe`, about an instruction each. An interpreter that begins takes some ten million.
pub const DESCRIBE_FUEL: u64 = 2_000_000_000;

/// Time of `describe`, should it wait instead of compute.
pub const DESCRIBE_TIME: Duration = Duration::from_secs(10);

/// Epochs between two yields of a guest.
const YIELD_EPOCHS: u64 = 1;

/// A component that is linked. Cheap to clone.
#[derive(Clone)]
pub struct LoadedActivity(pub(crate) Arc<Loaded>);

pub(crate) struct Loaded {
    pub(crate) digest: Digest,
    pub(crate) pre: ActivityPre<CallState>,
}

impl LoadedActivity {
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.0.digest
    }
}

impl std::fmt::Debug for LoadedActivity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("LoadedActivity").field(&self.0.digest).finish()
    }
}

/// Runs components as activities. Cheap to clone.
#[derive(Clone)]
pub struct WasmHost(Arc<Inner>);

struct Inner {
    sandbox: Sandbox,
    linker: Linker<CallState>,
    limits: WasmLimits,
    budget: Arc<MemoryBudget>,
    ticker: Ticker,
    workers: Workers,
}

impl WasmHost {
    /// Starts the threads; they end when the last clone and the last call are gone.
    pub fn new(sandbox: Sandbox, limits: WasmLimits) -> Result<Self, WasmHostError> {
        let engine = sandbox.activity_engine().engine().clone();
        let linker = linker(&engine).map_err(|e| WasmHostError::Link(format!("{e:#}")))?;
        let ticker = Ticker::start(engine)?;
        let workers = Workers::start()?;
        Ok(Self(Arc::new(Inner { sandbox, linker, limits, budget: Arc::default(), ticker, workers })))
    }

    /// Loads a component that was admitted before, from the sandbox's cache if it is there. Blocks.
    pub fn load(&self, digest: Digest, upload: &[u8]) -> Result<LoadedActivity, DeployError> {
        let component = self.0.sandbox.load_activity(digest, upload)?;
        self.link(digest, &component)
    }

    /// Links what the sandbox admitted (`AdmittedComponent::Activity`).
    pub fn link(&self, digest: Digest, component: &Component) -> Result<LoadedActivity, DeployError> {
        let mismatch = |e: wasmtime::Error| AdmissionError::ContractMismatch { message: format!("{e:#}") };
        let pre = self.0.linker.instantiate_pre(component).map_err(mismatch)?;
        let pre = ActivityPre::new(pre).map_err(mismatch)?;
        Ok(LoadedActivity(Arc::new(Loaded { digest, pre })))
    }

    /// Asks a component what it holds, without grants, within [`DESCRIBE_FUEL`] and [`DESCRIBE_TIME`]. Blocks.
    pub fn describe(&self, loaded: &LoadedActivity) -> Result<Vec<Description>, DeployError> {
        let stopped = || DeployError::describe(GuestFault::Host("the host is shutting down".into()));
        let (send, receive) = mpsc::sync_channel(1);
        let (host, loaded) = (self.clone(), loaded.clone());
        self.handle().ok_or_else(stopped)?.spawn(async move {
            let late = || GuestFault::OutOfFuel(format!("it took more than {DESCRIBE_TIME:?}"));
            let described = tokio::time::timeout(DESCRIBE_TIME, host.call_describe(&loaded)).await;
            // The receiver waits for as long as the sender lives.
            let _ = send.send(described.unwrap_or_else(|_| Err(late())));
        });
        let descriptions = receive.recv().map_err(|_| stopped())?.map_err(DeployError::describe)?;
        check_descriptions(&descriptions)?;
        Ok(descriptions)
    }

    /// The check before a deployment: describes the component, and finds in it what is to be deployed. Blocks.
    pub fn check(&self, loaded: &LoadedActivity, names: &[&str]) -> Result<Vec<Description>, DeployError> {
        let descriptions = self.describe(loaded)?;
        match names.iter().find(|name| descriptions.iter().all(|d| d.name != **name)) {
            None => Ok(descriptions),
            Some(missing) => {
                let exports: Vec<String> = descriptions.iter().map(|d| format!("`{}`", d.name)).collect();
                Err(DeployError::NotExported { name: (*missing).to_owned(), exports: exports.join(", ") })
            }
        }
    }

    /// Calls whose instances are alive, those included that were dropped and have not come to their next yield.
    #[must_use]
    pub fn running(&self) -> usize {
        self.0.ticker.calls()
    }

    /// Linear memory of those calls, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.0.budget.used()
    }

    async fn call_describe(&self, loaded: &LoadedActivity) -> Result<Vec<Description>, GuestFault> {
        let _ticking = self.enter();
        let mut store = self.store(&OpenGrants::none(), DESCRIBE_FUEL).map_err(|e| GuestFault::Host(e.to_string()))?;
        let described = async {
            let instance = loaded.0.pre.instantiate_async(&mut store).await?;
            instance.relive_activity_handler().call_describe(&mut store).await
        };
        let described = described.await.map_err(|e| fault::classify(&e, store.data().limiter.refused()))?;
        let descriptions = described.into_iter().map(|d| Description {
            name: d.name,
            summary: d.summary,
            input_schema: d.input_schema,
            output_schema: d.output_schema,
            channels: None,
        });
        Ok(descriptions.collect())
    }

    /// A store with all limits set and the grants given.
    pub(crate) fn store(&self, grants: &OpenGrants, fuel: u64) -> Result<Store<CallState>, GrantError> {
        let limiter = Limiter::new(self.0.limits, Arc::clone(&self.0.budget));
        let mut store = Store::new(self.0.linker.engine(), CallState::new(grants, limiter)?);
        store.limiter(|state| &mut state.limiter);
        store.set_hostcall_fuel(HOSTCALL_BYTES);
        store.set_max_component_handles(MAX_HANDLES);
        store.set_epoch_deadline(YIELD_EPOCHS);
        store.epoch_deadline_async_yield_and_update(YIELD_EPOCHS);
        // Fails for engines without fuel alone; the sandbox's has it.
        store.set_fuel(fuel).map_err(|e| GrantError::Form(format!("{e:#}")))?;
        Ok(store)
    }

    /// To be held for as long as an instance runs.
    pub(crate) fn enter(&self) -> Ticking {
        self.0.ticker.enter()
    }

    pub(crate) fn handle(&self) -> Option<&Handle> {
        self.0.workers.handle()
    }
}

fn linker(engine: &Engine) -> wasmtime::Result<Linker<CallState>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    Ok(linker)
}
