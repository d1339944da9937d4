//! The reactor driver: a workflow component as core's `Guest`.
//!
//! Owns: the calls of `start`, `resume` and `describe`, their fuel, and the death of an instance at the first error.
//! Between two calls no frame of the guest is on any stack, so a `ReactorGuest` may move between threads and wait for
//! years. Must not know: histories, stores, what a command means.

use relive_core::Json;
use relive_core::cursor::Cursor;
use relive_core::guest::{Captured, Guest, GuestEvent, GuestFault, GuestState};
use relive_core::limits::RunLimits;
use wasmtime::AsContextMut;
use wasmtime::component::Instance;

use crate::bindings::Workflow;
use crate::bindings::exports::relive::workflow::reactor;
use crate::fault::classify;
use crate::host::HostState;
use crate::loaded::{DESCRIBE_FUEL, LoadedComponent};
use crate::memory::GuestStore;
use crate::translate::translate;

/// Memory maps of an instance: the accessible part of its memory, and the rest of its reservation.
const MAPS_PER_INSTANCE: usize = 2;

/// One instance of a workflow.
pub struct ReactorGuest {
    life: Life,
    component: LoadedComponent,
    limits: RunLimits,
}

enum Life {
    Alive(Alive),
    /// An error came out of it: the store is gone, the cursor stays for the report.
    Dead(Box<Cursor>),
}

/// A store with an instance in it.
pub(crate) struct Alive {
    pub(crate) store: Box<GuestStore<HostState>>,
    pub(crate) instance: Instance,
    pub(crate) exports: Workflow,
}

impl ReactorGuest {
    pub(crate) fn new(component: LoadedComponent, alive: Alive, limits: RunLimits) -> Self {
        Self { life: Life::Alive(alive), component, limits }
    }

    pub(crate) fn describe(&mut self) -> Result<Vec<reactor::WorkflowDescription>, GuestFault> {
        self.call(DESCRIBE_FUEL, |exports, store| exports.relive_workflow_reactor().call_describe(store))
    }

    /// Calls an export with fresh fuel. The first error is the instance's end.
    fn call<R>(
        &mut self,
        fuel: u64,
        call: impl FnOnce(&Workflow, &mut GuestStore<HostState>) -> wasmtime::Result<R>,
    ) -> Result<R, GuestFault> {
        let Life::Alive(Alive { store, exports, .. }) = &mut self.life else {
            return Err(GuestFault::Host("the instance is dead; make another one".into()));
        };
        store.data_mut().growth.denied = None;
        store.data_mut().host_fuel = fuel;
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
        if let Life::Alive(Alive { store, .. }) = &mut self.life {
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
        if let Life::Alive(Alive { store, .. }) = &mut self.life {
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
            Life::Alive(Alive { store, .. }) => &mut store.data_mut().cursor,
            Life::Dead(cursor) => cursor,
        }
    }

    fn memory_bytes(&self) -> usize {
        match &self.life {
            Life::Alive(Alive { store, .. }) => store.memory_bytes(),
            Life::Dead(_) => 0,
        }
    }

    fn memory_maps(&self) -> usize {
        match &self.life {
            Life::Alive(_) => MAPS_PER_INSTANCE,
            Life::Dead(_) => 0,
        }
    }

    fn memory(&mut self) -> Option<&[u8]> {
        match &mut self.life {
            Life::Alive(Alive { store, .. }) => store.memory(),
            Life::Dead(_) => None,
        }
    }

    fn capture(&mut self) -> Result<Option<Captured>, GuestFault> {
        let Life::Alive(alive) = &mut self.life else {
            return Ok(None);
        };
        let captured = self.component.capture(alive);
        if captured.is_err() {
            self.kill();
        }
        captured
    }
}

impl std::fmt::Debug for ReactorGuest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let alive = matches!(self.life, Life::Alive(_));
        f.debug_struct("ReactorGuest").field("alive", &alive).finish_non_exhaustive()
    }
}
