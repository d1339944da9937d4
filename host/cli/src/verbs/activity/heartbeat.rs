//! `relive activity heartbeat TOKEN`.

use relive_core::Json;
use serde::{Deserialize, Serialize};

use super::answer;
use crate::{
    Context,
    client::{decode, user_json},
    exit::{Exit, Failure},
    output,
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The token that came with the task
    token: String,
    /// How far it came, as JSON; kept for the next attempt
    #[arg(long, value_name = "JSON")]
    details: Option<String>,
}

#[derive(Serialize)]
struct Body {
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Json>,
}

#[derive(Deserialize)]
struct Beaten {
    #[serde(default)]
    cancel_requested: bool,
    #[serde(default)]
    gone: bool,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let details = args.details.as_deref().map(|text| user_json(text, "--details")).transpose()?;
    let told = answer(context, &args.token, "heartbeat", &Body { details })?;
    if context.global.json {
        output::line(&told)?;
        return Ok(Exit::Ok);
    }
    let beaten: Beaten = decode(&told)?;
    output::line(match (beaten.gone, beaten.cancel_requested) {
        (true, _) => "nobody waits for this attempt any more: stop, and answer nothing",
        (false, true) => "heard; the workflow asks that the attempt stop",
        (false, false) => "heard",
    })?;
    Ok(Exit::Ok)
}
