//! `relive list`.

use crate::{
    Context,
    client::decode,
    exit::{Exit, Failure},
    output::{self, Table, ago, duration},
    wire::ExecutionPage,
};
use relive_core::ports::Status;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only executions of this workflow
    #[arg(long, value_name = "NAME")]
    workflow: Option<String>,
    /// Only executions that stand like this
    #[arg(long, value_parser = status, value_name = "STATUS")]
    status: Option<Status>,
    /// Only runs of this id
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// How many at most
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=1000), value_name = "N")]
    limit: u64,
    /// Go on where the page before ended
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
}

fn status(name: &str) -> Result<Status, String> {
    Status::from_name(name).ok_or_else(|| format!("there are {}", Status::ALL.map(Status::name).join(", ")))
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let route = context
        .client
        .namespace("executions")
        .query("limit", args.limit)
        .query_if("workflow", args.workflow.as_deref())
        .query_if("status", args.status.map(Status::name))
        .query_if("workflow_id", args.id.as_deref())
        .query_if("cursor", args.cursor.as_deref());
    let answer = context.client.get(&route)?;
    if context.global.json {
        output::line(&answer)?;
        return Ok(Exit::Ok);
    }
    let page: ExecutionPage = decode(&answer)?;
    if page.executions.is_empty() {
        output::note(context, "no executions");
        return Ok(Exit::Ok);
    }
    let mut table = Table::new(&["ID", "WORKFLOW", "STATUS", "EVENTS", "STARTED", "TOOK"]);
    for execution in &page.executions {
        let status = match execution.blocked {
            Some(reason) => format!("{} ({reason})", execution.status.name()),
            None => execution.status.name().to_owned(),
        };
        table.row([
            execution.workflow_id.clone(),
            execution.workflow.clone(),
            status,
            execution.events.to_string(),
            ago(execution.started_at),
            execution.closed_at.map_or_else(String::new, |at| duration(at.since(execution.started_at))),
        ]);
    }
    output::line(&table.render())?;
    if let Some(next) = page.next_cursor {
        output::note(context, &format!("there are more: --cursor {next}"));
    }
    Ok(Exit::Ok)
}
