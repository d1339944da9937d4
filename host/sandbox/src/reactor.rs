//! The reactor driver: a workflow component as core's `Guest`.
//!
//! Owns: linking, instances, the calls of `start`, `resume` and `describe`, their fuel, and the death of an instance
//! at the first error. Between two calls no frame of the guest is on any stack, so a `ReactorGuest` may move between
//! threads and wait for years. Must not know: histories, stores, what a command means.

use std::sync::Arc;

use relive_core::cursor::{Cursor, RunContext};
use relive_core::guest::{Guest, GuestEvent, GuestFault, GuestState, Outcome};
use relive_core::ids::{check_id, check_name};
use relive_core::limits::RunLimits;
use relive_core::{Digest, ExecutionKey, Failure, FailureKind, Json, Namespace, RunId, Timestamp, WorkflowId};
use wasmtime::AsContextMut;
use wasmtime::component::{Component, HasSelf, InstancePre, Linker};

use crate::admission::caps::{MAX_CHANNELS, MAX_DESCRIPTION_BYTES, MAX_DESCRIPTIONS, quote};
use crate::admission::{AdmissionError, Description};
use crate::bindings::exports::relive::workflow::reactor;
use crate::bindings::relive::workflow::types;
use crate::bindings::{Workflow, WorkflowIndices};
use crate::engine::SandboxEngine;
use crate::fault::classify;
use crate::host::HostState;
use crate::memory::GuestStore;

/// Fuel of an instantiation: about a second. Language runtimes initialise themselves in it.
pub const INSTANTIATION_FUEL: u64 = 2_000_000_000;

/// Fuel of `describe`, which builds a few strings.
pub const DESCRIBE_FUEL: u64 = 1_000_000_000;

/// Bytes that one call into the host, or one result, may make the host allocate, beside the payload limit.
const HOSTCALL_SLACK: usize = 1 << 20;

/// Memory maps of an instance: the accessible part of its memory, and the rest of its reservation.
const MAPS_PER_INSTANCE: usize = 2;

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
        Ok(LoadedComponent(Arc::new(Prepared { digest, engine, pre, indices })))
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
}

impl LoadedComponent {
    pub fn digest(&self) -> Digest {
        self.0.digest
    }

    /// Makes an instance whose durable calls the cursor answers. Its run's limits hold for it.
    pub fn instantiate(&self, cursor: Cursor) -> Result<ReactorGuest, GuestFault> {
        let limits = cursor.run().limits;
        let mut store = GuestStore::new(self.0.engine.engine(), HostState::new(cursor));
        store.limiter(|state| &mut state.growth);
        let payload = limits.payload_bytes as usize;
        let mut context = store.as_context_mut();
        context.set_hostcall_fuel(payload.saturating_mul(2).saturating_add(HOSTCALL_SLACK));
        context.set_fuel(INSTANTIATION_FUEL).map_err(|e| GuestFault::Host(e.to_string()))?;
        let made = store.instantiate(&self.0.pre, None);
        let made = made.and_then(|instance| self.0.indices.load(store.as_context_mut(), &instance));
        match made {
            Ok(exports) => {
                let store = Box::new(store);
                Ok(ReactorGuest { life: Life::Alive { store, exports }, limits })
            }
            Err(error) => Err(classify(&error, store.data_mut().growth.denied.take())),
        }
    }

    /// Asks the component what it holds: time and seed are zero, and commands trap. Also says whether instantiation
    /// called the host.
    pub(crate) fn describe(&self) -> Result<Described, AdmissionError> {
        let mut guest = self.instantiate(dormant_cursor(self.0.digest)?).map_err(AdmissionError::Instantiate)?;
        let called_host = match &mut guest.life {
            Life::Alive { store, .. } => store.data().import_calls > 0,
            Life::Dead(_) => false,
        };
        let descriptions = guest
            .call(DESCRIBE_FUEL, |exports, store| exports.relive_workflow_reactor().call_describe(store))
            .map_err(AdmissionError::Describe)?;
        let descriptions = descriptions.into_iter().map(Description::from).collect::<Vec<_>>();
        check_descriptions(&descriptions)?;
        Ok(Described { descriptions, called_host })
    }
}

impl std::fmt::Debug for LoadedComponent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("LoadedComponent").field(&self.0.digest).finish()
    }
}

/// What `describe` found out.
pub(crate) struct Described {
    pub(crate) descriptions: Vec<Description>,
    pub(crate) called_host: bool,
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
        correlation_id: None,
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

impl From<reactor::WorkflowDescription> for Description {
    fn from(d: reactor::WorkflowDescription) -> Self {
        Self {
            name: d.name,
            summary: d.summary,
            input_schema: d.input_schema,
            output_schema: d.output_schema,
            channels: d.channels,
        }
    }
}

/// One instance of a workflow.
pub struct ReactorGuest {
    life: Life,
    limits: RunLimits,
}

enum Life {
    Alive {
        store: Box<GuestStore<HostState>>,
        exports: Workflow,
    },
    /// An error came out of it: the store is gone, the cursor stays for the report.
    Dead(Box<Cursor>),
}

impl ReactorGuest {
    /// Calls an export with fresh fuel. The first error is the instance's end.
    fn call<R>(
        &mut self,
        fuel: u64,
        call: impl FnOnce(&Workflow, &mut GuestStore<HostState>) -> wasmtime::Result<R>,
    ) -> Result<R, GuestFault> {
        let Life::Alive { store, exports } = &mut self.life else {
            return Err(GuestFault::Host("the instance is dead; make another one".into()));
        };
        store.data_mut().growth.denied = None;
        let result = store.as_context_mut().set_fuel(fuel).and_then(|()| call(exports, store));
        match result {
            Ok(result) => Ok(result),
            Err(error) => {
                let fault = classify(&error, store.data_mut().growth.denied.take());
                self.kill();
                Err(fault)
            }
        }
    }

    /// Drops the store and keeps the cursor.
    fn kill(&mut self) {
        if let Life::Alive { store, .. } = &mut self.life {
            let cursor = &mut store.data_mut().cursor;
            let empty = Cursor::new(cursor.run().clone());
            let cursor = Box::new(std::mem::replace(cursor, empty));
            self.life = Life::Dead(cursor);
        }
    }

    fn state(&mut self, state: reactor::State) -> Result<GuestState, GuestFault> {
        let state = translate(state, self.limits.payload_bytes as usize);
        state.map_err(|message| {
            self.kill();
            GuestFault::Contract(message)
        })
    }
}

impl Guest for ReactorGuest {
    fn start(&mut self, workflow: &str, input: &Json) -> Result<GuestState, GuestFault> {
        if let Life::Alive { store, .. } = &mut self.life {
            store.data_mut().started = true;
        }
        let input = input.as_str().to_owned();
        let state = self.call(self.limits.turn_fuel, |exports, store| {
            exports.relive_workflow_reactor().call_start(store, workflow, &input)
        })?;
        self.state(state)
    }

    fn resume(&mut self, event: GuestEvent) -> Result<GuestState, GuestFault> {
        let event = reactor::Event::from(event);
        let state = self.call(self.limits.turn_fuel, |exports, store| {
            exports.relive_workflow_reactor().call_resume(store, &event)
        })?;
        self.state(state)
    }

    fn cursor(&mut self) -> &mut Cursor {
        match &mut self.life {
            Life::Alive { store, .. } => &mut store.data_mut().cursor,
            Life::Dead(cursor) => cursor,
        }
    }

    fn memory_bytes(&self) -> usize {
        match &self.life {
            Life::Alive { store, .. } => store.memory_bytes(),
            Life::Dead(_) => 0,
        }
    }

    fn memory_maps(&self) -> usize {
        match &self.life {
            Life::Alive { .. } => MAPS_PER_INSTANCE,
            Life::Dead(_) => 0,
        }
    }

    fn memory(&mut self) -> Option<&[u8]> {
        match &mut self.life {
            Life::Alive { store, .. } => store.memory(),
            Life::Dead(_) => None,
        }
    }
}

impl std::fmt::Debug for ReactorGuest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let alive = matches!(self.life, Life::Alive { .. });
        f.debug_struct("ReactorGuest").field("alive", &alive).finish_non_exhaustive()
    }
}

fn translate(state: reactor::State, limit: usize) -> Result<GuestState, String> {
    let json = |text: String, what: &str| {
        if text.len() > limit {
            return Err(format!("its {what} has {} bytes; at most {limit} are allowed", text.len()));
        }
        Json::parse(&text).map_err(|e| format!("its {what} is not acceptable JSON: {e}"))
    };
    Ok(match state {
        reactor::State::Waiting => GuestState::Waiting,
        reactor::State::Done(Ok(result)) => GuestState::Done(Outcome::Completed(json(result, "result")?)),
        reactor::State::Done(Err(failure)) => {
            let text = failure.code.len() + failure.message.len();
            if text > limit {
                return Err(format!("its failure has {text} bytes; at most {limit} are allowed"));
            }
            let details = failure.details.map(|d| json(d, "failure's details")).transpose()?;
            GuestState::Done(Outcome::Failed(Failure {
                kind: failure.kind.into(),
                code: failure.code,
                message: failure.message,
                details,
                retryable: failure.retryable,
            }))
        }
        reactor::State::Continued(next) => GuestState::Done(Outcome::ContinuedAsNew {
            input: json(next.input, "input of the next run")?,
            unread_messages: next.unread_messages.into_iter().map(Arc::from).collect(),
        }),
    })
}

impl From<GuestEvent> for reactor::Event {
    fn from(event: GuestEvent) -> Self {
        match event {
            GuestEvent::CancelRequested => Self::CancelRequested,
            GuestEvent::Resolved { promise, message_id, outcome } => Self::Resolved(reactor::Resolution {
                promise,
                message_id: message_id.as_deref().map(str::to_owned),
                outcome: outcome.map(|json| json.as_str().to_owned()).map_err(Into::into),
            }),
        }
    }
}

impl From<Failure> for types::Failure {
    fn from(failure: Failure) -> Self {
        Self {
            kind: failure.kind.into(),
            code: failure.code,
            message: failure.message,
            details: failure.details.map(|json| json.as_str().to_owned()),
            retryable: failure.retryable,
        }
    }
}

impl From<FailureKind> for types::FailureKind {
    fn from(kind: FailureKind) -> Self {
        match kind {
            FailureKind::Application => Self::Application,
            FailureKind::Timeout => Self::Timeout,
            FailureKind::Canceled => Self::Canceled,
            FailureKind::Terminated => Self::Terminated,
            FailureKind::Rejected => Self::Rejected,
            FailureKind::Infrastructure => Self::Infrastructure,
        }
    }
}

impl From<types::FailureKind> for FailureKind {
    fn from(kind: types::FailureKind) -> Self {
        match kind {
            types::FailureKind::Application => Self::Application,
            types::FailureKind::Timeout => Self::Timeout,
            types::FailureKind::Canceled => Self::Canceled,
            types::FailureKind::Terminated => Self::Terminated,
            types::FailureKind::Rejected => Self::Rejected,
            types::FailureKind::Infrastructure => Self::Infrastructure,
        }
    }
}
