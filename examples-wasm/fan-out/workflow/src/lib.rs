//! Many activities at once: all are started in one turn, and whatever order they end in, their results stand in the
//! order of the inputs.

use relive_sdk::{activity, publish, try_join_all, workflow, Failure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::cell::Cell;

/// A run may have 2,000 promises open, and issue as many commands in a turn.
const MAX_COUNT: u32 = 1_000;

#[derive(Deserialize, JsonSchema)]
struct Work {
    /// How many activities.
    #[serde(default = "hundred")]
    count: u32,
    /// Rounds of work of the last one; those before it have more, so that they end in another order.
    #[serde(default = "rounds")]
    rounds: u32,
}

fn hundred() -> u32 {
    100
}

fn rounds() -> u32 {
    1_000
}

#[derive(Serialize)]
struct Item {
    item: u32,
    rounds: u32,
}

#[derive(Deserialize, Serialize, JsonSchema)]
struct Digest {
    item: u32,
    digest: String,
}

#[derive(Serialize, JsonSchema)]
struct Digests {
    digests: Vec<Digest>,
}

/// Digests items, all at once.
#[workflow(name = "fan-out", channels = [])]
async fn fan_out(work: Work) -> Result<Digests, Failure> {
    if work.count > MAX_COUNT {
        return Err(Failure::new("too-many", format!("{} at once; at most {MAX_COUNT}", work.count)));
    }
    publish("done", &0)?;
    let done = Cell::new(0);
    let digests = try_join_all((0..work.count).map(|item| {
        let (work, done) = (&work, &done);
        async move {
            let input = Item { item, rounds: work.rounds.saturating_mul(work.count - item) };
            let digest: Digest = activity("digest", &input).max_attempts(5).await?;
            done.set(done.get() + 1);
            publish("done", &done.get())?;
            Ok::<_, Failure>(digest)
        }
    }))
    .await?;
    Ok(Digests { digests })
}

relive_sdk::workflows![fan_out];
