//! Threads of the engine: one that panics ends the process, for a host that listens and does nothing is worse than one
//! that is started again and recovers.

use std::thread::JoinHandle;

/// Ends the process if the thread that holds it unwinds.
struct Vital;

impl Drop for Vital {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(thread = std::thread::current().name(), "an engine thread panicked; ending the process");
            std::process::abort();
        }
    }
}

/// Stack of a turn thread: the guest's own stack is bounded well below it.
const STACK_BYTES: usize = 4 << 20;

/// Starts a thread that the engine cannot live without.
pub(crate) fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name).stack_size(STACK_BYTES).spawn(move || {
        let _vital = Vital;
        run();
    })
}
