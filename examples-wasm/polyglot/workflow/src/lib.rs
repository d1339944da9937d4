//! An order whose steps are written in three ways: the price is WebAssembly that the host runs, the charge is a Python
//! worker's, and the booking is a URL. The workflow sees no difference.

use relive_sdk::{activity, publish, workflow, Failure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The task queue that worker.py polls.
const PAYMENTS: &str = "payments";

#[derive(Serialize, Deserialize, JsonSchema)]
struct Order {
    order_id: String,
    item: String,
    quantity: u32,
}

#[derive(Serialize)]
struct Charge<'a> {
    order_id: &'a str,
    cents: u64,
}

#[derive(Serialize)]
struct Booking<'a> {
    order_id: &'a str,
    charge: &'a str,
    cents: u64,
}

#[derive(Serialize, JsonSchema)]
struct Receipt {
    order_id: String,
    cents: u64,
    /// The charge's number, from Python.
    charge: String,
    /// The booking's number, from behind the URL.
    booking: u64,
}

/// Prices, charges and books an order.
#[workflow(name = "polyglot-order", channels = [])]
async fn order(order: Order) -> Result<Receipt, Failure> {
    let cents: u64 = activity("price", &order).max_attempts(3).await?;
    publish("cents", &cents)?;
    let charge: String = activity("charge", &Charge { order_id: &order.order_id, cents })
        .task_queue(PAYMENTS)
        .start_to_close(Duration::from_secs(30))
        .max_attempts(10)
        .await?;
    let booking: u64 =
        activity("book", &Booking { order_id: &order.order_id, charge: &charge, cents }).max_attempts(10).await?;
    Ok(Receipt { order_id: order.order_id, cents, charge, booking })
}

relive_sdk::workflows![order];
