//! What an error out of a wasm activity means, and the failure that its attempt gets.

use std::fmt::Write;

use relive_core::failure::Failure;
use relive_core::guest::GuestFault;
use wasmtime::{Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::failures::{MAX_MESSAGE_BYTES, code, cut, infrastructure};

/// Frames quoted of a trap: enough to find the place, short enough for a history.
const MAX_FRAMES: usize = 8;

/// `refused` is a growth that was refused during the call.
pub(crate) fn classify(error: &wasmtime::Error, refused: Option<&str>) -> GuestFault {
    if let Some(I32Exit(status)) = error.downcast_ref::<I32Exit>() {
        return GuestFault::Trap(format!("it ended the program with exit code {status}; return a result instead"));
    }
    match (error.downcast_ref::<Trap>(), refused) {
        (Some(Trap::OutOfFuel), _) => GuestFault::OutOfFuel(with_backtrace(error, "all fuel is consumed")),
        (Some(Trap::StackOverflow), _) => {
            GuestFault::StackOverflow(with_backtrace(error, "the call stack is exhausted"))
        }
        // Guests whose allocator is refused memory abort; the reason is the better report.
        (_, Some(refused)) => GuestFault::OutOfMemory(with_backtrace(error, refused)),
        (Some(trap), None) => GuestFault::Trap(with_backtrace(error, &trap.to_string())),
        // Neither a trap nor ours: a value that cannot be lifted, a handle that does not exist. The guest's doing.
        (None, None) => GuestFault::Trap(with_backtrace(error, &error.root_cause().to_string())),
    }
}

pub(crate) fn failure(fault: &GuestFault) -> Failure {
    let code = match fault {
        GuestFault::OutOfMemory(_) => code::OUT_OF_MEMORY,
        GuestFault::Host(_) | GuestFault::Unavailable(_) => code::UNAVAILABLE,
        GuestFault::Trap(_)
        | GuestFault::StackOverflow(_)
        | GuestFault::OutOfFuel(_)
        | GuestFault::Contract(_)
        | GuestFault::Diverged => code::TRAP,
    };
    infrastructure(code, fault.to_string())
}

fn with_backtrace(error: &wasmtime::Error, what: &str) -> String {
    let mut text = what.to_owned();
    if let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() {
        for frame in backtrace.frames().iter().take(MAX_FRAMES) {
            let name = frame.func_name().unwrap_or("<unnamed>");
            let offset = frame.module_offset().unwrap_or_default();
            // Writing into a string cannot fail.
            let _ = write!(text, "\n  at {name} (+0x{offset:x})");
        }
    }
    cut(text, MAX_MESSAGE_BYTES)
}
