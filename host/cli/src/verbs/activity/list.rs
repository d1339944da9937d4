//! `relive activity list --pending`.

use crate::{
    Context,
    exit::{Exit, Failure},
    output::{self, Table, until},
    wire::{PendingActivity, items},
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Those that are not resolved; what else there is stands in the histories
    #[arg(long, required = true)]
    pending: bool,
    /// Only those of this execution
    #[arg(long, value_name = "ID")]
    workflow_id: Option<String>,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    debug_assert!(args.pending, "clap requires it");
    let route = context.client.namespace("activities/pending").query_if("workflow_id", args.workflow_id.as_deref());
    let activities = context.client.all(&route, "activities")?;
    if context.global.json {
        output::items("activities", &activities)?;
        return Ok(Exit::Ok);
    }
    let activities: Vec<PendingActivity> = items(&activities)?;
    if activities.is_empty() {
        output::note(context, "no activity is pending");
        return Ok(Exit::Ok);
    }
    let head = ["EXECUTION", "STEP", "ACTIVITY", "STATE", "ATTEMPT", "LAST FAILURE", "NEXT TRY", "QUEUE", "WORKER"];
    let mut table = Table::new(&head);
    for activity in activities {
        let (state, attempt, failure, next) = words(&activity);
        table.row([
            activity.workflow_id,
            activity.command_no.to_string(),
            activity.activity,
            state,
            attempt,
            failure,
            next,
            activity.task_queue.unwrap_or_default(),
            activity.worker.unwrap_or_default(),
        ]);
    }
    output::line(&table.render())?;
    Ok(Exit::Ok)
}

/// State, attempt, last failure and next try, in words.
fn words(activity: &PendingActivity) -> (String, String, String, String) {
    let state = match activity.cancel_requested {
        true => format!("{} (cancel requested)", activity.state),
        false => activity.state.clone(),
    };
    let attempt = match activity.maximum_attempts {
        0 => activity.attempt.to_string(),
        most => format!("{}/{most}", activity.attempt),
    };
    let failure = activity.last_failure.as_ref().map_or_else(String::new, |f| match f.message.as_str() {
        "" => f.code.clone(),
        message => format!("{}: {message}", f.code),
    });
    let next = match activity.state.as_str() {
        "backing-off" => until(activity.due_at),
        _ => String::new(),
    };
    (state, attempt, failure, next)
}
