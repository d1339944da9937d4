//! The host's own log: stderr or a file, filtered by RELIVE_LOG.

use std::{io::IsTerminal, path::Path, sync::Mutex};

use tracing_subscriber::EnvFilter;

use crate::exit::{Exit, Failure};

const FILTER: &str = "RELIVE_LOG";
/// Quiet unless something is wrong: what executions do is in their histories.
const DEFAULT_FILTER: &str = "warn";

pub fn start(file: Option<&Path>) -> Result<(), Failure> {
    let text = std::env::var(FILTER).unwrap_or_else(|_| DEFAULT_FILTER.to_owned());
    let filter = EnvFilter::try_new(&text).map_err(|e| {
        Failure::usage(format!("{FILTER}={text:?} is no filter: {e}")).hint("write it as info,relive_engine=debug")
    })?;
    // A log that cannot be written, on a full disk for one, is no reason to panic on whatever thread had a line for it.
    let log = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false);
    let started = match file {
        None => log.with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr).try_init(),
        Some(path) => {
            let opened = std::fs::OpenOptions::new().create(true).append(true).open(path);
            let file = opened.map_err(|e| Failure::usage(format!("failed to open the log {}: {e}", path.display())))?;
            log.with_ansi(false).with_writer(Mutex::new(file)).try_init()
        }
    };
    started.map_err(|e| Failure::new(Exit::Failed, "log", format!("failed to start the log: {e}")))
}
