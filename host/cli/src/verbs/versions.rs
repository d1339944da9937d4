//! `relive versions NAME`, `relive activate NAME --to N`, `relive rollback NAME`: which versions there are, how they do, and
//! which of them new runs take.

use serde_json::{Value, json};

use crate::{
    Context,
    client::{Route, decode},
    exit::{Exit, Failure},
    output::{self, Table, ago},
    progress::while_doing,
    wire::{Activation, Preflight, WorkflowReport, short},
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The workflow
    workflow: String,
    /// Show what new runs took, change by change
    #[arg(long)]
    past: bool,
    /// Show which answers of `version()` open executions go by, and which branches are still needed
    #[arg(long, conflicts_with = "past")]
    changes: bool,
    /// Delete a version that new runs do not take and no open execution is on
    #[arg(long, value_name = "N", conflicts_with_all = ["past", "changes"])]
    delete: Option<u32>,
}

/// Who changes something, and why.
#[derive(Debug, clap::Args)]
pub struct Signed {
    /// Who asks for it; you, if absent
    #[arg(long, value_name = "NAME", default_value_t = whoami())]
    pub author: String,
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

/// A canary's share and limits.
#[derive(Debug, clap::Args)]
pub struct Canary {
    /// Only this share of new runs takes it, by workflow id, as `10%`
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    pub canary: Option<f64>,
    /// The canary stops by itself when more than this share of its runs failed, timed out or is blocked [default: 10]
    #[arg(long, value_name = "PERCENT", value_parser = whole_percent, requires = "canary")]
    pub max_bad: Option<u8>,
    /// It is not judged before so many of its runs ended [default: 20]
    #[arg(long, value_name = "N", requires = "canary")]
    pub min_runs: Option<u32>,
}

#[derive(Debug, clap::Args)]
pub struct ActivateArgs {
    /// The workflow
    workflow: String,
    /// The version's number
    #[arg(long = "to", value_name = "N")]
    version: u32,
    #[command(flatten)]
    canary: Canary,
    #[command(flatten)]
    signed: Signed,
}

#[derive(Debug, clap::Args)]
pub struct RollbackArgs {
    /// The workflow
    workflow: String,
    #[command(flatten)]
    signed: Signed,
}

/// The name of whoever types this, as far as the shell knows.
pub fn whoami() -> String {
    ["USER", "LOGNAME", "USERNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok())
        .unwrap_or_else(|| "unknown".to_owned())
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim().parse::<f64>();
    number.map_err(|_| format!("{text:?} is no share such as 10%"))
}

fn whole_percent(text: &str) -> Result<u8, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse::<u8>().ok().filter(|n| (1..=100).contains(n));
    number.ok_or_else(|| format!("{text:?} is no share from 1% to 100%"))
}

fn route(context: &Context, workflow: &str) -> Route {
    context.client.namespace("workflows").segment(workflow)
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    if args.past {
        return past(&args.workflow, context);
    }
    if let Some(version) = args.delete {
        let answer =
            context.client.delete(&route(context, &args.workflow).segment("versions").segment(&version.to_string()))?;
        let told = format!("version {version} of {} is deleted", args.workflow);
        output::line(if context.global.json { &answer } else { &told })?;
        return Ok(Exit::Ok);
    }
    let answer = context.client.get(&route(context, &args.workflow))?;
    if args.changes {
        return changes(&decode(&answer)?, context);
    }
    if context.global.json {
        output::line(&answer)?;
        return Ok(Exit::Ok);
    }
    let report: WorkflowReport = decode(&answer)?;
    let mut table = Table::new(&[
        "VERSION", "STATE", "SHARE", "DIGEST", "OPEN", "BLOCKED", "CLOSED", "FAILED", "OLDEST", "DEPLOYED", "BY",
        "NOTE",
    ]);
    for row in &report.versions {
        table.row([
            row.version.to_string(),
            row.state.clone(),
            share(row.percent),
            short(&row.digest).to_owned(),
            row.open.to_string(),
            row.blocked.to_string(),
            row.closed.to_string(),
            row.failed.to_string(),
            row.oldest_open.map_or_else(String::new, ago),
            ago(row.deployed_at),
            row.author.clone().unwrap_or_default(),
            row.note.clone().unwrap_or_default(),
        ]);
    }
    output::line(&table.render())?;
    if report.activation.is_none() {
        output::line(&format!("no version is active: relive activate {} --to N", report.workflow))?;
    }
    Ok(Exit::Ok)
}

/// Relives every open execution on the version that new runs take.
fn changes(report: &WorkflowReport, context: &Context) -> Result<Exit, Failure> {
    let Some(activation) = &report.activation else {
        let message =
            format!("no version of {} is active: relive activate {} --to N", report.workflow, report.workflow);
        return Err(Failure::new(Exit::Conflict, "no-active-version", message));
    };
    let route = route(context, &report.workflow).segment("preflight").query("version", activation.version);
    let work = || context.client.upload(&route.query("answers", true), &[]);
    let answer = while_doing("reliving", context.global.json, work)?;
    if context.global.json {
        output::line(&answer)?;
        return Ok(Exit::Ok);
    }
    let found: Preflight = decode(&answer)?;
    let mut table = Table::new(&["CHANGE", "ANSWER", "OPEN EXECUTIONS", ""]);
    for count in &found.version_answers {
        let newest = found.version_answers.iter().filter(|c| c.change_id == count.change_id).map(|c| c.version).max();
        let old = newest.is_some_and(|newest| count.version < newest);
        table.row([
            count.change_id.clone(),
            count.version.to_string(),
            count.executions.to_string(),
            if old { "needs its branch".to_owned() } else { String::new() },
        ]);
    }
    output::line(&table.render())?;
    Ok(Exit::Ok)
}

fn past(workflow: &str, context: &Context) -> Result<Exit, Failure> {
    let answer = context.client.get(&route(context, workflow).segment("activations"))?;
    if context.global.json {
        output::line(&answer)?;
        return Ok(Exit::Ok);
    }
    let value: Value = decode(&answer)?;
    let mut table = Table::new(&["CHANGE", "WHAT", "NEW RUNS TAKE", "WHEN", "BY", "WHY"]);
    for row in value["activations"].as_array().into_iter().flatten() {
        let row: Activation = decode(&row.to_string())?;
        table.row([
            row.number.to_string(),
            row.kind.clone(),
            row.to_string(),
            ago(row.at),
            row.author.clone().unwrap_or_default(),
            row.reason.clone().unwrap_or_default(),
        ]);
    }
    output::line(&table.render())?;
    Ok(Exit::Ok)
}

fn share(percent: f64) -> String {
    if percent == 0.0 { String::new() } else { format!("{percent} %") }
}

fn told(answer: &str, context: &Context) -> Result<Exit, Failure> {
    if context.global.json {
        output::line(answer)?;
        return Ok(Exit::Ok);
    }
    let activation: Activation = decode(answer)?;
    output::line(&format!("new runs of {} take {activation}", activation.workflow))?;
    Ok(Exit::Ok)
}

pub(crate) fn activate(args: &ActivateArgs, context: &Context) -> Result<Exit, Failure> {
    let body = json!({
        "version": args.version, "canary_percent": args.canary.canary, "bad_percent": args.canary.max_bad,
        "min_runs": args.canary.min_runs, "author": args.signed.author, "reason": args.signed.reason,
    });
    told(&context.client.post(&route(context, &args.workflow).segment("activate"), &body.to_string())?, context)
}

pub(crate) fn rollback(args: &RollbackArgs, context: &Context) -> Result<Exit, Failure> {
    let body = json!({"author": args.signed.author, "reason": args.signed.reason});
    told(&context.client.post(&route(context, &args.workflow).segment("rollback"), &body.to_string())?, context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read() {
        assert_eq!((percent("10%"), percent("0.5"), percent("7 %").is_ok()), (Ok(10.0), Ok(0.5), true));
        assert!(percent("ten").is_err() && percent("").is_err());
        assert_eq!((whole_percent("5%"), whole_percent("100")), (Ok(5), Ok(100)));
        assert!(["0", "101", "1.5", ""].iter().all(|text| whole_percent(text).is_err()));
        assert_eq!((share(0.0), share(12.5), share(100.0)), (String::new(), "12.5 %".to_owned(), "100 %".to_owned()));
    }
}
