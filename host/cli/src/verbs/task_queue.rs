//! `relive task-queue list`, `relive task-queue describe NAME`, `relive task-queue update NAME`.

use serde::Serialize;

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
    /// Limit a task queue; what is not given stays
    Update(Update),
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
struct Limits {
    /// Attempts per second that are handed to workers at most
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
    /// As many may go out at once after a pause; one second's worth if the rate is new
    #[arg(long, value_name = "N")]
    burst: Option<u32>,
    /// Attempts that workers have at once at most, all workers together
    #[arg(long, value_name = "N")]
    concurrency: Option<u32>,
    /// Take the limit of the rate away
    #[arg(long, conflicts_with_all = ["rate", "burst"])]
    no_rate: bool,
    /// Take the limit of attempts at once away
    #[arg(long, conflicts_with = "concurrency")]
    no_concurrency: bool,
}

#[derive(Debug, clap::Args)]
struct Update {
    /// The queue's name
    name: String,
    #[command(flatten)]
    limits: Limits,
}

#[derive(Serialize)]
struct Form {
    rate: Option<f64>,
    burst: Option<u32>,
    concurrency: Option<u32>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    match &args.action {
        Action::List => list(context),
        Action::Describe { name } => describe(name, context),
        Action::Update(update) => self::update(update, context),
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
    row("task queue", queue.name.clone());
    row("backlog", format!("{}{oldest}", queue.backlog));
    row("claimed", format!("{} by workers", queue.claimed));
    row("pollers", format!("{} wait now", queue.pollers));
    row("last poll", queue.last_poll.map_or_else(|| "never: no worker has asked for work".to_owned(), ago));
    row("limits", limits(&queue));
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

/// The limits of a queue in words, and whether they hold anything back now.
fn limits(queue: &TaskQueue) -> String {
    let rate = queue.rate.map(|rate| format!("{rate} a second, bursts of {}", queue.burst.unwrap_or(1)));
    let most = queue.concurrency.map(|most| format!("{most} at once"));
    let all: Vec<String> = rate.into_iter().chain(most).collect();
    match (all.is_empty(), &queue.held_back) {
        (true, _) => "none".to_owned(),
        (false, None) => all.join("; "),
        (false, Some(by)) => format!("{} (held back now: {by})", all.join("; ")),
    }
}

fn update(update: &Update, context: &Context) -> Result<Exit, Failure> {
    let route = context.client.namespace("task-queues").segment(&update.name);
    let before: TaskQueue = decode(&context.client.get(&route)?)?;
    let given = &update.limits;
    let rate = given.rate.or(before.rate).filter(|_| !given.no_rate);
    // A rate that is new gets the burst that the host thinks fit.
    let kept = before.burst.filter(|_| given.rate.is_none());
    let form = Form {
        rate,
        burst: given.burst.or(kept).filter(|_| !given.no_rate),
        concurrency: given.concurrency.or(before.concurrency).filter(|_| !given.no_concurrency),
    };
    let body = serde_json::to_string(&form).map_err(|e| Failure::usage(e.to_string()))?;
    let answer = context.client.put(&route, &body)?;
    if context.global.json {
        output::line(&answer)?;
    } else {
        output::line(&format!("limits of {}: {}", update.name, limits(&decode(&answer)?)))?;
    }
    Ok(Exit::Ok)
}
