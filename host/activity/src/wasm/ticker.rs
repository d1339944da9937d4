//! The epoch's clock: while calls are under way it ticks, so that a guest that spins yields its thread at each tick
//! and can be dropped there; otherwise it sleeps and costs nothing.
//!
//! Epochs and not fuel bound the time between two yields: a bulk operation costs one unit of fuel and any time.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use wasmtime::Engine;

/// The longest slice of a thread that a guest gets, and about how long it outlives the drop of its attempt.
pub(crate) const TICK: Duration = Duration::from_millis(10);

pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    calls: usize,
    stop: bool,
}

impl Ticker {
    pub(crate) fn start(engine: Engine) -> std::io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let own = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("relive-epoch".into()).spawn(move || run(&own, &engine))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Ticks at least until the guard is dropped.
    pub(crate) fn enter(&self) -> Ticking {
        let mut state = self.shared.state.lock();
        state.calls += 1;
        if state.calls == 1 {
            self.shared.wake.notify_one();
        }
        Ticking(Arc::clone(&self.shared))
    }

    /// Calls whose instances are alive.
    pub(crate) fn calls(&self) -> usize {
        self.shared.state.lock().calls
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.state.lock().stop = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            // It cannot panic; should it have, there is nothing to do about it here.
            let _ = thread.join();
        }
    }
}

/// A call under way.
pub(crate) struct Ticking(Arc<Shared>);

impl Drop for Ticking {
    fn drop(&mut self) {
        self.0.state.lock().calls -= 1;
    }
}

fn run(shared: &Shared, engine: &Engine) {
    let mut state = shared.state.lock();
    loop {
        if state.stop {
            return;
        }
        if state.calls == 0 {
            shared.wake.wait(&mut state);
        } else {
            // Woken early it ticks early, which harms nobody.
            shared.wake.wait_for(&mut state, TICK);
            engine.increment_epoch();
        }
    }
}
