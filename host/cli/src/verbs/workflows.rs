//! `relive workflows`: versions of workflows, and activities with their circuit breakers.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    Context,
    client::decode,
    exit::{Exit, Failure},
    output::{self, Table, ago, compact},
    wire::{Activity, Version, short},
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this workflow
    workflow: Option<String>,
}

/// Both answers in one document.
#[derive(Serialize)]
struct Both {
    workflows: Vec<Box<RawValue>>,
    activities: Vec<Box<RawValue>>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let client = &context.client;
    let route = client.namespace("workflows").query_if("workflow", args.workflow.as_deref());
    let both = Both {
        workflows: client.all(&route, "workflows")?,
        activities: client.all(&client.namespace("activities"), "activities")?,
    };
    if context.global.json {
        let text = serde_json::to_string(&both).map_err(|e| Failure::new(Exit::Failed, "output", e.to_string()))?;
        output::line(&text)?;
        return Ok(Exit::Ok);
    }
    let mut table = Table::new(&["WORKFLOW", "VERSION", "DIGEST", "ACTIVE", "DEPLOYED"]);
    for row in &both.workflows {
        let row: Version = decode(row.get())?;
        let active = if row.active { "yes" } else { "" };
        table.row([
            row.workflow.clone(),
            row.version.to_string(),
            short(&row.digest).to_owned(),
            active.to_owned(),
            ago(row.deployed_at),
        ]);
    }
    output::line(&table.render())?;
    if args.workflow.is_none() && !both.activities.is_empty() {
        let mut table =
            Table::new(&["ACTIVITY", "KIND", "TARGET", "AT ONCE", "BREAKER", "OPENS AT", "GRANTS", "DEPLOYED"]);
        for row in &both.activities {
            let row: Activity = decode(row.get())?;
            table.row([
                row.name.clone(),
                row.kind.clone(),
                row.target.clone(),
                row.concurrency.map_or_else(String::new, |n| n.to_string()),
                row.breaker.as_ref().map_or_else(String::new, ToString::to_string),
                row.breaker.and_then(|b| b.policy).map_or_else(String::new, |p| p.to_string()),
                row.grants.as_ref().map_or_else(String::new, compact),
                ago(row.deployed_at),
            ]);
        }
        output::line(&format!("\n{}", table.render()))?;
    }
    Ok(Exit::Ok)
}
