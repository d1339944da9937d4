//! The command line's shape: what holds for every verb. Each verb's own arguments stand in its file.

use clap::{Args, Parser};

use crate::{exit::Exit, verbs::Verb};

/// The port is free on most machines and in nobody's list of well-known ones.
pub const DEFAULT_SERVER: &str = "http://127.0.0.1:7474";

#[derive(Debug, Parser)]
#[command(
    name = "relive",
    version,
    about = "Durable workflows in a WebAssembly sandbox: killed at any moment, relived exactly",
    after_help = Exit::table(),
    disable_help_subcommand = true,
    arg_required_else_help = true
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub verb: Verb,
}

/// Options of every verb.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Everywhere")]
pub struct Global {
    /// The host's address
    #[arg(long, global = true, env = "RELIVE_SERVER", hide_env_values = true, default_value = DEFAULT_SERVER, value_name = "URL")]
    pub server: String,
    /// The namespace that workflows and executions are looked up in
    #[arg(
        long,
        global = true,
        env = "RELIVE_NAMESPACE",
        hide_env_values = true,
        default_value = "default",
        value_name = "NAME"
    )]
    pub namespace: String,
    /// A run of the execution; its open one, else its latest, if absent
    #[arg(long, global = true, value_name = "RUN_ID")]
    pub run: Option<String>,
    /// Exact JSON on stdout and nothing else; errors as JSON on stderr
    #[arg(long, global = true)]
    pub json: bool,
}
