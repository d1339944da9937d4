//! The workflows that benchmarks run: as little of the guest's own as possible around each step.

use relive_sdk::{activity, message, timer, workflow, Failure};
use schemars::JsonSchema;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Deserialize, JsonSchema)]
struct Steps {
    /// How many activities, one after the other.
    steps: u32,
    /// Length of each one's input.
    #[serde(default = "payload_bytes")]
    payload_bytes: usize,
    /// The activity's name.
    #[serde(default = "echo")]
    activity: String,
}

fn payload_bytes() -> usize {
    200
}

fn echo() -> String {
    "echo".to_owned()
}

#[derive(Serialize, JsonSchema)]
struct Done {
    steps: u32,
}

/// Runs activities in sequence.
#[workflow(channels = [])]
async fn steps(input: Steps) -> Result<Done, Failure> {
    let payload = "x".repeat(input.payload_bytes);
    for _ in 0..input.steps {
        activity::<IgnoredAny>(&input.activity, payload.as_str()).await?;
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

/// Runs activities in sequence, then counts messages as `waiter` does.
#[workflow(channels = ["go"])]
async fn steps_then_wait(input: Steps) -> Result<Received, Failure> {
    let payload = "x".repeat(input.payload_bytes);
    for _ in 0..input.steps {
        activity::<IgnoredAny>(&input.activity, payload.as_str()).await?;
    }
    waiter().await
}

#[derive(Deserialize, JsonSchema)]
struct Nap {
    /// How long, in milliseconds.
    ms: u64,
    /// How often.
    #[serde(default = "once")]
    times: u32,
}

fn once() -> u32 {
    1
}

/// Sleeps.
#[workflow(channels = [])]
async fn nap(input: Nap) -> Result<(), Failure> {
    for _ in 0..input.times {
        timer(Duration::from_millis(input.ms)).await?;
    }
    Ok(())
}

relive_sdk::workflows![steps, waiter, steps_then_wait, nap];
