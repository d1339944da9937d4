//! `relive worker list`.

use crate::{
    Context,
    exit::{Exit, Failure},
    output::{self, Table, ago},
    wire::{Worker, items},
};

#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List workers: those that are there, and those that ended lately
    List,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    match &args.action {
        Some(Action::List) => list(context),
        None => Err(Failure::usage("nothing was said to do").hint("`relive worker list` lists workers")),
    }
}

fn list(context: &Context) -> Result<Exit, Failure> {
    let workers = context.client.all(&context.client.namespace("workers"), "workers")?;
    if context.global.json {
        output::items("workers", &workers)?;
        return Ok(Exit::Ok);
    }
    let workers: Vec<Worker> = items(&workers)?;
    if workers.is_empty() {
        output::note(context, "no worker has registered");
        return Ok(Exit::Ok);
    }
    let mut table = Table::new(&["ID", "IDENTITY", "STATE", "QUEUES", "ACTIVITIES", "RUNNING", "LAST SEEN", "SDK"]);
    for worker in workers {
        let state = match &worker.ended {
            Some(why) => format!("{} ({why})", worker.state),
            None => worker.state,
        };
        let activities = if worker.activities.is_empty() { "any".to_owned() } else { worker.activities.join(", ") };
        table.row([
            worker.id,
            worker.identity,
            state,
            worker.task_queues.join(", "),
            activities,
            worker.running.to_string(),
            ago(worker.last_seen),
            worker.sdk.unwrap_or_default(),
        ]);
    }
    output::line(&table.render())?;
    Ok(Exit::Ok)
}
