//! `relive dev`: its options. What it does is in `crate::dev`.

use std::path::PathBuf;

use relive_core::{codec::CodecId, limits::MAX_EVENT_ID};

use crate::{
    Context, dev,
    exit::{Exit, Failure},
};

/// Fewer would be no room to work in.
const MIN_EVENTS: u64 = 100;
/// A history is read into memory when it is relived: no more of it than a large machine has.
const MAX_HISTORY_MIB: u64 = 16 << 10;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The data directory; made if it is not there
    #[arg(
        long,
        alias = "data-dir",
        env = "RELIVE_DATA",
        hide_env_values = true,
        default_value = ".relive",
        value_name = "DIR"
    )]
    pub data: PathBuf,
    /// The address to listen on; loopback alone. Port 0 takes a free one
    #[arg(
        long,
        env = "RELIVE_LISTEN",
        hide_env_values = true,
        default_value = "127.0.0.1:7474",
        value_name = "ADDRESS:PORT"
    )]
    pub listen: String,
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
    /// Write the log to a file instead of stderr; RELIVE_LOG filters it (`info,relive_engine=debug`)
    #[arg(long, env = "RELIVE_LOG_FILE", hide_env_values = true, value_name = "FILE")]
    pub log_file: Option<PathBuf>,
    /// Offer the native activities `echo` and `ledger`
    #[arg(long, hide = true)]
    pub bench_activities: bool,
}

fn codec(name: &str) -> Result<CodecId, String> {
    match name {
        "json" => Ok(CodecId::Json),
        "postcard" => Ok(CodecId::Postcard),
        _ => Err("there are json and postcard".to_owned()),
    }
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    dev::run(args, context.global.json)
}
