//! `relive verify ID` or `--all`: exit code 6 if there are findings.

use crate::{
    Context,
    client::decode,
    exit::{Exit, Failure},
    output::{self, Table},
    progress::while_doing,
    wire::Verify,
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The execution's id
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    id: Option<String>,
    /// Every execution of the namespace
    #[arg(long)]
    all: bool,
    /// Also relive each, and hold its memory images against the relived memory, byte for byte
    #[arg(long)]
    deep: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let route = match &args.id {
        Some(id) => context.client.execution(id, &["verify"]),
        None => context.client.namespace("verify"),
    };
    let route = route.query_if("deep", args.deep.then_some(true));
    let answer = while_doing("checking histories", context.global.json, || context.client.post(&route, ""))?;
    let report: Verify = decode(&answer)?;
    let exit = if report.findings.is_empty() { Exit::Ok } else { Exit::Findings };
    if context.global.json {
        output::line(&answer)?;
        return Ok(exit);
    }
    let deep = if args.deep {
        format!(", relived {}, compared {} memory images", report.relived, report.images)
    } else {
        String::new()
    };
    output::line(&format!(
        "checked {} executions with {} events{deep}: {} findings",
        report.executions,
        report.events,
        report.findings.len()
    ))?;
    if !report.findings.is_empty() {
        let mut table = Table::new(&["EXECUTION", "RUN", "FINDING"]);
        for finding in report.findings {
            table.row([finding.workflow_id, finding.run_id, finding.violation]);
        }
        output::line(&table.render())?;
    }
    Ok(exit)
}
