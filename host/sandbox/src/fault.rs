//! What an error out of a guest means: trap, fuel, memory, stack, divergence, or this host's trouble.
//!
//! Owns the one translation from wasmtime's errors to `GuestFault`. Must not know: what becomes of the execution.

use std::fmt::Write;

use relive_core::cursor::Stop;
use relive_core::guest::GuestFault;
use wasmtime::{Trap, WasmBacktrace};

use crate::host::{HostOutOfMemory, HostWork};

/// Text kept of a trap: enough for the place, bounded for hostile function names.
const MAX_FAULT_BYTES: usize = 8 << 10;

/// Translates the error of an instantiation or a call. `denied` is a growth that was refused during it.
pub(crate) fn classify(error: &wasmtime::Error, denied: Option<String>) -> GuestFault {
    if let Some(stop) = error.downcast_ref::<Stop>() {
        return match stop {
            Stop::Diverged => GuestFault::Diverged,
            Stop::Dormant(_) => GuestFault::Trap(describe(error, &stop.to_string())),
            Stop::Contract(_) => GuestFault::Contract(describe(error, &stop.to_string())),
        };
    }
    if error.is::<HostWork>() {
        return GuestFault::OutOfFuel(describe(error, &HostWork.to_string()));
    }
    if let Some(out_of_memory) = error.downcast_ref::<HostOutOfMemory>() {
        return GuestFault::Host(out_of_memory.to_string());
    }
    let trap = error.downcast_ref::<Trap>();
    match (trap, denied) {
        (Some(Trap::OutOfFuel), _) => GuestFault::OutOfFuel(describe(error, "all fuel is consumed")),
        (Some(Trap::StackOverflow), _) => GuestFault::StackOverflow(describe(error, "the call stack is exhausted")),
        // Guests whose allocator is refused memory abort; the reason is the better report.
        (_, Some(denied)) => GuestFault::OutOfMemory(describe(error, &denied)),
        (Some(trap), None) => GuestFault::Trap(describe(error, &trap.to_string())),
        // Neither a trap nor ours: a value that cannot be lifted, a handle that does not exist. The guest's doing.
        (None, None) => GuestFault::Trap(describe(error, &error.root_cause().to_string())),
    }
}

fn describe(error: &wasmtime::Error, what: &str) -> String {
    let mut text = what.to_owned();
    if let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() {
        for frame in backtrace.frames() {
            let name = frame.func_name().unwrap_or("<unnamed>");
            let offset = frame.module_offset().unwrap_or_default();
            // Writing into a string cannot fail.
            let _ = write!(text, "\n  at {name} (+0x{offset:x})");
            if text.len() > MAX_FAULT_BYTES {
                break;
            }
        }
    }
    text.truncate(text.floor_char_boundary(MAX_FAULT_BYTES));
    text
}
