//! The smallest workflow: greets, and publishes the greeting.

use relive_sdk::{publish, workflow, Failure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Deserialize, JsonSchema)]
struct Person {
    /// Who is to be greeted.
    name: String,
}

#[derive(Serialize, JsonSchema)]
struct Greeting {
    greeting: String,
}

/// Greets a person.
#[workflow]
async fn hello(person: Person) -> Result<Greeting, Failure> {
    let greeting = format!("Hello, {}!", person.name);
    publish("greeting", &greeting)?;
    Ok(Greeting { greeting })
}

relive_sdk::workflows![hello];
