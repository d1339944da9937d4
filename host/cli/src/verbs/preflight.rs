//! `relive preflight NAME --to N`: relives executions on other code; exit code 6 unless all of them agree. With
//! `--histories DIR` it relives those of files, on this machine and without a host.

use std::{
    collections::BTreeMap,
    io::IsTerminal,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use relive_core::{
    Json,
    history::file::{self, HistoryFile, SUFFIX},
    ports::Clock,
};
use relive_engine::preflight::{Verdict, preflight_files};

use crate::{
    Context,
    client::decode,
    clock::SystemClock,
    exit::{Exit, Failure},
    host::local_guests,
    input::unreadable,
    output::{self, duration, plain},
    stream,
    wire::{Divergence, OpenPromise, Preflight, PreflightProgress, PreflightVerdict, short},
};

/// How often a line of progress is written where lines stay.
const LINE_EVERY: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The workflow; with --histories, that of the files if absent
    #[arg(required_unless_present = "histories")]
    workflow: Option<String>,
    /// Relive them on this version
    #[arg(long = "to", value_name = "N", required_unless_present = "wasm", conflicts_with = "wasm")]
    version: Option<u32>,
    /// Relive them on this component, deploying nothing
    #[arg(long, value_name = "FILE")]
    wasm: Option<PathBuf>,
    /// Relive the histories of this directory (`relive export` wrote them), here and without a host
    #[arg(long, value_name = "DIR", requires = "wasm", conflicts_with_all = ["version", "all", "sample", "closed"])]
    histories: Option<PathBuf>,
    /// Check all open executions; so it is if nothing is said
    #[arg(long, conflicts_with = "sample")]
    all: bool,
    /// Check so many of the open executions, the same ones each time
    #[arg(long, value_name = "K")]
    sample: Option<usize>,
    /// Also executions that ended within this time (`12h`, `7d`)
    #[arg(long, value_name = "TIME", value_parser = hours)]
    closed: Option<u64>,
    /// Tell of each execution, not only of those that do not agree
    #[arg(long)]
    verdicts: bool,
}

/// Whole hours, upwards.
fn hours(text: &str) -> Result<u64, String> {
    Ok(output::parse_duration(text)?.as_secs().div_ceil(3_600).max(1))
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    debug_assert!(!args.all || args.sample.is_none(), "clap refuses both");
    let wasm = match &args.wasm {
        Some(path) => std::fs::read(path).map_err(|e| unreadable(&path.display().to_string(), &e))?,
        None => Vec::new(),
    };
    let workflow = args.workflow.as_deref();
    if let Some(directory) = &args.histories {
        return offline(directory, &wasm, workflow, args.verdicts, context);
    }
    let route = context.client.namespace("workflows").segment(workflow.unwrap_or_default()).segment("preflight");
    let route = route.query_if("version", args.version).query_if("sample", args.sample);
    let route = route.query_if("closed_hours", args.closed).query("verdicts", args.verdicts);
    let body = context.client.upload_for_stream(&route, &wasm, &[])?;
    let mut told_at = Instant::now();
    let mut report = None;
    stream::once(body, |event| match event.name.as_str() {
        "progress" => {
            if !context.global.json {
                progress(&decode(&event.data)?, &mut told_at);
            }
            Ok(())
        }
        "verdict" if context.global.json => output::line(&event.data),
        "verdict" => verdict(&decode(&event.data)?, ""),
        "report" => {
            report = Some(event.data.clone());
            Ok(())
        }
        "failed" => {
            let failed: serde_json::Value = decode(&event.data)?;
            let text = |field: &str| failed[field].as_str().unwrap_or_default().to_owned();
            Err(Failure::new(Exit::Failed, &text("code"), text("detail")))
        }
        _ => Ok(()),
    })?;
    let report = report.ok_or_else(|| Failure::new(Exit::Failed, "no-report", "the host ended without a report"))?;
    conclude(&report, context)
}

/// Relives histories of files, each workflow's for itself.
fn offline(
    directory: &Path,
    wasm: &[u8],
    workflow: Option<&str>,
    verdicts: bool,
    context: &Context,
) -> Result<Exit, Failure> {
    let mut histories: BTreeMap<String, Vec<HistoryFile>> = BTreeMap::new();
    for history in read_all(directory)? {
        if workflow.is_none_or(|name| name == history.head.workflow) {
            histories.entry(history.head.workflow.clone()).or_default().push(history);
        }
    }
    if histories.is_empty() {
        let of = workflow.map_or_else(String::new, |name| format!(" of {name}"));
        let message =
            format!("no histories{of} are in {}; `relive export NAME --out DIR` writes them", directory.display());
        return Err(Failure::new(Exit::Usage, "no-histories", message));
    }
    let guests = local_guests().map_err(|e| Failure::new(Exit::Failed, "sandbox", e.to_string()))?;
    let mut exit = Exit::Ok;
    for (workflow, histories) in &histories {
        let mut wrong = None;
        let mut told = |told: &Verdict| {
            if verdicts && wrong.is_none() {
                wrong = tell(told, context).err();
            }
        };
        let report = preflight_files(&guests, wasm, workflow, histories, SystemClock.now(), &mut told)
            .map_err(|e| Failure::new(Exit::Usage, e.code, e.message))?;
        if let Some(wrong) = wrong {
            return Err(wrong);
        }
        let report = Json::of(&report).map_err(|e| Failure::new(Exit::Failed, "output", e.to_string()))?;
        if conclude(report.as_str(), context)? != Exit::Ok {
            exit = Exit::Findings;
        }
    }
    Ok(exit)
}

fn tell(told: &Verdict, context: &Context) -> Result<(), Failure> {
    let json = Json::of(told).map_err(|e| Failure::new(Exit::Failed, "output", e.to_string()))?;
    if context.global.json { output::line(json.as_str()) } else { verdict(&decode(json.as_str())?, "") }
}

/// The histories of a directory, by the names of their files.
fn read_all(directory: &Path) -> Result<Vec<HistoryFile>, Failure> {
    let unreadable = |e: std::io::Error| unreadable(&directory.display().to_string(), &e);
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.to_string_lossy().ends_with(SUFFIX) {
            paths.push(path);
        }
    }
    paths.sort();
    let read = |path: &PathBuf| {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|e| crate::input::unreadable(&name, &e))?;
        file::read(&text)
            .map_err(|e| Failure::new(Exit::Usage, "invalid-history", format!("{name} is no history: {e}")))
    };
    paths.iter().map(read).collect()
}

fn conclude(report: &str, context: &Context) -> Result<Exit, Failure> {
    let found: Preflight = decode(report)?;
    let exit = if found.diverges + found.traps + found.unreadable == 0 { Exit::Ok } else { Exit::Findings };
    if context.global.json {
        output::line(report)?
    } else {
        show(&found)?
    }
    Ok(exit)
}

/// On a terminal one line that changes, elsewhere one now and then.
fn progress(progress: &PreflightProgress, told_at: &mut Instant) {
    let left =
        progress.left_ms.map_or_else(String::new, |ms| format!(", {} left", duration(ms.saturating_mul(1_000_000))));
    let line = format!("{} of {} executions{left}", progress.checked, progress.total);
    if std::io::stderr().is_terminal() {
        eprint!("\r{line:<60}");
        if progress.checked == progress.total {
            eprintln!();
        }
    } else if told_at.elapsed() >= LINE_EVERY {
        eprintln!("{line}");
        *told_at = Instant::now();
    }
}

fn show(found: &Preflight) -> Result<(), Failure> {
    let code = found.version.map_or_else(|| short(&found.digest).to_owned(), |version| format!("version {version}"));
    let sample = if found.sample { " (a sample)" } else { "" };
    output::line(&format!(
        "{} executions of {}{sample} relived on {code}: {} events in {}",
        found.checked,
        found.workflow,
        found.events,
        duration(found.took_ms.saturating_mul(1_000_000))
    ))?;
    let counts = [
        (found.same_code, "run on this code already"),
        (found.agrees, "agree"),
        (found.diverges, "diverge"),
        (found.traps, "trap"),
        (found.unreadable, "cannot be read"),
    ];
    for (count, what) in counts.iter().filter(|(count, _)| *count > 0) {
        output::line(&format!("  {count} {what}"))?;
    }
    for group in &found.groups {
        output::line("")?;
        match group.outcome.as_str() {
            "diverges" => {
                output::line(&format!("{} diverge:", group.executions))?;
                output::line(&format!("  history holds  {}", plain(&group.history)))?;
                output::line(&format!("  the code asks  {}", plain(&group.code)))?;
            }
            "traps" => output::line(&format!("{} trap: {}", group.executions, plain(&group.code)))?,
            _ => output::line(&format!("{} cannot be read: {}", group.executions, plain(&group.code)))?,
        }
        for example in &group.examples {
            verdict(example, "  ")?;
        }
    }
    if found.diverges > 0 {
        output::line("\nthose that diverge stay on their code; `relive replay ID --wasm FILE` shows one")?;
    }
    Ok(())
}

fn verdict(verdict: &PreflightVerdict, indent: &str) -> Result<(), Failure> {
    let id = plain(&verdict.workflow_id);
    let line = match (&verdict.divergence, verdict.fault.as_ref().or(verdict.reason.as_ref())) {
        (Some(divergence), _) => format!("{id}: {}", diverges(divergence)),
        (None, Some(what)) => format!("{id}: {} after {} events: {}", verdict.outcome, verdict.events, plain(what)),
        (None, None) if verdict.next.is_empty() => format!("{id}: {}", verdict.outcome),
        (None, None) => format!("{id}: {}, then waits for {}", verdict.outcome, waits(&verdict.next)),
    };
    output::line(&format!("{indent}{line}"))
}

fn diverges(divergence: &Divergence) -> String {
    let event = divergence.event_id.map_or_else(String::new, |id| format!(" (event {id})"));
    format!(
        "diverges at command {}{event}: history holds {}, the code asks {}; agreed up to command {}",
        divergence.command_no,
        plain(&divergence.history),
        plain(&divergence.code),
        divergence.last_agreed
    )
}

fn waits(next: &[OpenPromise]) -> String {
    let one = |promise: &OpenPromise| {
        let name = if promise.name.is_empty() { String::new() } else { format!(" {}", plain(&promise.name)) };
        format!("{}{name} (#{})", promise.kind, promise.promise)
    };
    next.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rounded_up_to_hours() {
        assert_eq!((hours("10m"), hours("1h"), hours("90m"), hours("7d")), (Ok(1), Ok(1), Ok(2), Ok(168)));
        assert!(hours("soon").is_err());
    }
}
