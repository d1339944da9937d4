//! `relive logs ID`.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    Context,
    client::decode,
    exit::{Exit, Failure},
    output::{self, compact, plain},
    stream,
    wire::{LogLine, LogsPage},
};

/// Lines a request.
const PAGE: usize = 1_000;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The execution's id
    id: String,
    /// Stay, and show lines as they come, until the end; with --json a line each
    #[arg(long)]
    follow: bool,
}

#[derive(Serialize)]
struct Whole {
    lines: Vec<Box<RawValue>>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    if args.follow {
        let route = context.client.execution(&args.id, &["logs"]);
        stream::follow(context, &route, |event| {
            if context.global.json { output::line(&event.data) } else { print(&decode::<LogLine>(&event.data)?) }
        })?;
        return Ok(Exit::Ok);
    }
    let mut whole = Whole { lines: Vec::new() };
    let mut cursor: Option<String> = None;
    loop {
        let route = context.client.execution(&args.id, &["logs"]).query_if("cursor", cursor).query("limit", PAGE);
        let mut page: LogsPage = decode(&context.client.get(&route)?)?;
        if context.global.json {
            whole.lines.append(&mut page.lines);
        } else {
            page.lines.iter().try_for_each(|raw| print(&decode::<LogLine>(raw.get())?))?;
        }
        if page.next_cursor.is_none() {
            break;
        }
        cursor = page.next_cursor;
    }
    if context.global.json {
        output::line(&serde_json::to_string(&whole).map_err(|e| Failure::new(Exit::Failed, "output", e.to_string()))?)?;
    }
    Ok(Exit::Ok)
}

fn print(line: &LogLine) -> Result<(), Failure> {
    let fields: String = line.fields.iter().map(|(name, value)| format!(" {name}={}", compact(value))).collect();
    output::line(&plain(&format!("{} {:<5} {}{fields}", line.at, line.level, line.message)))
}
