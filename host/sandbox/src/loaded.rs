//! Components that are ready to run: linking, fresh instances, `describe`, and memory images of their guests.
//!
//! Owns: what is known of a component once and for all (its exports, its accessors, what a fresh instance looks like)
//! and every way to an instance. Must not know: histories, stores, what a command means.

use std::sync::Arc;

use relive_core::cursor::{Cursor, RunContext};
use relive_core::guest::{Captured, GuestFault, NotLaid};
use relive_core::ids::{check_id, check_name};
use relive_core::image::GuestStamp;
use relive_core::limits::RunLimits;
use relive_core::{Digest, ExecutionKey, Json, Namespace, RunId, Timestamp, WorkflowId};
use wasmtime::AsContextMut;
use wasmtime::component::{Component, ComponentExportIndex, HasSelf, Instance, InstancePre, Linker};

use crate::admission::caps::{MAX_CHANNELS, MAX_DESCRIPTION_BYTES, MAX_DESCRIPTIONS, quote};
use crate::admission::{AdmissionError, Description};
use crate::bindings::{Workflow, WorkflowIndices};
use crate::engine::SandboxEngine;
use crate::fault::classify;
use crate::host::HostState;
use crate::image::{self, Baseline};
use crate::instrument::{INSTRUMENTATION, MARKER, MAX_GLOBALS, getter, setter};
use crate::memory::GuestStore;
use crate::reactor::{Alive, ReactorGuest};

/// Fuel of an instantiation: about a second. Language runtimes initialise themselves in it.
pub const INSTANTIATION_FUEL: u64 = 2_000_000_000;

/// Fuel of `describe`, which builds a few strings.
pub const DESCRIBE_FUEL: u64 = 1_000_000_000;

/// Fuel of the accessors that `instrument` adds: a handful of instructions each.
const ACCESSOR_FUEL: u64 = 10_000;

/// What makes the same memory of the same history: the engine's version, and the revision of how values are lowered
/// into guests here (the bindings and their options). Compiler settings do not belong to it.
pub const IMAGE_ENGINE: &str = "wasmtime 48.0.8, lowering 1";

/// Bytes that one call into the host, or one result, may make the host allocate, beside the payload limit.
const HOSTCALL_SLACK: usize = 1 << 20;

/// Links components to the host; one for an engine.
pub(crate) struct Reactors {
    engine: SandboxEngine,
    linker: Linker<HostState>,
}

impl Reactors {
    pub(crate) fn new(engine: &SandboxEngine) -> wasmtime::Result<Self> {
        let mut linker = Linker::new(engine.engine());
        Workflow::add_to_linker::<_, HasSelf<HostState>>(&mut linker, |state| state)?;
        Ok(Self { engine: engine.clone(), linker })
    }

    /// Checks the component's types against the contract and prepares it.
    pub(crate) fn link(&self, digest: Digest, component: &Component) -> Result<LoadedComponent, AdmissionError> {
        let mismatch = |e: wasmtime::Error| AdmissionError::ContractMismatch { message: format!("{e:#}") };
        let pre = self.linker.instantiate_pre(component).map_err(mismatch)?;
        let indices = WorkflowIndices::new(&pre).map_err(mismatch)?;
        let engine = self.engine.clone();
        let mut prepared = Prepared { digest, engine, pre, indices, images: None };
        if let Some(accessors) = Accessors::of(component) {
            prepared.images = prepared.observe(accessors).map_err(AdmissionError::Instantiate)?;
        }
        Ok(LoadedComponent(Arc::new(prepared)))
    }
}

/// A component that is ready to be instantiated. Cheap to clone.
#[derive(Clone)]
pub struct LoadedComponent(Arc<Prepared>);

struct Prepared {
    digest: Digest,
    engine: SandboxEngine,
    pre: InstancePre<HostState>,
    indices: WorkflowIndices,
    /// Set for components that are eligible for memory images.
    images: Option<Images>,
}

struct Images {
    accessors: Accessors,
    baseline: Baseline,
}

/// The accessors that `instrument` added, a getter and a setter a global.
struct Accessors(Vec<(ComponentExportIndex, ComponentExportIndex)>);

impl Accessors {
    fn of(component: &Component) -> Option<Self> {
        let export = |name: &str| component.get_export_index(None, name);
        export(MARKER)?;
        let pair = |n| Some((export(&getter(n))?, export(&setter(n))?));
        Some(Self((0..MAX_GLOBALS).map_while(pair).collect()))
    }

    /// The bits of the mutable globals of an idle instance.
    fn get(&self, store: &mut GuestStore<HostState>, instance: &Instance) -> wasmtime::Result<Vec<u64>> {
        store.as_context_mut().set_fuel(ACCESSOR_FUEL)?;
        let get = |(getter, _): &(ComponentExportIndex, _)| {
            let getter = instance.get_typed_func::<(), (u64,)>(store.as_context_mut(), getter)?;
            Ok(getter.call(store.as_context_mut(), ())?.0)
        };
        self.0.iter().map(get).collect()
    }

    /// Sets those that differ from a fresh instance's.
    fn set(
        &self,
        store: &mut GuestStore<HostState>,
        instance: &Instance,
        fresh: &[u64],
        globals: &[u64],
    ) -> wasmtime::Result<()> {
        store.as_context_mut().set_fuel(ACCESSOR_FUEL)?;
        for (((_, setter), fresh), bits) in self.0.iter().zip(fresh).zip(globals) {
            if fresh != bits {
                let setter = instance.get_typed_func::<(u64,), ()>(store.as_context_mut(), setter)?;
                setter.call(store.as_context_mut(), (*bits,))?;
            }
        }
        Ok(())
    }
}

impl Prepared {
    /// A store with a fresh instance in it. `memory` is the size in bytes with which its memory begins.
    fn fresh(&self, cursor: Cursor, memory: Option<usize>) -> Result<Alive, GuestFault> {
        let limits = cursor.run().limits;
        let mut store = GuestStore::new(self.engine.engine(), HostState::new(cursor));
        store.data_mut().sealed = self.images.is_some();
        store.data_mut().host_fuel = INSTANTIATION_FUEL;
        store.limiter(|state| &mut state.growth);
        let payload = limits.payload_bytes as usize;
        let mut context = store.as_context_mut();
        context.set_hostcall_fuel(payload.saturating_mul(2).saturating_add(HOSTCALL_SLACK));
        context.set_fuel(INSTANTIATION_FUEL).map_err(|e| GuestFault::Host(e.to_string()))?;
        let made = store.instantiate(&self.pre, memory);
        let made = made.and_then(|instance| Ok((instance, self.indices.load(store.as_context_mut(), &instance)?)));
        store.data_mut().sealed = false;
        match made {
            Ok((instance, exports)) => Ok(Alive { store: Box::new(store), instance, exports }),
            Err(error) => Err(classify(&error, store.data_mut().growth.denied.take())),
        }
    }

    /// Looks at a fresh instance: `None` if making it called the host, for then two of them may differ.
    fn observe(&self, accessors: Accessors) -> Result<Option<Images>, GuestFault> {
        let host = |e: wasmtime::Error| GuestFault::Host(format!("{e:#}"));
        let cursor = dormant_cursor(self.digest).map_err(|e| GuestFault::Host(e.to_string()))?;
        let Alive { mut store, instance, .. } = self.fresh(cursor, None)?;
        if store.data().import_calls > 0 {
            return Ok(None);
        }
        let globals = accessors.get(&mut store, &instance).map_err(host)?;
        let memory = store.memory().ok_or_else(|| GuestFault::Host("it has another number of memories".into()))?;
        let baseline = Baseline::new(memory, globals);
        Ok(Some(Images { accessors, baseline }))
    }

    fn stamp(&self, images: &Images, memory: usize, globals: Vec<u64>) -> GuestStamp {
        GuestStamp {
            engine: IMAGE_ENGINE.to_owned(),
            instrumentation: INSTRUMENTATION,
            baseline: images.baseline.hash,
            memory_bytes: memory as u64,
            globals,
        }
    }
}

impl LoadedComponent {
    pub fn digest(&self) -> Digest {
        self.0.digest
    }

    /// Whether idle guests of it can be kept as memory images.
    pub fn has_images(&self) -> bool {
        self.0.images.is_some()
    }

    /// Makes an instance whose durable calls the cursor answers. Its run's limits hold for it.
    pub fn instantiate(&self, cursor: Cursor) -> Result<ReactorGuest, GuestFault> {
        let limits = cursor.run().limits;
        let alive = self.0.fresh(cursor, None)?;
        Ok(ReactorGuest::new(self.clone(), alive, limits))
    }

    /// Makes an instance and lays a memory image over it: the guest stands where it was captured, and `cursor` with
    /// it. Whatever does not fit is an error, and nothing of it is used.
    pub fn lay(&self, cursor: Cursor, stamp: &GuestStamp, body: &[u8]) -> Result<ReactorGuest, NotLaid> {
        let Some(images) = &self.0.images else {
            return Err(NotLaid::Ineligible("its state is not only memory; `relive inspect` says why".into()));
        };
        let limits = cursor.run().limits;
        let bytes = usize::try_from(stamp.memory_bytes).unwrap_or(usize::MAX);
        let expected = self.0.stamp(images, bytes, stamp.globals.clone());
        if *stamp != expected || stamp.globals.len() != images.baseline.globals.len() {
            let (engine, instrumentation) = (&stamp.engine, stamp.instrumentation);
            return Err(NotLaid::Stale(format!(
                "it was taken under {engine}, instrumentation {instrumentation}; this host has {IMAGE_ENGINE}, {INSTRUMENTATION}"
            )));
        }
        if stamp.memory_bytes > limits.memory_bytes {
            return Err(NotLaid::Corrupt(format!("its memory has {bytes} bytes, more than the run may have")));
        }
        let mut alive = self.0.fresh(cursor, Some(bytes))?;
        let Alive { store, instance, .. } = &mut alive;
        let memory = store.memory_mut().ok_or_else(|| NotLaid::Corrupt("it has another number of memories".into()))?;
        image::lay(memory, body)?;
        let set = images.accessors.set(store, instance, &images.baseline.globals, &stamp.globals);
        set.map_err(|e| GuestFault::Host(format!("set the globals: {e:#}")))?;
        store.data_mut().started = true;
        Ok(ReactorGuest::new(self.clone(), alive, limits))
    }

    /// The guest's part of an image; `None` if there can be none.
    pub(crate) fn capture(&self, guest: &mut Alive) -> Result<Option<Captured>, GuestFault> {
        let Some(images) = &self.0.images else {
            return Ok(None);
        };
        let globals = images.accessors.get(&mut guest.store, &guest.instance);
        let globals = globals.map_err(|e| GuestFault::Host(format!("read the globals: {e:#}")))?;
        let Some(memory) = guest.store.memory() else {
            return Ok(None);
        };
        let (bytes, body) = (memory.len(), images.baseline.capture(memory));
        Ok(body.map(|body| Captured { stamp: self.0.stamp(images, bytes, globals), body }))
    }

    /// Asks the component what it holds: time and seed are zero, and commands trap.
    pub(crate) fn describe(&self) -> Result<Vec<Description>, AdmissionError> {
        let mut guest = self.instantiate(dormant_cursor(self.0.digest)?).map_err(AdmissionError::Instantiate)?;
        let descriptions = guest.describe().map_err(AdmissionError::Describe)?;
        let descriptions = descriptions.into_iter().map(Description::from).collect::<Vec<_>>();
        check_descriptions(&descriptions)?;
        Ok(descriptions)
    }
}

impl std::fmt::Debug for LoadedComponent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("LoadedComponent").field(&self.0.digest).finish()
    }
}

/// A cursor of no run: nothing can be issued with it.
fn dormant_cursor(digest: Digest) -> Result<Cursor, AdmissionError> {
    let broken = |e: relive_core::ids::NameError| AdmissionError::Description { message: e.to_string() };
    let run = RunContext {
        execution: ExecutionKey {
            namespace: Namespace::default(),
            workflow_id: WorkflowId::new("describe").map_err(broken)?,
            run_id: "00000000-0000-0000-0000-000000000000".parse::<RunId>().map_err(broken)?,
        },
        workflow: "describe".into(),
        digest,
        started_at: Timestamp(0),
        continued_from: None,
        start_key: None,
        correlation_id: None,
        trace_id: None,
        seed: [0; 32],
        limits: RunLimits::default(),
    };
    Ok(Cursor::new(Arc::new(run)))
}

/// Checks what a component says of itself; also for activities' descriptions, whose `what` differs.
pub fn check_descriptions(descriptions: &[Description]) -> Result<(), AdmissionError> {
    let refuse = |message: String| Err(AdmissionError::Description { message });
    if descriptions.is_empty() {
        return refuse("it names nothing; mark at least one function with the SDK's macro".into());
    }
    if descriptions.len() > MAX_DESCRIPTIONS {
        return refuse(format!("it names {}; at most {MAX_DESCRIPTIONS} fit one component", descriptions.len()));
    }
    let mut names = std::collections::BTreeSet::new();
    let mut total = 0;
    for description in descriptions {
        let name = quote(&description.name);
        if let Err(error) = check_name(&description.name, "name") {
            return refuse(format!("`{name}`: {error}"));
        }
        if !names.insert(description.name.as_str()) {
            return refuse(format!("the name `{name}` stands in it twice"));
        }
        total += description.name.len() + description.summary.as_deref().map_or(0, str::len);
        for schema in [&description.input_schema, &description.output_schema].into_iter().flatten() {
            total += schema.len();
            if let Err(error) = Json::parse(schema) {
                return refuse(format!("a schema of `{name}` is not JSON: {error}"));
            }
        }
        let channels = description.channels.as_deref().unwrap_or_default();
        if let Err(problem) = check_channels(channels) {
            return refuse(format!("`{name}` {problem}"));
        }
        total += channels.iter().map(String::len).sum::<usize>();
    }
    if total > MAX_DESCRIPTION_BYTES {
        return refuse(format!("it has {total} bytes; at most {MAX_DESCRIPTION_BYTES} are allowed"));
    }
    Ok(())
}

/// What is wrong with the channels that a workflow declares; fits behind its name. The same one twice is harmless.
fn check_channels(channels: &[String]) -> Result<(), String> {
    if channels.len() > MAX_CHANNELS {
        return Err(format!("declares {} channels; at most {MAX_CHANNELS} are allowed", channels.len()));
    }
    match channels.iter().find_map(|c| Some((c, check_id(c, "channel").err()?))) {
        Some((channel, error)) => Err(format!("declares the channel `{}`: {error}", quote(channel))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_name_the_engine_that_is_linked() {
        let lock = include_str!("../../../Cargo.lock");
        let wasmtime = lock.split("[[package]]").find(|p| p.contains("name = \"wasmtime\"\n")).expect("wasmtime");
        let version = wasmtime.split("version = \"").nth(1).and_then(|v| v.split('"').next()).expect("a version");
        assert!(
            IMAGE_ENGINE.starts_with(&format!("wasmtime {version}, ")),
            "{IMAGE_ENGINE} should name wasmtime {version}: images of another are stale"
        );
    }
}
