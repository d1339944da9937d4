//! One run of very many steps, each the next one's input, without continue-as-new: so long as its limits allow, a
//! history may be long.

use relive_sdk::{activity, publish, workflow, Failure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Steps between two published values.
const PUBLISH_EVERY: u32 = 1_000;

#[derive(Deserialize, JsonSchema)]
struct Work {
    steps: u32,
}

#[derive(Serialize, JsonSchema)]
struct Done {
    steps: u32,
    value: u32,
}

/// Advances a value, step by step.
#[workflow(name = "long-runner", channels = [])]
async fn long_runner(work: Work) -> Result<Done, Failure> {
    let mut value = 0_u32;
    publish("progress", &0)?;
    for step in 1..=work.steps {
        value = activity("advance", &value).await?;
        if step % PUBLISH_EVERY == 0 {
            publish("progress", &step)?;
        }
    }
    Ok(Done { steps: work.steps, value })
}

relive_sdk::workflows![long_runner];
