//! The engine: owners of executions, the turns that they live, and everything that keeps them going.
//!
//! Owns: the decision what is appended (`owner`), the threads that decide (`pool`), group commit (`committer`), dispatch
//! of activities, timers, recovery. Knows ports, the sandbox behind [`GuestFactory`], and activities behind
//! [`relive_core::ports::ActivityRunner`]. Must not know: SQL, HTTP, which adapters there are.
//!
//! People who embed Relive start here: [`Engine::start`] with [`EngineParts`].

mod abort;
mod attempts;
mod cache;
mod cell;
mod changes;
mod channels;
mod committer;
mod config;
mod context;
mod dispatch;
mod engine;
mod facade;
mod guests;
mod ids;
mod images;
mod marks;
mod message;
mod owner;
mod pool;
mod recovery;
mod requests;
mod sandboxed;
pub mod schema;
mod stripes;
mod threads;
mod timers;
pub mod views;
mod waiters;
mod workflows;

pub use config::{CacheLimits, EngineConfig, EngineParts};
pub use engine::Engine;
pub use facade::follow::{Chunk, Follow, FollowList, ListChange};
pub use guests::{ActivityHost, Admitted, AdmittedActivity, Described, GuestFactory, NativeOnly};
pub use images::ImageConfig;
pub use requests::{
    DeployActivityRequest, DeployRequest, OnConflict, Reuse, SignalRequest, StartPolicy, StartRequest, Target,
};
pub use sandboxed::{SandboxGuests, inspection_view};
