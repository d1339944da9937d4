//! The contract of task queues and signals, over every adapter: one function a behaviour. A case gets two hosts that
//! share a broker.

mod common;
mod suite;

use std::sync::Arc;

use relive_core::ports::{Signals, TaskQueue};
use relive_queue::{MemoryQueue, NatsOptions, NatsQueue, QueueLimits};

trait Broker: TaskQueue + Signals {}
impl<T: TaskQueue + Signals> Broker for T {}

/// Two hosts.
struct Hosts {
    a: Arc<dyn Broker>,
    b: Arc<dyn Broker>,
}

/// How two hosts come by a broker of the case's own.
enum Adapter {
    Memory,
    Nats,
}

impl Adapter {
    async fn hosts(self, limits: QueueLimits) -> Hosts {
        match self {
            Self::Memory => {
                let a = Arc::new(MemoryQueue::new(limits));
                Hosts { b: a.clone(), a }
            }
            Self::Nats => {
                let (url, prefix) = (common::shared_server(), common::fresh_prefix());
                let options = NatsOptions { limits, ..common::options(&url, &prefix) };
                let a = NatsQueue::connect(options.clone()).await.expect("a connection");
                let b = NatsQueue::connect(options).await.expect("a connection");
                Hosts { a: Arc::new(a), b: Arc::new(b) }
            }
        }
    }
}

macro_rules! suite {
    ($adapter:expr; $($name:ident)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            crate::common::in_time(stringify!($name), crate::suite::$name($adapter)).await;
        })*
    };
}

macro_rules! suites {
    ($($name:ident)*) => {
        mod memory { suite! { crate::Adapter::Memory; $($name)* } }
        mod nats { suite! { crate::Adapter::Nats; $($name)* } }
    };
}

suites! {
    messages_come_as_they_were_sent nothing_comes_of_nothing a_fetch_waits_for_the_first a_fetch_takes_what_is_there
    acknowledged_is_gone acknowledging_late_or_twice_is_no_trouble
    given_back_comes_again given_back_with_a_delay_comes_later a_dead_consumers_message_goes_to_another
    progress_prolongs terminated_is_gone exhausted_messages_are_told_until_they_are_terminated
    duplicates_are_swallowed a_republished_message_passes queues_are_apart two_hosts_fetch_disjointly
    a_dropped_fetch_loses_nothing a_full_queue_refuses foreign_receipts_are_refused the_depth_is_told
    hints_arrive hints_before_listening_are_gone
}
