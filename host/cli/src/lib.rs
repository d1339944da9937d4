//! The one binary, as a library so that tests can reach its parts: command line, HTTP client, and the wiring of a host.
//!
//! A verb is a file in `verbs`; all but `dev` and `compile-component` talk to a host by HTTP. `host` and `nats_bridge`
//! alone name adapters (which store, which activities, which broker).

mod args;
mod client;
mod clock;
mod deployment;
mod dev;
mod doctor;
mod engine_args;
mod exit;
pub mod host;
mod input;
mod ledger;
mod nats_bridge;
mod output;
mod progress;
mod reason;
pub mod serve;
mod signers;
mod stores;
mod stream;
mod upgrade;
mod verbs;
mod wait;
mod wire;
mod worker_process;

use std::{ffi::OsString, process::ExitCode};

use clap::Parser;

pub use args::{Cli, DEFAULT_SERVER, Global};
pub use exit::{Exit, Failure};

/// What a verb is given.
pub(crate) struct Context {
    pub client: client::Client,
    pub global: Global,
}

/// Runs the command line `args` (the program's name first) and returns the exit code.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut args: Vec<OsString> = args.into_iter().collect();
    if args.get(1).is_some_and(|verb| verb == verbs::compile_component::NAME) {
        return verbs::compile_component::run();
    }
    match serve::file::merged(args) {
        Ok(merged) => args = merged,
        Err(failure) => {
            output::failure(&failure, false);
            return failure.exit.into();
        }
    }
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and versions are no errors; a closed pipe is nobody's.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Ok.into() };
        }
    };
    let global = cli.global;
    let json = global.json;
    let client = client::Client::new(&global.server, &global.namespace, global.run.as_deref());
    match verbs::run(cli.verb, &Context { client, global }) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            output::failure(&failure, json);
            failure.exit.into()
        }
    }
}
