//! `relive activity pause|resume|reset|update ID STEP`: operators and an activity that is not resolved.

use serde::Serialize;

use super::accepted;
use crate::{
    Context,
    exit::{Exit, Failure},
};

/// Which activity, and why.
#[derive(Debug, clap::Args)]
pub struct Step {
    /// The workflow id
    id: String,
    /// The step's number, as `relive show` has it
    step: u64,
    /// Why; it stands in the history
    #[arg(long, value_name = "TEXT", default_value = "")]
    note: String,
}

#[derive(Debug, clap::Args)]
pub struct Reset {
    #[command(flatten)]
    step: Step,
    /// Keep what the heartbeats told for the first attempt
    #[arg(long)]
    keep_details: bool,
}

/// What is not given stays. A timeout of 0 is taken away.
#[derive(Debug, clap::Args)]
pub struct Update {
    #[command(flatten)]
    step: Step,
    /// From the schedule to the result, all attempts together
    #[arg(long, value_name = "MS")]
    schedule_to_close_ms: Option<u64>,
    /// From when an attempt is due until a worker has it
    #[arg(long, value_name = "MS")]
    schedule_to_start_ms: Option<u64>,
    /// One attempt
    #[arg(long, value_name = "MS")]
    start_to_close_ms: Option<u64>,
    /// Between two heartbeats
    #[arg(long, value_name = "MS")]
    heartbeat_timeout_ms: Option<u64>,
    /// Before the second attempt
    #[arg(long, value_name = "MS")]
    initial_interval_ms: Option<u64>,
    /// Between later attempts, at most
    #[arg(long, value_name = "MS")]
    maximum_interval_ms: Option<u64>,
    /// By which the interval grows
    #[arg(long, value_name = "FACTOR")]
    backoff: Option<f64>,
    /// Attempts in all; 0: without end
    #[arg(long, value_name = "N")]
    maximum_attempts: Option<u32>,
}

#[derive(Serialize)]
struct Note<'a> {
    note: &'a str,
}

#[derive(Serialize)]
struct ResetForm<'a> {
    note: &'a str,
    keep_details: bool,
}

#[derive(Serialize)]
struct UpdateForm<'a> {
    note: &'a str,
    schedule_to_close_ms: Option<u64>,
    schedule_to_start_ms: Option<u64>,
    start_to_close_ms: Option<u64>,
    heartbeat_timeout_ms: Option<u64>,
    initial_interval_ms: Option<u64>,
    maximum_interval_ms: Option<u64>,
    backoff: Option<f64>,
    maximum_attempts: Option<u32>,
}

pub(super) fn pause(args: &Step, context: &Context) -> Result<Exit, Failure> {
    post(args, "pause", &Note { note: &args.note }, context, "paused: no attempt begins any more")
}

pub(super) fn resume(args: &Step, context: &Context) -> Result<Exit, Failure> {
    post(args, "resume", &Note { note: &args.note }, context, "resumed")
}

pub(super) fn reset(args: &Reset, context: &Context) -> Result<Exit, Failure> {
    let form = ResetForm { note: &args.step.note, keep_details: args.keep_details };
    post(&args.step, "reset", &form, context, "begins anew, with its first attempt")
}

pub(super) fn update(args: &Update, context: &Context) -> Result<Exit, Failure> {
    let form = UpdateForm {
        note: &args.step.note,
        schedule_to_close_ms: args.schedule_to_close_ms,
        schedule_to_start_ms: args.schedule_to_start_ms,
        start_to_close_ms: args.start_to_close_ms,
        heartbeat_timeout_ms: args.heartbeat_timeout_ms,
        initial_interval_ms: args.initial_interval_ms,
        maximum_interval_ms: args.maximum_interval_ms,
        backoff: args.backoff,
        maximum_attempts: args.maximum_attempts,
    };
    post(&args.step, "update", &form, context, "changed")
}

fn post(step: &Step, what: &str, form: &impl Serialize, context: &Context, said: &str) -> Result<Exit, Failure> {
    let body = serde_json::to_string(form).map_err(|e| Failure::usage(e.to_string()))?;
    let route = context.client.execution(&step.id, &["activities", &step.step.to_string(), what]);
    accepted(context, &context.client.post(&route, &body)?, said)
}
