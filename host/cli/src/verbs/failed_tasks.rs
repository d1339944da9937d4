//! `relive failed-tasks list`, `redrive ID STEP`, `give-up ID STEP`: activities whose attempts are exhausted.

use serde::Serialize;

use crate::{
    Context,
    exit::{Exit, Failure},
    output::{self, Table, ago},
    wire::{FailedTask, items},
};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List activities whose attempts are used up and whose last attempt nobody answered
    List {
        /// Only those of this task queue
        #[arg(long, value_name = "NAME")]
        queue: Option<String>,
    },
    /// Let attempts begin again from the first, under the same idempotency key
    Redrive(Step),
    /// Let the activity fail as its last attempt did; the workflow goes on with that
    GiveUp(Step),
}

/// Which activity, and why.
#[derive(Debug, clap::Args)]
struct Step {
    /// The workflow id
    id: String,
    /// The step's number, as the list has it
    step: u64,
    /// Why; it stands in the history
    #[arg(long, value_name = "TEXT", default_value = "")]
    note: String,
}

#[derive(Serialize)]
struct Note<'a> {
    note: &'a str,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    match &args.action {
        Action::List { queue } => list(queue.as_deref(), context),
        Action::Redrive(step) => decide(step, "redrive", context, "attempts begin again from the first"),
        Action::GiveUp(step) => decide(step, "give-up", context, "given up: the workflow goes on with the failure"),
    }
}

fn list(queue: Option<&str>, context: &Context) -> Result<Exit, Failure> {
    let tasks =
        context.client.all(&context.client.namespace("failed-tasks").query_if("queue", queue), "failed_tasks")?;
    if context.global.json {
        output::items("failed_tasks", &tasks)?;
        return Ok(Exit::Ok);
    }
    let tasks: Vec<FailedTask> = items(&tasks)?;
    if tasks.is_empty() {
        output::note(context, "no task has failed");
        return Ok(Exit::Ok);
    }
    let mut table = Table::new(&["EXECUTION", "STEP", "ACTIVITY", "ATTEMPTS", "SINCE", "LAST FAILURE", "QUEUE"]);
    for task in tasks {
        table.row([
            task.workflow_id,
            task.command_no.to_string(),
            task.activity,
            task.attempts.to_string(),
            ago(task.failed_at),
            task.last_failure.to_string(),
            task.task_queue.unwrap_or_default(),
        ]);
    }
    output::line(&table.render())?;
    Ok(Exit::Ok)
}

fn decide(step: &Step, what: &str, context: &Context, said: &str) -> Result<Exit, Failure> {
    let body = serde_json::to_string(&Note { note: &step.note }).map_err(|e| Failure::usage(e.to_string()))?;
    let route = context.client.execution(&step.id, &["activities", &step.step.to_string(), what]);
    let answer = context.client.post(&route, &body)?;
    output::line(if context.global.json { &answer } else { said })?;
    Ok(Exit::Ok)
}
