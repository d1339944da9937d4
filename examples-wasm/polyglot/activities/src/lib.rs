//! The activity of the polyglot example that is WebAssembly: what an order costs.

use relive_sdk::{activity, ActivityFailure, Task};
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Deserialize, JsonSchema)]
struct Order {
    item: String,
    quantity: u32,
}

/// The price of an order in cents.
#[activity]
fn price(_task: &Task, order: Order) -> Result<u64, ActivityFailure> {
    let each = match order.item.as_str() {
        "tea" => 650,
        "pot" => 4_900,
        other => return Err(ActivityFailure::fatal("unknown-item", format!("nobody sells {other:?}"))),
    };
    Ok(each * u64::from(order.quantity))
}

relive_sdk::activities![price];
