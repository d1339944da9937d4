//! Options of the engine, the same for every verb that runs a host.

use std::path::PathBuf;

use relive_core::{codec::CodecId, limits::MAX_EVENT_ID};
use relive_engine::EngineConfig;

use crate::{exit::Failure, signers};

/// Fewer would be no room to work in.
const MIN_EVENTS: u64 = 100;
/// A history is read into memory when it is relived: no more of it than a large machine has.
const MAX_HISTORY_MIB: u64 = 16 << 10;

/// Longer than anybody waits for a host to end.
const MAX_DRAIN_SECONDS: u64 = 600;

#[derive(Clone, Debug, clap::Args)]
pub struct EngineArgs {
    /// Events that the history of a new run may have; runs that are open keep what they began with
    #[arg(long, alias = "max-events", env = "RELIVE_MAX_HISTORY_EVENTS", hide_env_values = true, value_parser = clap::value_parser!(u64).range(MIN_EVENTS..=MAX_EVENT_ID), value_name = "N")]
    pub max_history_events: Option<u64>,
    /// MiB that the history of a new run may have
    #[arg(long, env = "RELIVE_MAX_HISTORY_MB", hide_env_values = true, value_parser = clap::value_parser!(u64).range(1..=MAX_HISTORY_MIB), value_name = "MIB")]
    pub max_history_mb: Option<u64>,
    /// How new events are stored: json or postcard
    #[arg(long, env = "RELIVE_CODEC", hide_env_values = true, value_parser = codec, value_name = "CODEC")]
    pub codec: Option<CodecId>,
    /// Memory of live guests, in MiB; the least recently used go cold first
    #[arg(long, env = "RELIVE_CACHE_MB", hide_env_values = true, value_parser = clap::value_parser!(u32).range(1..), value_name = "MIB")]
    pub cache_mb: Option<u32>,
    /// Store a memory image of a live guest every N events of its history; 0: no memory images at all
    #[arg(long, env = "RELIVE_IMAGE_EVERY", hide_env_values = true, value_parser = clap::value_parser!(u64).range(..=MAX_EVENT_ID), value_name = "N")]
    pub image_every: Option<u64>,
    /// Memory for images of cold guests, in MiB; what is more goes to the database
    #[arg(long, env = "RELIVE_IMAGE_MEMORY_MB", hide_env_values = true, value_name = "MIB")]
    pub image_memory_mb: Option<u32>,
    /// Open executions a minute that are relived in the background and held against their memory images; 0: none
    #[arg(long, env = "RELIVE_AUDITS_PER_MINUTE", hide_env_values = true, default_value_t = 0, value_name = "N")]
    pub audits_per_minute: u32,
    /// Seconds to go on answering after a signal, as not ready, before the listener closes: for load balancers, which
    /// look every few seconds
    #[arg(long, env = "RELIVE_DRAIN_SECONDS", hide_env_values = true, default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=MAX_DRAIN_SECONDS), value_name = "N")]
    pub drain_seconds: u64,
    /// Send traces to the OpenTelemetry collector at this address (OTLP over HTTP): http://127.0.0.1:4318
    #[arg(long, env = "RELIVE_OTLP_ENDPOINT", hide_env_values = true, value_name = "URL")]
    pub otlp_endpoint: Option<String>,
    /// Who must have signed what is deployed, by namespace: a TOML file (see docs/versions.md)
    #[arg(long, env = "RELIVE_SIGNERS", hide_env_values = true, value_name = "FILE")]
    pub signers: Option<PathBuf>,
    /// Start also if open executions differ on this program from the one that ran here last; they will stand blocked
    #[arg(long, env = "RELIVE_ACCEPT_UPGRADE", hide_env_values = true)]
    pub accept_upgrade: bool,
}

impl EngineArgs {
    /// The engine's settings.
    pub fn config(&self) -> Result<EngineConfig, Failure> {
        let mut config = EngineConfig::default();
        if let Some(path) = &self.signers {
            config.signers = signers::of_file(path)?;
        }
        if let Some(events) = self.max_history_events {
            config.run_limits.events = events;
        }
        if let Some(mib) = self.max_history_mb {
            config.run_limits.history_bytes = mib << 20;
        }
        if let Some(codec) = self.codec {
            config.codec = codec;
        }
        if let Some(mib) = self.cache_mb {
            config.cache.memory_bytes = bytes(mib);
        }
        config.audits_per_minute = self.audits_per_minute;
        if let Some(every) = self.image_every {
            config.images.every = every;
        }
        if let Some(mib) = self.image_memory_mb {
            config.images.memory_bytes = bytes(mib);
        }
        Ok(config)
    }
}

fn bytes(mib: u32) -> usize {
    usize::try_from(mib).unwrap_or(usize::MAX).saturating_mul(1 << 20)
}

fn codec(name: &str) -> Result<CodecId, String> {
    match name {
        "json" => Ok(CodecId::Json),
        "postcard" => Ok(CodecId::Postcard),
        _ => Err("there are json and postcard".to_owned()),
    }
}
