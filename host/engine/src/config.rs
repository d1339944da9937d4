//! What an engine can be told, and the parts that it is made of.

use std::{path::PathBuf, sync::Arc, time::Duration};

use relive_core::{
    codec::CodecId,
    limits::RunLimits,
    ports::{ActivityRunner, Catalog, Clock, HistoryStore, ImageStore},
};

use crate::{
    cluster::ClusterParts,
    guests::{ActivityHost, GuestFactory},
    images::ImageConfig,
    signers::Signers,
};

/// How much live guests may hold together; the least recently used go cold first.
#[derive(Clone, Copy, Debug)]
pub struct CacheLimits {
    /// Bytes of guest memory.
    pub memory_bytes: usize,
    /// Maps of the address space; `vm.max_map_count` is 65,530 by default and the rest of the process needs some.
    pub maps: usize,
}

impl Default for CacheLimits {
    fn default() -> Self {
        Self { memory_bytes: 1 << 30, maps: 40_000 }
    }
}

/// Settings of an engine.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// What new runs are held to.
    pub run_limits: RunLimits,
    /// How new events are stored.
    pub codec: CodecId,
    /// Threads that run turns; a burning guest adds more for as long as it burns.
    pub workers: usize,
    pub cache: CacheLimits,
    pub images: ImageConfig,
    /// Open executions a minute that the auditor relives and holds against their memory images; 0: none.
    pub audits_per_minute: u32,
    /// How often the sweep looks for work that nobody holds.
    pub sweep_every: Duration,
    /// How long a graceful shutdown waits for running activities.
    pub shutdown_grace: Duration,
    /// Who must have signed what is deployed.
    pub signers: Signers,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            run_limits: RunLimits::default(),
            codec: CodecId::default(),
            // Twice the processors: a guest that burns leaves a thread to its neighbours at once.
            workers: std::thread::available_parallelism().map_or(4, |n| (2 * n.get()).clamp(4, 32)),
            cache: CacheLimits::default(),
            images: ImageConfig::default(),
            audits_per_minute: 0,
            sweep_every: Duration::from_secs(30),
            shutdown_grace: Duration::from_secs(5),
            signers: Signers::default(),
        }
    }
}

/// What an engine is made of.
#[derive(Clone)]
pub struct EngineParts {
    pub store: Arc<dyn HistoryStore>,
    pub catalog: Arc<dyn Catalog>,
    pub images: Arc<dyn ImageStore>,
    pub guests: Arc<dyn GuestFactory>,
    pub activities: Arc<dyn ActivityRunner>,
    pub activity_host: Arc<dyn ActivityHost>,
    pub clock: Arc<dyn Clock>,
    /// The host's epoch: greater than that of any host before.
    pub epoch: u64,
    /// Whether the host before ended cleanly.
    pub clean: bool,
    /// The file that says which executions are on a thread right now; none: no quarantine.
    pub marks: Option<PathBuf>,
    /// What makes the host one of several on a shared store; none: it has the store to itself.
    pub cluster: Option<ClusterParts>,
    /// Commits as the store counts them.
    pub commits: Arc<dyn Fn() -> u64 + Send + Sync>,
}
