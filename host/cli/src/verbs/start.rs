//! `relive start WORKFLOW`.

use std::time::Duration;

use relive_core::Json;
use relive_engine::views::Started;
use serde::Serialize;

use crate::{
    Context,
    client::decode,
    exit::{Exit, Failure},
    input::Input,
    output::{self, parse_duration},
    wait,
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The deployed workflow's name
    workflow: String,
    #[command(flatten)]
    input: Input,
    /// Your key of the execution; at most one open run has it. A fresh UUID if absent
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// An idempotency key: the same request again is answered with the run that it started. Without --id the id
    /// derives from it
    #[arg(long, value_name = "KEY")]
    request_id: Option<String>,
    /// What to do if the id has an open run
    #[arg(long, value_parser = ["fail", "use-existing", "terminate-existing"], default_value = "fail", value_name = "POLICY")]
    on_conflict: String,
    /// What to do if the id's latest run has ended
    #[arg(long, value_parser = ["allow", "allow-failed-only", "reject"], default_value = "allow", value_name = "POLICY")]
    reuse: String,
    /// Names your request in logs and events
    #[arg(long, value_name = "ID")]
    correlation_id: Option<String>,
    /// Wait for the end and print the result
    #[arg(long)]
    wait: bool,
    /// Wait this long at most (500ms, 30s, 5m)
    #[arg(long, value_parser = parse_duration, requires = "wait", value_name = "TIME")]
    timeout: Option<Duration>,
}

#[derive(Serialize)]
struct Body<'a> {
    workflow: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    workflow_id: Option<&'a str>,
    input: &'a Json,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    on_conflict: &'a str,
    reuse: &'a str,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let input = args.input.read()?;
    let body = Body {
        workflow: &args.workflow,
        workflow_id: args.id.as_deref(),
        input: &input,
        correlation_id: args.correlation_id.as_deref(),
        request_id: args.request_id.as_deref(),
        on_conflict: &args.on_conflict,
        reuse: &args.reuse,
    };
    let body = serde_json::to_string(&body).map_err(|e| Failure::usage(e.to_string()))?;
    let answer = context.client.post(&context.client.namespace("executions"), &body)?;
    let started: Started = decode(&answer)?;
    let id = &started.workflow_id;
    let done = if started.existing { "there is" } else { "started" };
    if args.wait {
        output::note(context, &format!("{done} {id} (run {})", started.run_id));
        let (answer, view) = wait::for_result(context, id, args.timeout)?;
        return wait::tell(context, id, &answer, &view);
    }
    if context.global.json {
        output::line(&answer)?;
    } else {
        output::line(&format!("{done} {id} (run {})", started.run_id))?;
    }
    Ok(Exit::Ok)
}
