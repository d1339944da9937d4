//! `relive fork ID --at N`: a new execution from the history of another.

use serde_json::json;

use crate::{
    Context,
    client::decode,
    exit::{Exit, Failure},
    output,
    wire::Forked,
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The execution's id
    id: String,
    /// The last event to take; a turn is never cut in two, so it may be a little less
    #[arg(long, value_name = "EVENT")]
    at: u64,
    /// The new execution's id; made up if absent
    #[arg(long = "id", value_name = "ID")]
    new_id: Option<String>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let mut body = json!({ "at": args.at });
    if let Some(id) = &args.new_id {
        body["workflow_id"] = json!(id);
    }
    let answer = context.client.post(&context.client.execution(&args.id, &["fork"]), &body.to_string())?;
    if context.global.json {
        output::line(&answer)?;
        return Ok(Exit::Ok);
    }
    let forked: Forked = decode(&answer)?;
    output::line(&format!("{} goes on from event {} (run {})", forked.workflow_id, forked.through, forked.run_id))?;
    Ok(Exit::Ok)
}
