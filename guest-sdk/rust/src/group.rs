//! Many futures in one: a ready list, so that an event polls the futures that it concerns and not all of them.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// Which children have something to do, and who is to be told.
#[derive(Default)]
struct Ready {
    list: Mutex<ReadyList>,
}

#[derive(Default)]
struct ReadyList {
    children: Vec<usize>,
    parent: Option<Waker>,
}

/// The waker of one child.
struct ChildWaker {
    index: usize,
    ready: Arc<Ready>,
}

impl Wake for ChildWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let parent = {
            let mut list = self.ready.list.lock().unwrap_or_else(PoisonError::into_inner);
            list.children.push(self.index);
            list.parent.clone()
        };
        if let Some(parent) = parent {
            parent.wake();
        }
    }
}

struct Child<F> {
    future: Pin<Box<F>>,
    waker: Waker,
}

/// Futures that are polled in the order of their indices, each when it was woken.
pub(crate) struct Group<F> {
    children: Vec<Option<Child<F>>>,
    ready: Arc<Ready>,
    open: usize,
}

impl<F: Future> Group<F> {
    pub(crate) fn new(futures: impl Iterator<Item = F>) -> Self {
        let ready = Arc::new(Ready::default());
        let children: Vec<Option<Child<F>>> = futures
            .enumerate()
            .map(|(index, future)| {
                let waker = Waker::from(Arc::new(ChildWaker { index, ready: ready.clone() }));
                Some(Child { future: Box::pin(future), waker })
            })
            .collect();
        let open = children.len();
        ready.list.lock().unwrap_or_else(PoisonError::into_inner).children = (0..open).collect();
        Self { children, ready, open }
    }

    /// How many have not resolved.
    pub(crate) fn open(&self) -> usize {
        self.open
    }

    /// Poll those that were woken until one resolves; a tie goes to the lower index.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<(usize, F::Output)> {
        loop {
            let mut woken = {
                let mut list = self.ready.list.lock().unwrap_or_else(PoisonError::into_inner);
                list.parent = Some(context.waker().clone());
                std::mem::take(&mut list.children)
            };
            if woken.is_empty() {
                return Poll::Pending;
            }
            woken.sort_unstable();
            woken.dedup();
            for at in 0..woken.len() {
                let index = woken[at];
                let Some(child) = &mut self.children[index] else {
                    continue;
                };
                let poll = child.future.as_mut().poll(&mut Context::from_waker(&child.waker));
                if let Poll::Ready(output) = poll {
                    self.children[index] = None;
                    self.open -= 1;
                    let mut list = self.ready.list.lock().unwrap_or_else(PoisonError::into_inner);
                    list.children.extend_from_slice(&woken[at + 1..]);
                    return Poll::Ready((index, output));
                }
            }
        }
    }
}
