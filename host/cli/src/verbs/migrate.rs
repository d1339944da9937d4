//! `relive migrate ID --to N`: puts an execution on another version. `relive migrate NAME --from M --to N` does so with all open
//! executions of a workflow that are on version M. Exit code 6 if one of them does not agree and stays where it is.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde::Serialize;
use serde_json::{Value, json};

use super::versions::Signed;
use crate::{
    Context,
    client::decode,
    exit::{Exit, Failure},
    output::{self, duration, plain},
    wire::WorkflowReport,
};

/// Requests at once: each waits for a commit, and commits are shared.
const AT_ONCE: usize = 16;
/// Executions that stay, shown for each reason.
const EXAMPLES: usize = 5;
/// All hosts have heard of an activation after this.
const HEARD: Duration = Duration::from_millis(1_500);
/// How often one is asked again that was busy.
const TRIES: usize = 5;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The execution's id; with --from or --all, the workflow
    name: String,
    /// The version that they go on on
    #[arg(long = "to", value_name = "N")]
    version: u32,
    /// All open executions of the workflow that are on this version
    #[arg(long, value_name = "N", conflicts_with_all = ["all", "id"])]
    from: Option<u32>,
    /// All open executions of the workflow, on whatever version
    #[arg(long, conflicts_with = "id")]
    all: bool,
    /// Only this execution of the workflow
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    #[command(flatten)]
    signed: Signed,
}

/// What became of them.
#[derive(Debug, Default, Serialize)]
struct Account {
    migrated: usize,
    /// They ended while the others were at it.
    ended: usize,
    /// By the code of the reason, and the reason as it was given first.
    stay: BTreeMap<String, Vec<Stay>>,
    took_ms: u64,
}

#[derive(Debug, Serialize)]
struct Stay {
    workflow_id: String,
    reason: String,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    if args.from.is_none() && !args.all {
        let id = args.id.as_deref().unwrap_or(&args.name);
        let answer = one(args, id, context)?;
        output::line(&if context.global.json { answer } else { format!("{id} goes on on version {}", args.version) })?;
        return Ok(Exit::Ok);
    }
    let began = Instant::now();
    let ids = candidates(args, context)?;
    conclude(migrate_all(args, &ids, context)?, args, began, context)
}

/// After a deployment: all open executions, and those that hosts began on other versions before they had heard of it.
pub(super) fn after_deployment(name: &str, version: u32, author: &str, context: &Context) -> Result<Exit, Failure> {
    let signed = Signed { author: author.to_owned(), reason: Some(format!("deployed version {version}")) };
    let args = Args { name: name.to_owned(), version, from: None, all: true, id: None, signed };
    let began = Instant::now();
    let mut seen = BTreeSet::new();
    let mut account = Account::default();
    for pass in 0..2 {
        if pass > 0 {
            std::thread::sleep(HEARD);
        }
        let mut ids = candidates(&args, context)?;
        ids.retain(|id| seen.insert(id.clone()));
        let more = migrate_all(&args, &ids, context)?;
        account.migrated += more.migrated;
        account.ended += more.ended;
        for (code, mut stay) in more.stay {
            account.stay.entry(code).or_default().append(&mut stay);
        }
    }
    conclude(account, &args, began, context)
}

fn conclude(mut account: Account, args: &Args, began: Instant, context: &Context) -> Result<Exit, Failure> {
    account.took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let exit = if account.stay.is_empty() { Exit::Ok } else { Exit::Findings };
    if context.global.json {
        let text = serde_json::to_string(&account).map_err(|e| Failure::new(Exit::Failed, "output", e.to_string()))?;
        output::line(&text)?;
    } else {
        show(&account, args.version)?;
    }
    Ok(exit)
}

fn one(args: &Args, id: &str, context: &Context) -> Result<String, Failure> {
    let body = json!({"version": args.version, "author": args.signed.author, "reason": args.signed.reason});
    context.client.post(&context.client.execution(id, &["migrate"]), &body.to_string())
}

/// The open executions that are to be moved, as they are now.
fn candidates(args: &Args, context: &Context) -> Result<Vec<String>, Failure> {
    let client = &context.client;
    let report: WorkflowReport = decode(&client.get(&client.namespace("workflows").segment(&args.name))?)?;
    let digest = |number: u32| {
        let known = report.versions.iter().find(|v| v.version == number).map(|v| v.digest.clone());
        let missing = format!("workflow {} has no version {number}", args.name);
        known.ok_or_else(|| Failure::new(Exit::NotFound, "unknown-version", missing))
    };
    let (from, to) = (args.from.map(digest).transpose()?, digest(args.version)?);
    let mut ids = Vec::new();
    for status in ["running", "blocked"] {
        let route = client.namespace("executions").query("workflow", &args.name).query("status", status);
        for row in client.all(&route.query("limit", 1_000), "executions")? {
            let row: Value = decode(row.get())?;
            let on = row["digest"].as_str().unwrap_or_default();
            if from.as_ref().map_or(on != to || status == "blocked", |from| on == from) {
                ids.extend(row["workflow_id"].as_str().map(str::to_owned));
            }
        }
    }
    Ok(ids)
}

fn migrate_all(args: &Args, ids: &[String], context: &Context) -> Result<Account, Failure> {
    let (next, account) = (AtomicUsize::new(0), Mutex::new(Account::default()));
    let failed: Mutex<Option<Failure>> = Mutex::new(None);
    let work = || {
        while let Some(id) = ids.get(next.fetch_add(1, Ordering::Relaxed)) {
            let outcome = patiently(args, id, context);
            let mut account = account.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            match outcome {
                Ok(_) => account.migrated += 1,
                Err(failure) if failure.code == "closed" => account.ended += 1,
                // The host is gone, or it is no host of ours: all others would fail as well.
                Err(failure) if failure.exit == Exit::Unreachable => {
                    failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get_or_insert(failure);
                    return;
                }
                Err(failure) => {
                    let stay = Stay { workflow_id: id.clone(), reason: failure.message };
                    account.stay.entry(failure.code).or_default().push(stay);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(ids.len()) {
            scope.spawn(work);
        }
        if !context.global.json && ids.len() > 1_000 {
            output::note(context, &format!("{} executions", ids.len()));
        }
    });
    match failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        Some(failure) => Err(failure.hint("those that were moved stay so; ask again for the others")),
        None => Ok(account.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)),
    }
}

/// Asks again while the execution changes under the request.
fn patiently(args: &Args, id: &str, context: &Context) -> Result<String, Failure> {
    let mut tries = 1;
    loop {
        match one(args, id, context) {
            Err(failure) if tries < TRIES && ["try-again", "busy", "not-owner"].contains(&&*failure.code) => tries += 1,
            outcome => return outcome,
        }
    }
}

fn show(account: &Account, version: u32) -> Result<(), Failure> {
    let took = duration(account.took_ms.saturating_mul(1_000_000));
    output::line(&format!("{} executions go on on version {version} ({took})", account.migrated))?;
    if account.ended > 0 {
        output::line(&format!("{} ended meanwhile", account.ended))?;
    }
    for (code, stay) in &account.stay {
        output::line(&format!("{} stay on their version ({code}):", stay.len()))?;
        for example in stay.iter().take(EXAMPLES) {
            output::line(&format!("  {}: {}", plain(&example.workflow_id), plain(&example.reason)))?;
        }
    }
    Ok(())
}
