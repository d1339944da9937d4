//! Group reads: one thread that takes runs for owners that have just been woken, everything that has queued up at once, as
//! the committer does for appends. Only where the store takes many at the price of one; elsewhere owners read themselves.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use parking_lot::{Condvar, Mutex};
use relive_core::{
    RunKey,
    ports::{Prepared, Wanted},
};

use crate::{context::Context, message::Message};

/// Runs that were read and that their owners have not looked at. Then the loader waits: turns are behind, and what was
/// read stays in memory until they come to it.
const MAX_WAITING: usize = 512;
/// How often an idle loader looks whether the engine has ended.
const LOOK_EVERY: Duration = Duration::from_millis(100);

#[derive(Default)]
struct Room {
    taken: Mutex<usize>,
    freed: Condvar,
}

/// The way to the loader.
pub(crate) struct Loader {
    requests: Sender<Wanted>,
    room: Arc<Room>,
}

/// What an owner asked for. Absent: it could not be read with the others, and the owner asks for it alone.
pub(crate) struct Loaded {
    pub epoch: u64,
    pub prepared: Option<Prepared>,
    _place: Place,
}

struct Place(Arc<Room>);

impl Drop for Place {
    fn drop(&mut self) {
        *self.0.taken.lock() -= 1;
        self.0.freed.notify_one();
    }
}

impl Loader {
    pub fn new(requests: Sender<Wanted>) -> Self {
        Self { requests, room: Arc::default() }
    }

    /// Asks for a run; [`Message::Loaded`] follows.
    pub fn ask(&self, wanted: Wanted) {
        // A send fails only once the engine has ended.
        let _ = self.requests.send(wanted);
    }

    fn place(&self) -> Place {
        *self.room.taken.lock() += 1;
        Place(self.room.clone())
    }

    fn wait_for_room(&self, ended: &dyn Fn() -> bool) {
        let mut taken = self.room.taken.lock();
        while *taken > MAX_WAITING && !ended() {
            self.room.freed.wait_for(&mut taken, LOOK_EVERY);
        }
    }
}

/// Loads until the engine has ended.
pub(crate) fn run(context: &Arc<Context>, requests: &Receiver<Wanted>) {
    let Some(loader) = &context.loader else { return };
    let ended = || context.closed.load(Ordering::Acquire);
    let most = context.store.takes_together();
    let mut batch: Vec<Wanted> = Vec::with_capacity(most);
    loop {
        match requests.recv_timeout(LOOK_EVERY) {
            Ok(first) => batch.push(first),
            Err(RecvTimeoutError::Timeout) if !ended() => continue,
            Err(_) => return,
        }
        loader.wait_for_room(&ended);
        batch.extend(requests.try_iter().take(most - 1));
        load(context, loader, &batch);
        batch.clear();
    }
}

fn load(context: &Context, loader: &Loader, batch: &[Wanted]) {
    // An owner that was let go and came back asks twice: the store is given each run once, as it was asked for last.
    let last = |n: usize| !batch[n + 1..].iter().any(|later| later.run == batch[n].run);
    let runs: Vec<Wanted> = (0..batch.len()).filter(|n| last(*n)).map(|n| batch[n]).collect();
    let _span = tracing::debug_span!("load", runs = runs.len()).entered();
    let answers = context.store.take_together(&runs).unwrap_or_else(|error| {
        // Each owner finds out for itself, and goes the way of trouble with the store.
        tracing::debug!(%error, runs = runs.len(), "runs could not be read together");
        Vec::new()
    });
    let mut answers = answers.into_iter();
    for Wanted { run, epoch, .. } in runs {
        tell(context, loader, run, epoch, answers.next().flatten());
    }
    context.stats.loading.fetch_sub(batch.len(), Ordering::AcqRel);
}

fn tell(context: &Context, loader: &Loader, run: RunKey, epoch: u64, prepared: Option<Prepared>) {
    let loaded = Loaded { epoch, prepared, _place: loader.place() };
    context.registry.post(run, Message::Loaded(Box::new(loaded)));
}
