//! `relive doctor`: the checks are in `crate::doctor`. Exit code 1 if one of them failed.

use std::path::PathBuf;

use serde::Serialize;

use crate::{
    Context,
    doctor::{self, Check, Verdict},
    exit::{Exit, Failure},
    output::{self, Table},
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The data directory to check
    #[arg(
        long,
        alias = "data-dir",
        env = "RELIVE_DATA",
        hide_env_values = true,
        default_value = ".relive",
        value_name = "DIR"
    )]
    data: PathBuf,
}

#[derive(Serialize)]
struct Report {
    checks: Vec<Check>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let report = Report { checks: doctor::all(&args.data, &context.client) };
    let failed = report.checks.iter().any(|check| check.verdict == Verdict::Fail);
    if context.global.json {
        output::line(
            &serde_json::to_string(&report).map_err(|e| Failure::new(Exit::Failed, "output", e.to_string()))?,
        )?;
    } else {
        let mut table = Table::headless(3);
        for check in &report.checks {
            table.row([check.verdict.name().to_owned(), check.name.to_owned(), check.found.clone()]);
        }
        output::line(&table.render())?;
        for check in report.checks.iter().filter(|check| !check.advice.is_empty()) {
            output::line(&format!("{}: {}", check.name, check.advice))?;
        }
    }
    Ok(if failed { Exit::Failed } else { Exit::Ok })
}
