//! The future of one promise of the host: an activity's result, or a timer.

use crate::runtime::{self, OnCancel};
use crate::Failure;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Something that was started and resolves later. Await it, or give it to [`join`](crate::join),
/// [`select`](crate::select) and the like; `&mut pending` can be awaited too, and keeps it after a lost select.
///
/// Dropped before it resolved, it is canceled (an activity as its [`CancellationType`](crate::CancellationType)
/// says), unless the workflow is ending.
#[must_use = "dropping a pending activity or timer cancels it; use `detach` to let it go on"]
pub struct Pending<T> {
    state: Issued,
    decode: fn(String) -> Result<T, Failure>,
}

enum Issued {
    Open(u64),
    /// The host refused the command.
    Refused(Failure),
    Taken,
}

impl<T> Pending<T> {
    pub(crate) fn issued(promise: u64, on_cancel: OnCancel, decode: fn(String) -> Result<T, Failure>) -> Self {
        runtime::with(|runtime| runtime.open(promise, on_cancel));
        Self { state: Issued::Open(promise), decode }
    }

    pub(crate) fn refused(failure: Failure, decode: fn(String) -> Result<T, Failure>) -> Self {
        Self { state: Issued::Refused(failure), decode }
    }

    /// Ask for it to be canceled. A timer, or an activity of cancellation type `Try` or `Abandon`, then resolves to a
    /// failure of kind canceled; an activity of type `Wait` resolves to what it answers. Of no effect on what has
    /// resolved.
    pub fn cancel(&mut self) {
        if let Issued::Open(promise) = self.state {
            if let Some(waker) = runtime::with(|runtime| runtime.cancel(promise, "canceled by the workflow")) {
                waker.wake();
            }
        }
    }

    /// Let it go on without waiting for it. Its result is ignored.
    pub fn detach(mut self) {
        if let Issued::Open(promise) = std::mem::replace(&mut self.state, Issued::Taken) {
            runtime::with(|runtime| runtime.detach(promise));
        }
    }
}

impl<T> Future for Pending<T> {
    type Output = Result<T, Failure>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let outcome = match std::mem::replace(&mut this.state, Issued::Taken) {
            Issued::Open(promise) => match runtime::with(|runtime| runtime.poll(promise, context.waker())) {
                Poll::Ready(outcome) => outcome,
                Poll::Pending => {
                    this.state = Issued::Open(promise);
                    return Poll::Pending;
                }
            },
            Issued::Refused(failure) => Err(failure),
            Issued::Taken => panic!("awaited after it resolved"),
        };
        Poll::Ready(outcome.and_then(this.decode))
    }
}

impl<T> Drop for Pending<T> {
    fn drop(&mut self) {
        if let Issued::Open(promise) = self.state {
            runtime::with(|runtime| runtime.drop_promise(promise));
        }
    }
}
