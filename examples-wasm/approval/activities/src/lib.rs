//! The activity of the approval example: letters, which here are lines in a file, one a letter however often it was
//! tried.

use relive_sdk::wasi::{append, read};
use relive_sdk::{activity, ActivityFailure, Task};
use schemars::JsonSchema;
use serde::Deserialize;
use std::io::ErrorKind;

/// In the directory that the manifest grants.
const OUTBOX: &str = "/outbox/letters.txt";

#[derive(Deserialize, JsonSchema)]
struct Letter {
    to: String,
    text: String,
}

/// Writes to somebody: a line `idempotency_key to: text`, unless an earlier attempt has.
#[activity]
fn write(task: &Task, letter: Letter) -> Result<(), ActivityFailure> {
    let outbox = match read(OUTBOX) {
        Ok(outbox) => outbox,
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let key = task.idempotency_key.as_bytes();
    let written = outbox.split(|byte| *byte == b'\n').any(|line| line.split(|byte| *byte == b' ').next() == Some(key));
    if !written {
        let text = letter.text.replace('\n', " ");
        append(OUTBOX, format!("{} {}: {text}\n", task.idempotency_key, letter.to).as_bytes())?;
    }
    Ok(())
}

relive_sdk::activities![write];
