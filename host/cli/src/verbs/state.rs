//! `relive state ID [--at N]`.

use crate::{
    Context,
    client::decode,
    exit::{Exit, Failure},
    output::{self, Table, compact, plain},
    verbs::show::steps,
    wire::State,
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The execution's id
    id: String,
    /// The event after which to look; the last one if absent
    #[arg(long, value_name = "EVENT")]
    at: Option<u64>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let answer = context.client.get(&context.client.execution(&args.id, &["state"]).query_if("at", args.at))?;
    if context.global.json {
        output::line(&answer)?;
        return Ok(Exit::Ok);
    }
    let state: State = decode(&answer)?;
    output::line(&format!("after event {} of run {}, at {}", state.at, state.run_id, state.now))?;
    if let Some(outcome) = &state.outcome {
        output::line(&plain(&format!("it {outcome}")))?;
    }
    section("steps", &steps(&state.steps), state.steps.is_empty())?;
    let mut table = Table::new(&["PROMISE", "KIND", "NAME"]);
    for open in &state.open_promises {
        table.row([open.promise.to_string(), open.kind.clone(), open.name.clone()]);
    }
    section("open promises", &table, state.open_promises.is_empty())?;
    let mut table = Table::new(&["CHANNEL", "MESSAGE", "EVENT"]);
    for unread in &state.unread_messages {
        table.row([unread.channel.clone(), unread.message_id.clone(), unread.event_id.to_string()]);
    }
    section("unread messages", &table, state.unread_messages.is_empty())?;
    let mut table = Table::new(&["KEY", "VALUE"]);
    for (key, value) in &state.published {
        table.row([key.clone(), compact(value)]);
    }
    section("published", &table, state.published.is_empty())?;
    Ok(Exit::Ok)
}

fn section(title: &str, table: &Table, empty: bool) -> Result<(), Failure> {
    if empty { Ok(()) } else { output::line(&format!("\n{title}\n{}", table.render())) }
}
