//! Whether this program is another one than that which ran on the data directory last, and if it is, whether the executions
//! that are open come through on it. Asked before a host takes anything up.

use std::{os::unix::fs::MetadataExt, path::Path, time::Duration};

use relive_core::ports::HistoryStore;
use relive_engine::{SandboxGuests, check_open};
use relive_sandbox::Sandbox;

/// Which program ran here last.
const FILE: &str = "engine";
/// Executions that are relived, and how long that may take.
const SAMPLE: usize = 128;
const PATIENCE: Duration = Duration::from_secs(20);
/// Executions that differ, as many as are told of.
const EXAMPLES: usize = 5;

/// Some of the open executions do not come through.
#[derive(Debug, thiserror::Error)]
#[error(
    "{differ} of {checked} open executions that were relived differ on this program, among them {examples}; \
     go on with the one before, or start this one with --accept-upgrade: those executions will stand blocked"
)]
pub struct Differs {
    differ: usize,
    checked: u64,
    examples: String,
}

/// What makes native code and replay what they are: version, engine, its settings, the processor, and the very file.
fn identity(sandbox: &Sandbox) -> String {
    let file = std::env::current_exe().and_then(std::fs::metadata);
    let file = file.map_or_else(|_| String::new(), |file| format!("{}-{}", file.len(), file.mtime()));
    format!("{} {} {file}\n", env!("CARGO_PKG_VERSION"), sandbox.fingerprint())
}

/// Relives a sample, if another program ran here last. What differs is told, and refused unless `accept`.
pub fn check(
    directory: &Path,
    sandbox: &Sandbox,
    store: &dyn HistoryStore,
    guests: &SandboxGuests,
    accept: bool,
) -> Result<(), Differs> {
    let path = directory.join(FILE);
    let identity = identity(sandbox);
    if std::fs::read_to_string(&path).is_ok_and(|before| before == identity) {
        return Ok(());
    }
    match check_open(store, guests, SAMPLE, PATIENCE) {
        Ok(report) if report.differ.is_empty() => {
            if report.checked > 0 {
                let (checked, cut_short) = (report.checked, report.cut_short);
                tracing::info!(checked, cut_short, "another program than before; open executions come through on it");
            }
            if report.cut_short {
                // The next start looks at more of them.
                return Ok(());
            }
        }
        Ok(report) => {
            for (execution, what) in &report.differ {
                tracing::error!(execution, what, accept, "an open execution differs on this program");
            }
            let examples: Vec<String> =
                report.differ.iter().take(EXAMPLES).map(|(execution, what)| format!("{execution} ({what})")).collect();
            if !accept {
                let (differ, checked) = (report.differ.len(), report.checked);
                return Err(Differs { differ, checked, examples: examples.join(", ") });
            }
        }
        // The engine will meet the same trouble, and wait.
        Err(error) => {
            tracing::warn!(%error, "whether open executions come through on this program could not be found out");
            return Ok(());
        }
    }
    if let Err(error) = std::fs::write(&path, identity) {
        tracing::warn!(%error, path = %path.display(), "the next start will relive open executions again");
    }
    Ok(())
}
