//! `relive signal ID CHANNEL`.

use relive_core::Json;
use serde::Serialize;

use crate::{
    Context,
    client::decode,
    exit::{Exit, Failure},
    input::Input,
    output,
    wire::Sent,
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The execution's id
    id: String,
    /// The channel that the workflow reads
    channel: String,
    #[command(flatten)]
    input: Input,
    /// The same id twice is one message; a fresh UUID if absent
    #[arg(long, value_name = "ID")]
    message_id: Option<String>,
}

#[derive(Serialize)]
struct Body<'a> {
    input: &'a Json,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<&'a str>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let input = args.input.read()?;
    let body = Body { input: &input, message_id: args.message_id.as_deref() };
    let body = serde_json::to_string(&body).map_err(|e| Failure::usage(e.to_string()))?;
    let answer = context.client.post(&context.client.execution(&args.id, &["signals", &args.channel]), &body)?;
    if context.global.json {
        output::line(&answer)?;
    } else {
        output::line(&format!("recorded as message {}", decode::<Sent>(&answer)?.message_id))?;
    }
    Ok(Exit::Ok)
}
