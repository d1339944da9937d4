//! `relive worker --type NAME --exec CMD`: a worker whose activities are commands. `relive worker list`.

use std::path::PathBuf;

use crate::{
    Context,
    exit::{Exit, Failure},
    output::{self, Table, ago},
    wire::{Worker, items},
    worker_process::{self, Options},
};

#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    /// An activity that this worker runs; several are given each with its --exec
    #[arg(long = "type", value_name = "NAME", requires = "commands")]
    types: Vec<String>,
    /// The command that runs it, for `sh -c`: the input on stdin and the result on stdout, both JSON
    #[arg(long = "exec", value_name = "CMD", requires = "types", id = "commands")]
    commands: Vec<String>,
    /// The task queue to take tasks from
    #[arg(long, value_name = "NAME", default_value = "default")]
    task_queue: String,
    /// Commands at once
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
    concurrency: u16,
    /// A PEM file with certificates of authorities to trust beside the well-known ones, for a server with https://
    #[arg(long, value_name = "FILE", env = "RELIVE_CA", hide_env_values = true)]
    ca: Option<PathBuf>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List workers: those that are there, and those that ended lately
    List,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    match &args.action {
        Some(Action::List) => list(context),
        None if args.types.is_empty() => Err(Failure::usage("nothing was said to do")
            .hint("`relive worker --type NAME --exec CMD` runs one, `relive worker list` lists workers")),
        None => work(args, context),
    }
}

fn work(args: &Args, context: &Context) -> Result<Exit, Failure> {
    if args.types.len() != args.commands.len() {
        let (types, commands) = (args.types.len(), args.commands.len());
        return Err(Failure::usage(format!(
            "there are {types} --type and {commands} --exec: give each --type its --exec"
        )));
    }
    let options = Options {
        server: context.client.server().to_owned(),
        namespace: context.global.namespace.clone(),
        task_queue: args.task_queue.clone(),
        concurrency: usize::from(args.concurrency),
        ca: args.ca.clone(),
        commands: args.types.iter().cloned().zip(args.commands.iter().cloned()).collect(),
    };
    output::note(context, &format!("working for {}; stop with Ctrl-C", options.server));
    worker_process::run(&options).map_err(|error| {
        let code = error.code().unwrap_or("worker").to_owned();
        Failure::new(Exit::Failed, &code, format!("failed to {error}"))
    })?;
    Ok(Exit::Ok)
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
