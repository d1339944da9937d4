//! `relive deploy FILE` (a component's workflows) or `relive deploy DIR` (everything that its relive.toml names).
//!
//! Activities go first: a workflow that starts at once finds them.

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
};

use relive_activity::{ActivitySource, Grants, Manifest};
use relive_core::Digest;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    migrate,
    sign::signatures_of,
    versions::{Canary, whoami},
};
use crate::{
    Context,
    client::{Route, decode},
    exit::{Exit, Failure},
    input::unreadable,
    output::{self, bytes},
    progress::while_doing,
    stream,
    wire::{Change, Deployed, short},
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A .wasm file, a relive.toml, or a directory that holds one
    path: PathBuf,
    /// The name to deploy under, if the file holds one workflow
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Let new runs take what they took before, until you activate the version
    #[arg(long, conflicts_with = "canary")]
    no_activate: bool,
    /// Have all new runs take it; so it is if nothing is said
    #[arg(long, conflicts_with_all = ["canary", "no_activate"])]
    activate: bool,
    #[command(flatten)]
    canary: Canary,
    /// Put open executions on it, too, those that agree with it; exit code 6 if one does not and stays where it is
    #[arg(long, conflicts_with_all = ["canary", "no_activate"])]
    migrate: bool,
    /// What is to be said of the version
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Who deploys; you, if absent
    #[arg(long, value_name = "NAME", default_value_t = whoami())]
    author: String,
}

/// What `--json` shows of a manifest: the host's answers, in order.
#[derive(Default, Serialize)]
struct Answers {
    activities: Vec<Box<RawValue>>,
    workflows: Vec<Box<RawValue>>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    if args.path.is_dir() || args.path.extension().is_some_and(|extension| extension == "toml") {
        if args.name.is_some() {
            return Err(Failure::usage("--name goes with a .wasm file; a relive.toml names its workflows itself"));
        }
        return manifest(args, context);
    }
    let answer = workflow(&read(&args.path)?, args.name.as_deref(), &args.path, args, context)?;
    if context.global.json {
        output::line(&answer)?;
    }
    follow_up(&[answer], args, context)
}

/// Has open executions follow, if that was asked for.
fn follow_up(answers: &[String], args: &Args, context: &Context) -> Result<Exit, Failure> {
    let mut exit = Exit::Ok;
    for answer in answers.iter().filter(|_| args.migrate) {
        let deployed: Deployed = decode(answer)?;
        for workflow in &deployed.workflows {
            let followed = migrate::after_deployment(&workflow.name, workflow.version, &args.author, context)?;
            exit = if followed == Exit::Ok { exit } else { followed };
        }
    }
    Ok(exit)
}

fn manifest(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let refused = |e: relive_activity::ManifestError| Failure::new(Exit::Usage, "invalid-manifest", e.to_string());
    let manifest = Manifest::load(&args.path).map_err(refused)?;
    manifest.check_files().map_err(refused)?;
    let (mut answers, mut deployed) = (Answers::default(), Vec::new());
    for entry in &manifest.activities {
        let answer = activity(&entry.name, &entry.source, context)?;
        if !context.global.json {
            output::line(&format!("activity {}", entry.name))?;
        }
        answers.activities.push(decode(&answer)?);
    }
    for entry in &manifest.workflows {
        let component = read(&entry.component)?;
        let answer = workflow(&component, Some(&entry.name), &entry.component, args, context)?;
        answers.workflows.push(decode(&answer)?);
        deployed.push(answer);
    }
    if context.global.json {
        output::line(
            &serde_json::to_string(&answers).map_err(|e| Failure::new(Exit::Failed, "output", e.to_string()))?,
        )?;
    }
    follow_up(&deployed, args, context)
}

fn activity(name: &str, source: &ActivitySource, context: &Context) -> Result<String, Failure> {
    let route = context.client.namespace("activities").query("name", name);
    match source {
        ActivitySource::Wasm { component, grants, .. } => {
            let signatures = signatures_of(component)?;
            let component = read(component)?;
            let route = route.query("grants", absolute(grants)?);
            let size = bytes(component.len() as u64);
            let what = format!("deploying activity {name} ({size}); the host checks and compiles it");
            while_doing(&what, context.global.json, || context.client.upload_signed(&route, &component, &signatures))
        }
        ActivitySource::Http(config) => {
            let config = config.to_json().map_err(|e| Failure::new(Exit::Usage, "invalid-manifest", e.to_string()))?;
            context.client.post(&route.query("kind", "http"), config.as_str())
        }
    }
}

fn workflow(
    component: &[u8],
    name: Option<&str>,
    path: &Path,
    args: &Args,
    context: &Context,
) -> Result<String, Failure> {
    let route = context.client.namespace("workflows").query_if("name", name).query("author", &args.author);
    let route = route.query("digest", Digest::of(component)).query_if("note", args.note.as_deref());
    let route = route.query_if("activate", (args.activate || args.no_activate).then_some(args.activate));
    let canary = &args.canary;
    let route = route.query_if("canary_percent", canary.canary).query_if("bad_percent", canary.max_bad);
    let route = route.query_if("min_runs", canary.min_runs);
    let what =
        format!("deploying {} ({}); the host checks and compiles it", path.display(), bytes(component.len() as u64));
    let signatures = signatures_of(path)?;
    let answer = while_doing(&what, context.global.json, || upload(&route, component, &signatures, context))?;
    if !context.global.json {
        let deployed: Deployed = decode(&answer)?;
        for workflow in &deployed.workflows {
            let (name, version) = (&workflow.name, workflow.version);
            output::line(&format!("workflow {name} version {version} ({})", short(&deployed.digest)))?;
            changes(&workflow.changes)?;
            match &workflow.activation {
                Some(activation) if activation.version == version && activation.canary.is_none() => {}
                Some(activation) => output::line(&format!("  new runs take {activation}"))?,
                None => output::line(&format!("  not active: relive activate {name} --to {version}"))?,
            }
        }
    }
    Ok(answer)
}

/// Sends a component, and says on a terminal what is through. Returns the host's answer.
fn upload(route: &Route, component: &[u8], signatures: &[String], context: &Context) -> Result<String, Failure> {
    let shown = !context.global.json && std::io::stderr().is_terminal();
    let body = context.client.upload_for_stream(route, component, signatures)?;
    let (mut answer, mut through) = (None, String::new());
    let outcome = stream::once(body, |event| match event.name.as_str() {
        "stage" => {
            let stage: serde_json::Value = decode(&event.data)?;
            through = format!("{through}{} ", stage["stage"].as_str().unwrap_or_default());
            if shown {
                eprint!("\r{through}");
            }
            Ok(())
        }
        "deployed" => {
            answer = Some(event.data.clone());
            Ok(())
        }
        "failed" => {
            let problem: serde_json::Value = decode(&event.data)?;
            let status = problem["status"].as_u64().and_then(|status| u16::try_from(status).ok()).unwrap_or(500);
            Err(Failure::of_answer(status, event.data.clone()))
        }
        _ => Ok(()),
    });
    if shown && !through.is_empty() {
        eprintln!();
    }
    outcome?;
    answer.ok_or_else(|| Failure::new(Exit::Failed, "no-answer", "the host ended without an answer; deploy it again"))
}

/// What the version changes of the active one; what callers would feel is called out.
fn changes(changes: &[Change]) -> Result<(), Failure> {
    for change in changes {
        let sign = match (change.breaking, &*change.change) {
            (true, _) => '!',
            (_, "added") => '+',
            (_, "removed") => '-',
            _ => '~',
        };
        let detail = if change.detail.is_empty() { String::new() } else { format!(": {}", change.detail) };
        output::line(&format!("  {sign} {} {}{detail}", change.what, change.name))?;
    }
    if changes.iter().any(|change| change.breaking) {
        output::line("  callers may feel what is marked with !")?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|e| unreadable(&path.display().to_string(), &e))
}

/// The grants as JSON, with paths that mean the same to the host as here.
fn absolute(grants: &Grants) -> Result<String, Failure> {
    let mut grants = grants.clone();
    for directory in &mut grants.directories {
        directory.host = std::fs::canonicalize(&directory.host)
            .map_err(|e| unreadable(&directory.host.display().to_string(), &e))?;
    }
    let json = grants
        .to_json()
        .map_err(|e| Failure::new(Exit::Usage, "invalid-manifest", format!("a granted path cannot be sent: {e}")))?;
    Ok(json.to_string())
}
