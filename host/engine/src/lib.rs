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
mod canary;
mod cell;
mod changes;
mod channels;
mod cluster;
mod committer;
mod config;
mod context;
mod diff;
mod dispatch;
mod engine;
mod facade;
mod feed;
mod guests;
mod health;
mod ids;
mod images;
mod loader;
mod marks;
mod message;
pub mod metrics;
mod owner;
mod ownership;
mod pool;
pub mod preflight;
mod reconcile;
mod recovery;
mod remote;
mod requests;
mod sandboxed;
pub mod schema;
pub mod signers;
mod stripes;
mod threads;
mod timers;
mod traces;
mod upgrade;
pub mod versions;
pub mod views;
mod waiters;
mod workflows;

/// How often a worker that does nothing else lets the host hear of it; three in a row may not be missed.
pub const BEAT_EVERY: std::time::Duration = std::time::Duration::from_nanos(remote::BEAT_EVERY_NANOS);

pub use cluster::{ClusterParts, LEASE, Place};
pub use config::{CacheLimits, EngineConfig, EngineParts};
pub use engine::Engine;
pub use facade::follow::{Chunk, Follow, FollowList, ListChange};
pub use facade::{DeployTold, FailedPage, FailedTask, PendingActivity, PendingPage, PendingState, derived_id};
pub use feed::FeedParts;
pub use guests::{
    ActivityHost, Admitted, AdmittedActivity, Described, GuestFactory, LoadedActivity, NativeOnly, Standing,
};
pub use images::ImageConfig;
pub use message::TaskChange;
pub use remote::{
    Beat, ClaimedTask, DEFAULT_QUEUE, Handed, HeldBack, PeerError, PeerPoll, Peers, QueueView, Report, TaskToken,
    WorkerState, WorkerView,
};
pub use requests::{
    DeployActivityRequest, DeployHttpRequest, DeployRequest, OnConflict, PollRequest, RegisterRequest, Reuse,
    SignalRequest, StartPolicy, StartRequest, Target,
};
pub use sandboxed::{SandboxGuests, inspection_view};
pub use upgrade::{UpgradeReport, check_open};
