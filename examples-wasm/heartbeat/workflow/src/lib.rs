//! One long activity that tells how far it came: if its worker dies, the next attempt goes on from there.

use relive_sdk::{activity, workflow, Failure, RetryPolicy};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The task queue that worker.py polls.
const IMPORTS: &str = "imports";

#[derive(Serialize, Deserialize, JsonSchema)]
struct Import {
    items: u64,
    /// How long the worker takes for an item, in milliseconds.
    #[serde(default = "item_ms")]
    item_ms: u64,
    /// The longest silence of the worker before the attempt is given to another, in milliseconds.
    #[serde(default = "heartbeat_ms")]
    heartbeat_ms: u64,
}

fn item_ms() -> u64 {
    200
}

fn heartbeat_ms() -> u64 {
    3_000
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Imported {
    items: u64,
    /// Where the attempt that came to the end had begun.
    from: u64,
}

/// Imports items, each at least once.
#[workflow(name = "import-all", channels = [])]
async fn import_all(import: Import) -> Result<Imported, Failure> {
    let retry = RetryPolicy { initial_interval: Duration::from_millis(100), ..RetryPolicy::default() };
    activity("import", &import)
        .task_queue(IMPORTS)
        .heartbeat_timeout(Duration::from_millis(import.heartbeat_ms))
        .start_to_close(Duration::from_secs(3_600))
        .retry(retry)
        .await
}

relive_sdk::workflows![import_all];
