//! `relive activity fail TOKEN`.

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
    /// For programs: retry policies and workflows look at it
    #[arg(long, value_name = "CODE", default_value = "failed")]
    code: String,
    /// For people
    #[arg(long, value_name = "TEXT", default_value = "")]
    message: String,
    /// No other attempt, whatever the retry policy says
    #[arg(long)]
    permanent: bool,
    /// More for the workflow, as JSON
    #[arg(long, value_name = "JSON")]
    details: Option<String>,
}

#[derive(Serialize)]
struct Body<'a> {
    failure: Form<'a>,
}

#[derive(Serialize)]
struct Form<'a> {
    code: &'a str,
    message: &'a str,
    retryable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Json>,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let details = args.details.as_deref().map(|text| user_json(text, "--details")).transpose()?;
    let failure = Form { code: &args.code, message: &args.message, retryable: !args.permanent, details };
    let told = answer(context, &args.token, "fail", &Body { failure })?;
    accepted(context, &told, if args.permanent { "failed, for good" } else { "failed; the retry policy decides" })
}
