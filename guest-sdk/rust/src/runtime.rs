//! The executor: one root future, the results of open promises in their slots, and the rule of what one event does.
//!
//! ```text
//! resume(event) -> slot or channel takes the result -> its waker marks the root (and its place in a join) ready
//!               -> poll the root until nothing can go on -> waiting | done | continued
//! ```
//!
//! Owns every piece of guest state that outlives a call. Nothing in it grows with what is past: a slot is dropped when
//! its result is taken. It knows neither JSON nor the types of results.

use crate::message::Channel;
use crate::{host, Failure};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

/// What a workflow function comes to: its result as JSON text.
pub type Outcome = Result<String, Failure>;

/// A started workflow.
pub type Root = Pin<Box<dyn Future<Output = Outcome>>>;

/// Something that happened, as the host hands it over.
#[derive(Debug)]
pub enum Event {
    /// A promise resolved. The id is set for messages.
    Resolved(u64, Option<String>, Outcome),
    /// Somebody asked the execution to cancel.
    CancelRequested,
}

/// Where the workflow stands after a call.
#[derive(Debug, PartialEq)]
pub enum State {
    /// It waits for an open promise.
    Waiting,
    /// It ended.
    Done(Outcome),
    /// It goes on as a new run: input, and the ids of the messages handed over but not consumed.
    Continued(String, Vec<String>),
}

/// What `cancel-promise` does to the promise of a slot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum OnCancel {
    /// The host forgets it at once: awaits answer `canceled`.
    Spent,
    /// It resolves with what the activity answers.
    StaysOpen,
}

/// An issued promise whose result has not been taken yet.
struct Slot {
    on_cancel: OnCancel,
    cancel_sent: bool,
    waker: Option<Waker>,
    outcome: Option<Outcome>,
}

/// The guest's state besides the root future.
pub(crate) struct Runtime {
    slots: BTreeMap<u64, Slot>,
    /// Open `next-message` promises and their channels.
    pub(crate) mailbox: BTreeMap<u64, String>,
    pub(crate) channels: BTreeMap<String, Channel>,
    /// Cancellations of dropped futures. They are sent before the next command and when the workflow begins to wait,
    /// so that what a workflow drops by ending costs nothing.
    dropped: Vec<u64>,
    /// Messages handed over so far; gives unread ones their order across channels.
    pub(crate) arrivals: u64,
    continuation: Option<Outcome>,
    cancel_requested: bool,
    ended: bool,
}

thread_local! {
    static RUNTIME: RefCell<Runtime> = const { RefCell::new(Runtime::new()) };
    static ROOT: Cell<Option<(Root, Arc<RootWaker>)>> = const { Cell::new(None) };
}

/// Marks the root future as worth polling.
struct RootWaker {
    ready: AtomicBool,
}

impl Wake for RootWaker {
    fn wake(self: Arc<Self>) {
        self.ready.store(true, Ordering::Relaxed);
    }
    fn wake_by_ref(self: &Arc<Self>) {
        self.ready.store(true, Ordering::Relaxed);
    }
}

/// Run `f` on the state. Not re-entrant: `f` must not poll or drop futures. Waking is fine: wakers only set marks.
pub(crate) fn with<R>(f: impl FnOnce(&mut Runtime) -> R) -> R {
    RUNTIME.with(|runtime| f(&mut runtime.borrow_mut()))
}

/// Begin: the first poll of the workflow.
pub fn start(root: Root) -> State {
    with(|runtime| *runtime = Runtime::new());
    let waker = Arc::new(RootWaker { ready: AtomicBool::new(true) });
    drive(root, waker)
}

/// Apply one event and run until nothing can go on.
///
/// # Panics
/// If the workflow was not started, or has ended: the host broke the contract.
pub fn resume(event: Event) -> State {
    let Some((root, waker)) = ROOT.with(Cell::take) else {
        panic!("resumed without a running workflow");
    };
    for waker in with(|runtime| runtime.apply(event)) {
        waker.wake();
    }
    drive(root, waker)
}

fn drive(mut root: Root, ready: Arc<RootWaker>) -> State {
    let waker = Waker::from(ready.clone());
    let mut context = Context::from_waker(&waker);
    while ready.ready.swap(false, Ordering::Relaxed) {
        let poll = root.as_mut().poll(&mut context);
        let continuation = with(|runtime| runtime.continuation.take());
        let state = match (continuation, poll) {
            (Some(Ok(input)), _) => State::Continued(input, with(|runtime| runtime.unread())),
            (Some(Err(failure)), _) => State::Done(Err(failure)),
            (None, Poll::Ready(outcome)) => State::Done(outcome),
            (None, Poll::Pending) => continue,
        };
        with(|runtime| runtime.ended = true);
        return state;
    }
    with(Runtime::flush);
    ROOT.with(|cell| cell.set(Some((root, ready))));
    State::Waiting
}

impl Runtime {
    const fn new() -> Self {
        Self {
            slots: BTreeMap::new(),
            mailbox: BTreeMap::new(),
            channels: BTreeMap::new(),
            dropped: Vec::new(),
            arrivals: 0,
            continuation: None,
            cancel_requested: false,
            ended: false,
        }
    }

    /// Take the event in; returns whom to wake, in order of promise numbers.
    fn apply(&mut self, event: Event) -> Vec<Waker> {
        match event {
            Event::Resolved(promise, id, outcome) => {
                let waker = match self.mailbox.remove(&promise) {
                    Some(name) => self.deliver(&name, id, outcome),
                    None => self.resolve(promise, outcome),
                };
                waker.into_iter().collect()
            }
            Event::CancelRequested => self.cancel_awaits(),
        }
    }

    /// A promise without a slot was dropped or detached: nobody wants its result.
    fn resolve(&mut self, promise: u64, outcome: Outcome) -> Option<Waker> {
        let slot = self.slots.get_mut(&promise)?;
        slot.outcome = Some(outcome);
        slot.waker.take()
    }

    /// Every promise that is being awaited answers `canceled`, or is asked to.
    fn cancel_awaits(&mut self) -> Vec<Waker> {
        self.cancel_requested = true;
        let awaited = |slot: &Slot| slot.waker.is_some() && slot.outcome.is_none();
        let promises: Vec<u64> =
            self.slots.iter().filter(|(_, slot)| awaited(slot)).map(|(promise, _)| *promise).collect();
        let mut wakers: Vec<Waker> =
            promises.into_iter().filter_map(|promise| self.cancel(promise, "canceled by request")).collect();
        wakers.extend(self.channels.values_mut().flat_map(Channel::cancel));
        wakers
    }

    /// Record that a command made a promise that somebody holds.
    pub(crate) fn open(&mut self, promise: u64, on_cancel: OnCancel) {
        let slot = Slot { on_cancel, cancel_sent: false, waker: None, outcome: None };
        self.slots.insert(promise, slot);
    }

    /// The result, or leave the waker.
    pub(crate) fn poll(&mut self, promise: u64, waker: &Waker) -> Poll<Outcome> {
        let Some(slot) = self.slots.get_mut(&promise) else {
            return Poll::Pending;
        };
        if slot.outcome.is_none() {
            if !slot.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
                slot.waker = Some(waker.clone());
            }
            return Poll::Pending;
        }
        match self.slots.remove(&promise).and_then(|slot| slot.outcome) {
            Some(outcome) => Poll::Ready(outcome),
            None => Poll::Pending,
        }
    }

    /// Give up a promise that somebody may still await, and say why to them.
    pub(crate) fn cancel(&mut self, promise: u64, why: &str) -> Option<Waker> {
        self.flush();
        let slot = self.slots.get_mut(&promise)?;
        if slot.outcome.is_some() || std::mem::replace(&mut slot.cancel_sent, true) {
            return None;
        }
        let refused = host::cancel_promise(promise).err();
        if slot.on_cancel == OnCancel::StaysOpen && refused.is_none() {
            return None;
        }
        let failure = refused.map_or_else(|| Failure::canceled(why), Failure::from);
        slot.outcome = Some(Err(failure));
        slot.waker.take()
    }

    /// The holder of a promise went away: cancel it later, see `dropped`.
    pub(crate) fn drop_promise(&mut self, promise: u64) {
        let open = self.slots.remove(&promise).is_some_and(|slot| slot.outcome.is_none() && !slot.cancel_sent);
        if open && !self.ended {
            self.dropped.push(promise);
        }
    }

    /// The holder of a promise does not want its result.
    pub(crate) fn detach(&mut self, promise: u64) {
        self.slots.remove(&promise);
    }

    /// Send the cancellations of dropped futures. Before every command, so that the order of commands is that of the
    /// code.
    pub(crate) fn flush(&mut self) {
        for promise in std::mem::take(&mut self.dropped) {
            // Refused only for a promise that the host does not know as open: nothing is left to cancel then.
            let _ = host::cancel_promise(promise);
        }
    }

    pub(crate) fn continue_with(&mut self, input: Outcome) {
        self.continuation.get_or_insert(input);
    }

    pub(crate) fn cancel_requested(&self) -> bool {
        self.cancel_requested
    }
}
