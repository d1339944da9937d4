//! `relive history ID`: a timeline, a line an event; or the whole history as JSON; or events as they come.

use relive_core::{Json, Timestamp};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    Context,
    client::decode,
    exit::{Exit, Failure},
    output::{self, Table, compact, duration},
    stream,
    wire::{Attributes, Event, HistoryPage},
};

/// Events a request; a history has many pages.
const PAGE: usize = 1_000;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The execution's id
    id: String,
    /// Types and numbers alone, without what the events hold
    #[arg(long)]
    compact: bool,
    /// Begin with this event
    #[arg(long, default_value_t = 1, value_name = "EVENT")]
    from: u64,
    /// Stay, and show events as they come, until the end; with --json a line each
    #[arg(long)]
    follow: bool,
}

#[derive(Serialize)]
struct Whole<'a> {
    workflow_id: &'a str,
    run_id: &'a str,
    events: Vec<Box<RawValue>>,
    fingerprint: String,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    if args.follow {
        return follow(args, context);
    }
    let client = &context.client;
    let first = client.execution(&args.id, &["history"]).query("from", args.from).query("limit", PAGE);
    let mut page: HistoryPage = decode(&client.get(&first)?)?;
    let (workflow_id, run_id) = (page.workflow_id.clone(), page.run_id.clone());
    let mut whole =
        Whole { workflow_id: &workflow_id, run_id: &run_id, events: Vec::new(), fingerprint: String::new() };
    let mut timeline = Timeline { compact: args.compact, begin: None };
    loop {
        whole.fingerprint = std::mem::take(&mut page.fingerprint);
        if context.global.json {
            whole.events.append(&mut page.events);
        } else {
            timeline.print(&page.events)?;
        }
        // The same run to the end, also if another was started meanwhile: the cursor names it.
        let Some(next) = page.next_cursor else { break };
        let route = client.execution(&args.id, &["history"]).query("cursor", next).query("limit", PAGE);
        page = decode(&client.get(&route)?)?;
    }
    if context.global.json {
        output::line(&serde_json::to_string(&whole).map_err(|e| Failure::new(Exit::Failed, "output", e.to_string()))?)?;
    } else if !whole.fingerprint.is_empty() {
        output::line(&format!("fingerprint {}", whole.fingerprint))?;
    }
    Ok(Exit::Ok)
}

fn follow(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let route = context.client.execution(&args.id, &["history"]).query("from", args.from);
    let mut timeline = Timeline { compact: args.compact, begin: None };
    stream::follow(context, &route, |event| {
        let raw: Box<RawValue> = decode(&event.data)?;
        if context.global.json { output::line(raw.get()) } else { timeline.print(&[raw]) }
    })?;
    Ok(Exit::Ok)
}

struct Timeline {
    compact: bool,
    begin: Option<Timestamp>,
}

impl Timeline {
    fn print(&mut self, events: &[Box<RawValue>]) -> Result<(), Failure> {
        if events.is_empty() {
            return Ok(());
        }
        let mut table = Table::headless(5);
        for raw in events {
            let event: Event = decode(raw.get())?;
            let begin = *self.begin.get_or_insert(event.timestamp);
            table.row([
                format!("{:>5}", event.event_id),
                format!("+{}", duration(event.timestamp.since(begin))),
                event.event_type.clone(),
                event.command_no.map_or_else(String::new, |no| format!("#{no}")),
                if self.compact { String::new() } else { describe(&event.event_type, &event.attributes) },
            ]);
        }
        output::line(&table.render())
    }
}

/// What happened, in a few words.
fn describe(event_type: &str, a: &Attributes) -> String {
    let json = |json: &Option<Json>| json.as_ref().map(compact).unwrap_or_default();
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let failure = |attempt: &str| match &a.failure {
        Some(failure) => format!("{failure}{attempt}"),
        None => String::new(),
    };
    let attempt = match a.attempt {
        Some(attempt) if attempt > 1 => format!(" (attempt {attempt})"),
        _ => String::new(),
    };
    match event_type {
        "ExecutionStarted" => format!("{} {}", text(&a.workflow), json(&a.input)),
        "TaskScheduled" => format!("{} {}", text(&a.name), json(&a.input)),
        "ExecutionCompleted" | "TaskCompleted" => format!("{}{attempt}", json(&a.result)),
        "TaskTimedOut" => match &a.last_failure {
            Some(last) => format!("{}{attempt}; before that: {last}", text(&a.timeout)),
            None => format!("{}{attempt}", text(&a.timeout)),
        },
        "TaskRetryScheduled" => format!("{}, again at {}", failure(&attempt), a.next_at.unwrap_or_default()),
        "TaskExhausted" => match &a.last_failure {
            Some(last) => format!("{last} (after {} attempts); an operator decides", a.attempts.unwrap_or_default()),
            None => String::new(),
        },
        "CommandIssued" => format!("{} of #{}", text(&a.name), a.target.unwrap_or_default()),
        "ExecutionContinuedAsNew" => format!("run {} {}", text(&a.new_run_id), json(&a.input)),
        "TimerCreated" => duration(a.duration.unwrap_or_default()),
        "TimerCanceled" | "TaskCancelRequested" => format!("of #{}", a.target.unwrap_or_default()),
        "SignalReceived" => format!("{} {} (message {})", text(&a.channel), json(&a.payload), text(&a.message_id)),
        "VersionRecorded" => format!("{} = {}", text(&a.change_id), a.version.unwrap_or_default()),
        _ if a.failure.is_some() => failure(&attempt),
        _ => text(&a.reason),
    }
}
