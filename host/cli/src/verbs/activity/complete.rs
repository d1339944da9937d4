//! `relive activity complete TOKEN`.

use relive_core::Json;
use serde::Serialize;

use super::{accepted, answer};
use crate::{
    Context,
    client::user_json,
    exit::{Exit, Failure},
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The token that came with the task
    token: String,
    /// The result as JSON; `null` if absent
    #[arg(long, value_name = "JSON", default_value = "null")]
    result: String,
}

#[derive(Serialize)]
struct Body<'a> {
    result: &'a Json,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let result = user_json(&args.result, "--result")?;
    let told = answer(context, &args.token, "complete", &Body { result: &result })?;
    accepted(context, &told, "completed")
}
