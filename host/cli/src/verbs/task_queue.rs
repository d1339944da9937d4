//! `relive task-queue list`, `relive task-queue describe NAME`.

use crate::{
    Context,
    client::decode,
    exit::{Exit, Failure},
    output::{self, Table, ago},
    wire::{TaskQueue, items},
};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List task queues: what waits in each, who has what, who asks
    List,
    /// Show one task queue
    Describe {
        /// The queue's name
        name: String,
    },
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    match &args.action {
        Action::List => list(context),
        Action::Describe { name } => describe(name, context),
    }
}

fn list(context: &Context) -> Result<Exit, Failure> {
    let queues = context.client.all(&context.client.namespace("task-queues"), "task_queues")?;
    if context.global.json {
        output::items("task_queues", &queues)?;
        return Ok(Exit::Ok);
    }
    let queues: Vec<TaskQueue> = items(&queues)?;
    if queues.is_empty() {
        output::note(context, "no task queue was used lately; queues need no making");
        return Ok(Exit::Ok);
    }
    let mut table = Table::new(&["TASK QUEUE", "BACKLOG", "OLDEST", "CLAIMED", "POLLERS", "LAST POLL"]);
    for queue in &queues {
        table.row([
            queue.name.clone(),
            queue.backlog.to_string(),
            queue.oldest.map_or_else(String::new, ago),
            queue.claimed.to_string(),
            queue.pollers.to_string(),
            queue.last_poll.map_or_else(|| "never".to_owned(), ago),
        ]);
    }
    output::line(&table.render())?;
    Ok(Exit::Ok)
}

fn describe(name: &str, context: &Context) -> Result<Exit, Failure> {
    let answer = context.client.get(&context.client.namespace("task-queues").segment(name))?;
    if context.global.json {
        output::line(&answer)?;
        return Ok(Exit::Ok);
    }
    let queue: TaskQueue = decode(&answer)?;
    let mut table = Table::headless(2);
    let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
    let oldest = queue.oldest.map_or_else(String::new, |at| format!(", the oldest {}", ago(at)));
    row("task queue", queue.name);
    row("backlog", format!("{}{oldest}", queue.backlog));
    row("claimed", format!("{} by workers", queue.claimed));
    row("pollers", format!("{} wait now", queue.pollers));
    row("last poll", queue.last_poll.map_or_else(|| "never: no worker has asked for work".to_owned(), ago));
    row("since start", format!("{} became ready, {} given out", queue.added, queue.dispatched));
    output::line(&table.render())?;
    if !queue.activities.is_empty() {
        let mut table = Table::new(&["ACTIVITY", "BACKLOG"]);
        for (activity, backlog) in queue.activities {
            table.row([activity, backlog.to_string()]);
        }
        output::line(&format!("\n{}", table.render()))?;
    }
    Ok(Exit::Ok)
}
