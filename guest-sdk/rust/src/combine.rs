//! Waiting for several things: all of them, or the first. Everything given to one of these is started in the order
//! given, by the first poll; ties go to the one given first.

use crate::group::Group;
use std::future::{poll_fn, Future, IntoFuture};
use std::pin::pin;
use std::task::Poll;

/// Which of two came first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Either<A, B> {
    /// The first one.
    Left(A),
    /// The second one.
    Right(B),
}

/// Wait for both.
pub async fn join<A: IntoFuture, B: IntoFuture>(a: A, b: B) -> (A::Output, B::Output) {
    let mut a = pin!(a.into_future());
    let mut b = pin!(b.into_future());
    let (mut left, mut right) = (None, None);
    poll_fn(|context| {
        if left.is_none() {
            left = ready(a.as_mut().poll(context));
        }
        if right.is_none() {
            right = ready(b.as_mut().poll(context));
        }
        match (left.take(), right.take()) {
            (Some(a), Some(b)) => Poll::Ready((a, b)),
            (a, b) => {
                (left, right) = (a, b);
                Poll::Pending
            }
        }
    })
    .await
}

/// Wait for the first of two. The other one is dropped, which cancels it, unless it was given as `&mut`.
pub async fn select<A: IntoFuture, B: IntoFuture>(a: A, b: B) -> Either<A::Output, B::Output> {
    let mut a = pin!(a.into_future());
    let mut b = pin!(b.into_future());
    poll_fn(|context| {
        if let Poll::Ready(output) = a.as_mut().poll(context) {
            return Poll::Ready(Either::Left(output));
        }
        b.as_mut().poll(context).map(Either::Right)
    })
    .await
}

/// Wait for all. The outputs are in the order given.
pub async fn join_all<I>(items: I) -> Vec<<I::Item as IntoFuture>::Output>
where
    I: IntoIterator,
    I::Item: IntoFuture,
{
    let mut group = Group::new(items.into_iter().map(IntoFuture::into_future));
    let mut outputs: Vec<Option<_>> = std::iter::repeat_with(|| None).take(group.open()).collect();
    while group.open() > 0 {
        let (index, output) = poll_fn(|context| group.poll_next(context)).await;
        outputs[index] = Some(output);
    }
    outputs.into_iter().flatten().collect()
}

/// Wait for all to succeed, or for the first failure; the others are then dropped, which cancels them. The values are
/// in the order given.
pub async fn try_join_all<I, T, E>(items: I) -> Result<Vec<T>, E>
where
    I: IntoIterator,
    I::Item: IntoFuture<Output = Result<T, E>>,
{
    let mut group = Group::new(items.into_iter().map(IntoFuture::into_future));
    let mut values: Vec<Option<T>> = std::iter::repeat_with(|| None).take(group.open()).collect();
    while group.open() > 0 {
        let (index, output) = poll_fn(|context| group.poll_next(context)).await;
        values[index] = Some(output?);
    }
    Ok(values.into_iter().flatten().collect())
}

/// Wait for the first of many: its index and output. The others are dropped, which cancels them, unless they were
/// given as `&mut`. Of nothing, it never resolves.
pub async fn race<I>(items: I) -> (usize, <I::Item as IntoFuture>::Output)
where
    I: IntoIterator,
    I::Item: IntoFuture,
{
    let mut group = Group::new(items.into_iter().map(IntoFuture::into_future));
    poll_fn(|context| group.poll_next(context)).await
}

fn ready<T>(poll: Poll<T>) -> Option<T> {
    match poll {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}
