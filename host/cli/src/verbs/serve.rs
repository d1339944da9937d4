//! `relive serve`: its options. What it does is in `crate::serve`.

use std::path::PathBuf;

use crate::{
    Context,
    engine_args::EngineArgs,
    exit::{Exit, Failure},
    serve,
};

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The configuration file, whose keys are these options' names; the command line and the environment go before it.
    /// relive-server.toml in the working directory, if there is one
    #[arg(long, env = "RELIVE_CONFIG", hide_env_values = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where histories live: postgres://USER:PASSWORD@HOST:PORT/DATABASE, shared by all hosts of a cluster
    #[arg(long, env = "RELIVE_STORE", hide_env_values = true, value_name = "URL")]
    pub store: Option<String>,
    /// The broker that tells hosts of tasks at once, and over which workers may come: nats://HOST:PORT, with a user and a
    /// password if other machines reach it. Without it, hosts ask each other twice a second
    #[arg(long, env = "RELIVE_QUEUE", hide_env_values = true, value_name = "URL")]
    pub queue: Option<String>,
    /// Servers of a NATS cluster that keep each hint and each event of the feed. All hosts of a cluster need the same
    /// number
    #[arg(long, env = "RELIVE_QUEUE_REPLICAS", hide_env_values = true, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=5), value_name = "N")]
    pub queue_replicas: u32,
    /// Publish every event of every history to the broker, for other systems (docs/event-feed.md). All hosts of a cluster
    /// need the same setting
    #[arg(long, env = "RELIVE_EVENT_FEED", hide_env_values = true)]
    pub event_feed: bool,
    /// The address to listen on; port 0 takes a free one
    #[arg(
        long,
        env = "RELIVE_LISTEN",
        hide_env_values = true,
        default_value = "127.0.0.1:7474",
        value_name = "ADDRESS:PORT"
    )]
    pub listen: String,
    /// Where the other hosts reach this one: http://HOST:PORT. The address that it listens on, if absent
    #[arg(long, env = "RELIVE_ADVERTISE", hide_env_values = true, value_name = "URL")]
    pub advertise: Option<String>,
    /// This host's name in the cluster, which no other live host may have. The machine's name and the port, if absent
    #[arg(long, env = "RELIVE_HOST_ID", hide_env_values = true, value_name = "NAME")]
    pub host_id: Option<String>,
    /// This host's own directory: native code, marks of what runs, the key that http activities are signed with
    #[arg(long, env = "RELIVE_DATA", hide_env_values = true, default_value = ".relive-host", value_name = "DIR")]
    pub data: PathBuf,
    /// Connections to the database at most
    #[arg(long, env = "RELIVE_STORE_CONNECTIONS", hide_env_values = true, default_value_t = 16, value_parser = clap::value_parser!(u32).range(2..=1_000), value_name = "N")]
    pub store_connections: u32,
    /// Listen on an address that other machines reach, although nobody is asked for credentials there: only behind a
    /// network that keeps strangers out
    #[arg(long, env = "RELIVE_INSECURE", hide_env_values = true)]
    pub insecure: bool,
    #[command(flatten)]
    pub engine: EngineArgs,
    /// Write the log to a file instead of stderr; RELIVE_LOG filters it (`info,relive_engine=debug`)
    #[arg(long, env = "RELIVE_LOG_FILE", hide_env_values = true, value_name = "FILE")]
    pub log_file: Option<PathBuf>,
    /// Offer the native activities `echo` and `ledger`
    #[arg(long, hide = true)]
    pub bench_activities: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    serve::run(args, context.global.json)
}
