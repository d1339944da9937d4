//! Runs activities for Relive in a process of your own.
//!
//! ```no_run
//! use relive_worker::{Failure, Task, Worker};
//!
//! # async fn run() -> Result<(), relive_worker::WorkerError> {
//! let worker = Worker::builder("http://127.0.0.1:7474")
//!     .activity("charge", |task: Task, cents: u64| async move {
//!         // The same for all attempts: pass it to whoever must not do it twice.
//!         let key = task.idempotency_key().to_owned();
//!         Ok::<String, Failure>(format!("charged {cents} under {key}"))
//!     })
//!     .build()?;
//! worker.run(async { drop(tokio::signal::ctrl_c().await) }).await
//! # }
//! ```
//!
//! A task is the worker's before it begins, and its answer is durable before it is acknowledged. If the worker dies, its
//! tasks go to others after their heartbeat timeout, their start-to-close timeout, or a minute and a half of silence,
//! whichever comes first. Knows the protocol of `docs/workers.md`, over HTTP or NATS, and nothing of the host.

mod client;
mod failure;
mod nats;
mod report;
mod run;
mod task;
mod tls;
#[cfg(test)]
mod tls_tests;
mod wire;

pub use client::Client;
pub use failure::{Failure, WorkerError};
pub use run::{Builder, Worker};
pub use task::Task;
