//! `relive dev`: its options. What it does is in `crate::dev`.

use std::path::PathBuf;

use crate::{
    Context, dev,
    engine_args::EngineArgs,
    exit::{Exit, Failure},
};

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
    #[command(flatten)]
    pub engine: EngineArgs,
    /// Write the log to a file instead of stderr; RELIVE_LOG filters it (`info,relive_engine=debug`)
    #[arg(long, env = "RELIVE_LOG_FILE", hide_env_values = true, value_name = "FILE")]
    pub log_file: Option<PathBuf>,
    /// Answer workers over NATS as well; a server of this machine. A path is the first token of subjects
    #[arg(long, env = "RELIVE_WORKERS_NATS", hide_env_values = true, value_name = "nats://HOST:PORT[/PREFIX]")]
    pub workers_nats: Option<String>,
    /// Offer the native activities `echo` and `ledger`
    #[arg(long, hide = true)]
    pub bench_activities: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    dev::run(args, context.global.json)
}
