//! The workflows that benchmarks run: as little of the guest's own as possible around each step.

use relive_sdk::{activity, message, workflow, Failure};
use schemars::JsonSchema;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

#[derive(Deserialize, JsonSchema)]
struct Steps {
    /// How many activities, one after the other.
    steps: u32,
    /// Length of each one's input.
    #[serde(default = "payload_bytes")]
    payload_bytes: usize,
}

fn payload_bytes() -> usize {
    200
}

#[derive(Serialize, JsonSchema)]
struct Done {
    steps: u32,
}

/// Runs activities named `echo` in sequence.
#[workflow(channels = [])]
async fn steps(input: Steps) -> Result<Done, Failure> {
    let payload = "x".repeat(input.payload_bytes);
    for _ in 0..input.steps {
        activity::<IgnoredAny>("echo", payload.as_str()).await?;
    }
    Ok(Done { steps: input.steps })
}

#[derive(Deserialize)]
struct Go {
    #[serde(default)]
    stop: bool,
}

#[derive(Serialize, JsonSchema)]
struct Received {
    messages: u64,
}

/// Counts the messages on channel `go` until `{"stop": true}`, which counts too.
#[workflow(channels = ["go"])]
async fn waiter() -> Result<Received, Failure> {
    let mut messages = 0;
    loop {
        let go: Go = message("go").await?;
        messages += 1;
        if go.stop {
            return Ok(Received { messages });
        }
    }
}

relive_sdk::workflows![steps, waiter];
