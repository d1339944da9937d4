//! `relive export NAME --out DIR`: histories as files, one a run, for `relive preflight --histories` in a pipeline.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use relive_core::{
    history::file::{Head, SUFFIX},
    ports::{Clock, Status},
};
use relive_engine::views::ExecutionView;

use crate::{
    Context,
    client::decode,
    clock::SystemClock,
    exit::{Exit, Failure},
    output,
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The workflow whose open executions are exported
    #[arg(required_unless_present = "id")]
    workflow: Option<String>,
    /// Only the execution with this id, also if it has ended
    #[arg(long, value_name = "ID", conflicts_with_all = ["workflow", "closed", "limit"])]
    id: Option<String>,
    /// Also executions that ended within this time (`12h`, `7d`)
    #[arg(long, value_name = "TIME", value_parser = output::parse_duration)]
    closed: Option<Duration>,
    /// So many at most, the newest
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Where the files go; made if it is not there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let unwritable = |path: &Path, e: &std::io::Error| {
        Failure::new(Exit::Failed, "unwritable", format!("failed to write {}: {e}", path.display()))
    };
    std::fs::create_dir_all(&args.out).map_err(|e| unwritable(&args.out, &e))?;
    let runs = match (&args.id, &args.workflow) {
        (Some(id), _) => vec![(id.clone(), None)],
        (None, Some(workflow)) => runs(args, workflow, context)?,
        (None, None) => return Err(Failure::usage("name a workflow, or an execution with --id")),
    };
    let mut written = 0;
    for (id, run) in &runs {
        let route = match run {
            Some(run) => context.client.namespace("executions").segment(id).segment("export").query("run_id", run),
            None => context.client.execution(id, &["export"]),
        };
        let text = context.client.get(&route)?;
        let head: Head = decode(text.lines().next().unwrap_or_default())?;
        let path = args.out.join(format!("{}{SUFFIX}", head.execution.run_id));
        // Whole or not at all, whoever reads the directory meanwhile.
        let draft = path.with_extension("draft");
        std::fs::write(&draft, text)
            .and_then(|()| std::fs::rename(&draft, &path))
            .map_err(|e| unwritable(&path, &e))?;
        written += 1;
    }
    if context.global.json {
        output::line(&serde_json::json!({"written": written, "directory": args.out}).to_string())?;
    } else {
        output::line(&format!("{written} histories in {}", args.out.display()))?;
    }
    Ok(Exit::Ok)
}

/// The executions that are wanted, with their runs.
fn runs(args: &Args, workflow: &str, context: &Context) -> Result<Vec<(String, Option<String>)>, Failure> {
    let ago = |within: Duration| u64::try_from(within.as_nanos()).unwrap_or(u64::MAX);
    let since = args.closed.map(|within| SystemClock.now().0.saturating_sub(ago(within)));
    let mut runs = Vec::new();
    for status in Status::ALL.into_iter().filter(|status| status.is_open() || since.is_some()) {
        let route = context.client.namespace("executions").query("limit", 1_000).query("workflow", workflow);
        for raw in context.client.all(&route.query("status", status.name()), "executions")? {
            let execution: ExecutionView = decode(raw.get())?;
            let old = execution.closed_at.is_some_and(|at| at.0 < since.unwrap_or_default());
            if !old {
                runs.push((execution.workflow_id, Some(execution.run_id.to_string())));
            }
        }
    }
    runs.sort_by(|a, b| b.1.cmp(&a.1));
    runs.truncate(args.limit.unwrap_or(usize::MAX));
    Ok(runs)
}
