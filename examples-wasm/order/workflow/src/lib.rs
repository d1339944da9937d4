//! Takes an order: reserve, charge, ship, then tell the customer twice at once. What was done is undone, last first,
//! if a later step fails or the order is canceled.

use relive_sdk::{activity, join, log, publish, timer, workflow, Failure, RetryPolicy};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Deserialize, JsonSchema)]
struct Order {
    order_id: String,
    sku: String,
    quantity: u32,
    /// A card that ends in 0002 is declined.
    card: String,
    cents: u64,
    /// A durable pause before each step, in milliseconds.
    #[serde(default)]
    pause_ms: u64,
}

#[derive(Serialize, JsonSchema)]
struct Receipt {
    order_id: String,
    reservation: String,
    charge: String,
    tracking: String,
}

#[derive(Serialize)]
struct Reserve<'a> {
    sku: &'a str,
    quantity: u32,
}

#[derive(Serialize)]
struct Charge<'a> {
    card: &'a str,
    cents: u64,
}

/// What has been done, and would have to be undone.
#[derive(Default)]
struct Done {
    reservation: Option<String>,
    charge: Option<String>,
}

/// Reserves, charges and ships an order.
#[workflow(channels = [])]
async fn order(order: Order) -> Result<Receipt, Failure> {
    let mut done = Done::default();
    match fulfil(&order, &mut done).await {
        Ok(receipt) => Ok(receipt),
        Err(failure) => {
            log::warn!("order not fulfilled: {failure}"; order_id = order.order_id);
            undo(&done).await?;
            publish("status", if failure.is_canceled() { "canceled" } else { "failed" })?;
            Err(failure)
        }
    }
}

async fn fulfil(order: &Order, done: &mut Done) -> Result<Receipt, Failure> {
    step(order, "reserving").await?;
    let reserve = Reserve { sku: &order.sku, quantity: order.quantity };
    let reservation: String = activity("reserve", &reserve).max_attempts(5).await?;
    done.reservation = Some(reservation.clone());

    step(order, "charging").await?;
    let charge = Charge { card: &order.card, cents: order.cents };
    let policy = RetryPolicy {
        maximum_attempts: 5,
        non_retryable_codes: vec!["card-declined".to_owned()],
        ..RetryPolicy::default()
    };
    let charge: String = activity("charge", &charge).retry(policy).summary("take the money").await?;
    done.charge = Some(charge.clone());

    step(order, "shipping").await?;
    let tracking: String = activity("ship", &reservation).max_attempts(5).await?;

    step(order, "notifying").await?;
    let email = activity::<()>("email", &tracking).max_attempts(3);
    let sms = activity::<()>("sms", &tracking).max_attempts(3);
    let (email, sms) = join(email, sms).await;
    if let Err(failure) = email.and(sms) {
        // The goods are on their way: nobody is helped by taking them back.
        log::warn!("customer not notified: {failure}"; order_id = order.order_id);
    }

    publish("status", "completed")?;
    Ok(Receipt { order_id: order.order_id.clone(), reservation, charge, tracking })
}

/// Show where the order is, and pause if asked to.
async fn step(order: &Order, status: &str) -> Result<(), Failure> {
    publish("status", status)?;
    if order.pause_ms > 0 {
        timer(Duration::from_millis(order.pause_ms)).await?;
    }
    Ok(())
}

/// Without a maximum of attempts: this has to succeed.
async fn undo(done: &Done) -> Result<(), Failure> {
    if let Some(charge) = &done.charge {
        activity::<()>("refund", charge).await?;
    }
    if let Some(reservation) = &done.reservation {
        activity::<()>("release", reservation).await?;
    }
    Ok(())
}

relive_sdk::workflows![order];
