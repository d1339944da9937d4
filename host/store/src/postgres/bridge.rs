//! From threads that block to a client that does not.
//!
//! A small runtime of the adapter's own turns the wheels (sockets, timers); the future itself is polled by the thread
//! that called, which sleeps in between. So a call may come from any thread, a future may borrow from its caller, and
//! none is ever cancelled: sqlx takes that badly in the middle of a statement.

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::Thread,
};

use tokio::runtime::{Handle, Runtime};

/// Threads that watch sockets and timers. The work is done by callers: one is enough.
const THREADS: usize = 1;

pub(super) struct Bridge {
    /// Taken when dropped.
    runtime: Option<Runtime>,
    handle: Handle,
}

/// Wakes the thread that polls.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

impl Bridge {
    pub(super) fn new() -> std::io::Result<Self> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(THREADS).thread_name("relive-postgres").enable_all().build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// Runs the future to its end on this thread.
    pub(super) fn wait<F: Future>(&self, future: F) -> F::Output {
        let _inside = self.handle.enter();
        // The caller may be a task of another runtime that has used up its turn: sockets would tell it to yield for ever.
        let mut future = pin!(tokio::task::unconstrained(future));
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut context = Context::from_waker(&waker);
        loop {
            match future.as_mut().poll(&mut context) {
                Poll::Ready(output) => return output,
                // A wake that came in between makes this return at once.
                Poll::Pending => std::thread::park(),
            }
        }
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        // Dropping a runtime waits for its threads, which a caller on another runtime's thread must not do.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
