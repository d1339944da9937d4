//! `relive activity ..`: activities that are not resolved, and answers for them by token. A file each.

mod complete;
mod fail;
mod heartbeat;
mod list;
mod operate;

use clap::Subcommand;

use crate::{
    Context,
    client::{Route, decode},
    exit::{Exit, Failure},
    output,
};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List activities that are scheduled and not resolved
    List(list::Args),
    /// Complete an attempt from anywhere, with the token that its worker got
    Complete(complete::Args),
    /// Let an attempt fail, with the token that its worker got
    Fail(fail::Args),
    /// Tell that an attempt goes on, and learn whether it should stop
    Heartbeat(heartbeat::Args),
    /// Let no further attempt begin; one that runs may end
    Pause(operate::Step),
    /// Let attempts begin again
    Resume(operate::Step),
    /// Begin anew: the next attempt is the first one, at once
    Reset(operate::Reset),
    /// Give other timeouts, or another retry policy
    Update(operate::Update),
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    match &args.action {
        Action::List(args) => list::run(args, context),
        Action::Complete(args) => complete::run(args, context),
        Action::Fail(args) => fail::run(args, context),
        Action::Heartbeat(args) => heartbeat::run(args, context),
        Action::Pause(args) => operate::pause(args, context),
        Action::Resume(args) => operate::resume(args, context),
        Action::Reset(args) => operate::reset(args, context),
        Action::Update(args) => operate::update(args, context),
    }
}

/// The route of an attempt's answers.
fn task(context: &Context, token: &str, what: &str) -> Route {
    context.client.namespace("tasks").segment(token).segment(what)
}

/// Posts an answer, and says what became of it.
fn answer(context: &Context, token: &str, what: &str, body: &impl serde::Serialize) -> Result<String, Failure> {
    let body = serde_json::to_string(body).map_err(|e| Failure::usage(e.to_string()))?;
    context.client.post(&task(context, token, what), &body)
}

fn accepted(context: &Context, answer: &str, said: &str) -> Result<Exit, Failure> {
    if context.global.json {
        output::line(answer)?;
    } else {
        decode::<serde::de::IgnoredAny>(answer)?;
        output::line(said)?;
    }
    Ok(Exit::Ok)
}
