//! The activities of the order example. Their only effect is a line in a ledger, one a step and not one an attempt:
//! each looks its idempotency key up before it acts.

use relive_sdk::wasi::{append, read};
use relive_sdk::{activity, ActivityFailure, Task};
use schemars::JsonSchema;
use serde::Deserialize;
use std::io::ErrorKind;

/// In the directory that the manifest grants.
const LEDGER: &str = "/ledger/ledger.txt";

#[derive(Deserialize, JsonSchema)]
struct Reserve {
    sku: String,
    quantity: u32,
}

#[derive(Deserialize, JsonSchema)]
struct Charge {
    card: String,
    cents: u64,
}

/// Sets goods aside; answers the reservation's id.
#[activity]
fn reserve(task: &Task, input: Reserve) -> Result<String, ActivityFailure> {
    if input.quantity == 0 {
        return Err(ActivityFailure::fatal("nothing-to-reserve", "the quantity is 0"));
    }
    once(task)?;
    Ok(format!("reservation-{}-{}", input.sku, step(task)))
}

/// Gives reserved goods free.
#[activity]
fn release(task: &Task, _reservation: String) -> Result<(), ActivityFailure> {
    once(task)
}

/// Takes the money; answers the charge's id. Cards that end in 0002 are declined.
#[activity]
fn charge(task: &Task, input: Charge) -> Result<String, ActivityFailure> {
    if input.card.ends_with("0002") {
        let message = format!("the card was declined for {} cents", input.cents);
        return Err(ActivityFailure::fatal("card-declined", message));
    }
    once(task)?;
    Ok(format!("charge-{}", step(task)))
}

/// Gives the money back.
#[activity]
fn refund(task: &Task, _charge: String) -> Result<(), ActivityFailure> {
    once(task)
}

/// Sends reserved goods; answers the tracking id.
#[activity]
fn ship(task: &Task, _reservation: String) -> Result<String, ActivityFailure> {
    once(task)?;
    Ok(format!("tracking-{}", step(task)))
}

/// Tells the customer by email.
#[activity]
fn email(task: &Task, _tracking: String) -> Result<(), ActivityFailure> {
    once(task)
}

/// Tells the customer by text message.
#[activity]
fn sms(task: &Task, _tracking: String) -> Result<(), ActivityFailure> {
    once(task)
}

/// The effect: a line `idempotency_key attempt name`, unless an earlier attempt of this step has left one. An attempt
/// that wrote and died before it could answer is so found by the next.
fn once(task: &Task) -> Result<(), ActivityFailure> {
    let ledger = match read(LEDGER) {
        Ok(ledger) => ledger,
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let key = task.idempotency_key.as_bytes();
    let written = ledger.split(|byte| *byte == b'\n').any(|line| line.split(|byte| *byte == b' ').next() == Some(key));
    if !written {
        append(LEDGER, format!("{} {} {}\n", task.idempotency_key, task.attempt, task.name).as_bytes())?;
    }
    Ok(())
}

/// What tells this step from others: an id made of it is the same for every attempt.
fn step(task: &Task) -> String {
    let mut parts = task.idempotency_key.rsplit(':');
    let command = parts.next().unwrap_or_default();
    format!("{}-{command}", task.workflow_id)
}

relive_sdk::activities![reserve, release, charge, refund, ship, email, sms];
