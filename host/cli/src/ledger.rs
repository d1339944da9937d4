//! The native activity `ledger`, for crash tests: an effect that outlives the host and can be counted. Each attempt
//! appends a line `idempotency_key attempt` to the file that RELIVE_LEDGER names, and gives its input back.

use std::io::Write;

use relive_activity::NativeTask;
use relive_core::{Failure, FailureKind, Json};

const FILE: &str = "RELIVE_LEDGER";

/// One attempt. The line is one write, so that attempts side by side do not mix theirs.
pub fn append(task: &NativeTask, input: Json) -> Result<Json, Failure> {
    let refused = |code: &str, what: String| Failure::new(FailureKind::Application, code, what).permanent();
    let path = std::env::var_os(FILE).ok_or_else(|| refused("no-ledger", format!("{FILE} names no file")))?;
    let line = format!("{} {}\n", task.idempotency_key(), task.attempt);
    let opened = std::fs::OpenOptions::new().create(true).append(true).open(path);
    opened.and_then(|mut file| file.write_all(line.as_bytes())).map_err(|e| refused("ledger", e.to_string()))?;
    // What asks to fail at first shows that retries go on after a crash.
    match input.as_str().contains("\"flaky\":true") && task.attempt < 2 {
        true => Err(Failure::new(FailureKind::Application, "flaky", "not yet")),
        false => Ok(input),
    }
}
