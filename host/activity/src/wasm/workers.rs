//! The threads on which wasm activities run: a runtime of their own, at a lower priority, so that the operating system
//! can take the processor from a guest that burns it and give it to the engine.

use std::num::NonZeroUsize;

use tokio::runtime::{Builder, Handle, Runtime};

/// What guests' threads give way by. Attempts may wait, turns and commits should not.
const NICE: i32 = 5;

/// Threads at least: one guest's tick must not be all that moves.
const MIN_THREADS: usize = 2;

pub(crate) struct Workers(Option<Runtime>);

impl Workers {
    pub(crate) fn start() -> std::io::Result<Self> {
        let threads = std::thread::available_parallelism().map_or(MIN_THREADS, NonZeroUsize::get).max(MIN_THREADS);
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("relive-activity")
            .on_thread_start(|| {
                // Linux counts niceness by thread. A machine that forbids it is no reason to fail.
                let _ = rustix::process::nice(NICE);
            })
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    pub(crate) fn handle(&self) -> Option<&Handle> {
        self.0.as_ref().map(Runtime::handle)
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        // The last owner may be a task, of this runtime even, where waiting for threads would panic. Tasks end at
        // their next yield, which the epoch bounds.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
