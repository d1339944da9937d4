//! What only the queue in memory can be asked.

mod common;

use futures_util::StreamExt;
use relive_core::{
    Shard,
    ports::{Signal, Signals},
};
use relive_queue::MemoryQueue;

#[tokio::test]
async fn a_listener_that_is_too_slow_knows_it() {
    let queue = MemoryQueue::default();
    let mut slow = queue.subscribe().await.unwrap();
    for number in 0..5_000_u32 {
        queue.notify(Shard((number % 256) as u8)).await.unwrap();
    }
    assert_eq!(slow.next().await, Some(Signal::Missed));
    assert!(matches!(slow.next().await, Some(Signal::Happened(_))));
}
