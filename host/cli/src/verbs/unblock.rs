//! `relive unblock ID`.

use crate::{
    Context,
    exit::{Exit, Failure},
    output, reason,
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The execution's id
    id: String,
    /// Why; kept in the history
    #[arg(long, default_value = "", value_name = "TEXT")]
    reason: String,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let answer =
        context.client.post(&context.client.execution(&args.id, &["unblock"]), &reason::body(&args.reason)?)?;
    output::line(if context.global.json { &answer } else { "unblocked" })?;
    Ok(Exit::Ok)
}
