//! `relive workflows`: versions of workflows, and activities with their circuit breakers.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    Context,
    client::decode,
    exit::{Exit, Failure},
    output::{self, Table, ago, compact},
    wire::{Activities, Versions, short},
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this workflow
    workflow: Option<String>,
}

/// Both answers in one document.
#[derive(Serialize)]
struct Both<'a> {
    workflows: &'a RawValue,
    activities: &'a RawValue,
}

#[derive(serde::Deserialize)]
struct Workflows<'a> {
    #[serde(borrow)]
    workflows: &'a RawValue,
}

#[derive(serde::Deserialize)]
struct Deployed<'a> {
    #[serde(borrow)]
    activities: &'a RawValue,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let client = &context.client;
    let versions = client.get(&client.namespace("workflows").query_if("workflow", args.workflow.as_deref()))?;
    let activities = client.get(&client.namespace("activities"))?;
    if context.global.json {
        let understood = |e: serde_json::Error| Failure::new(Exit::Failed, "not-understood", e.to_string());
        let workflows = serde_json::from_str::<Workflows<'_>>(&versions).map_err(understood)?.workflows;
        let activities = serde_json::from_str::<Deployed<'_>>(&activities).map_err(understood)?.activities;
        output::line(&serde_json::to_string(&Both { workflows, activities }).map_err(understood)?)?;
        return Ok(Exit::Ok);
    }
    let versions: Versions = decode(&versions)?;
    let mut table = Table::new(&["WORKFLOW", "VERSION", "DIGEST", "ACTIVE", "DEPLOYED"]);
    for row in &versions.workflows {
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
    let activities: Activities = decode(&activities)?;
    if args.workflow.is_none() && !activities.activities.is_empty() {
        let mut table = Table::new(&["ACTIVITY", "KIND", "TARGET", "BREAKER", "GRANTS", "DEPLOYED"]);
        for row in &activities.activities {
            table.row([
                row.name.clone(),
                row.kind.clone(),
                row.target.clone(),
                row.breaker.as_ref().map_or_else(String::new, ToString::to_string),
                row.grants.as_ref().map_or_else(String::new, compact),
                ago(row.deployed_at),
            ]);
        }
        output::line(&format!("\n{}", table.render()))?;
    }
    Ok(Exit::Ok)
}
