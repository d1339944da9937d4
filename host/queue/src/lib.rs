//! How hosts tell each other of work: task queues, signals and the event feed, in memory and over NATS. Hints only; the
//! store is the truth ([ADR 016](../../../docs/adr/016-nats-is-a-hint.md)). Knows the ports of core and no store.

mod limits;
mod memory;
mod names;
mod nats;
mod wire;

pub use limits::QueueLimits;
pub use memory::MemoryQueue;
pub use names::{Names, PrefixError};
pub use nats::{NatsOptions, NatsQueue, WorkerAnswer, WorkerRequest};
