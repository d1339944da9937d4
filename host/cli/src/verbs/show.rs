//! `relive show ID`.

use crate::{
    Context,
    client::decode,
    exit::{Exit, Failure},
    output::{self, Table, bytes, compact, duration, plain},
    wire::{Detail, Step, short},
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The execution's id
    id: String,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let answer = context.client.get(&context.client.execution(&args.id, &[]))?;
    if context.global.json {
        output::line(&answer)?;
        return Ok(Exit::Ok);
    }
    let detail: Detail = decode(&answer)?;
    output::line(&head(&detail).render())?;
    if !detail.steps.is_empty() {
        output::line(&format!("\n{}", steps(&detail.steps).render()))?;
    }
    if let Some(report) = &detail.block_report {
        output::line(&format!("\nblocked, and in need of you:\n{}", plain(report)))?;
        output::line(&format!(
            "what to do: deploy fixed code or remove the cause, then `relive unblock {}`",
            plain(&args.id)
        ))?;
    }
    Ok(Exit::Ok)
}

fn head(detail: &Detail) -> Table {
    let mut table = Table::headless(2);
    let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
    row("execution", detail.workflow_id.clone());
    row("run", detail.run_id.clone());
    row("workflow", format!("{} ({})", detail.workflow, short(&detail.digest)));
    row(
        "status",
        match &detail.blocked {
            Some(reason) => format!("{} ({reason})", detail.status.name()),
            None => detail.status.name().to_owned(),
        },
    );
    row("started", detail.started_at.to_string());
    if let Some(closed) = detail.closed_at {
        row("closed", format!("{closed}, after {}", duration(closed.since(detail.started_at))));
    }
    row("history", format!("{} events, {} commands, {}", detail.events, detail.commands, bytes(detail.history_bytes)));
    for waits_for in &detail.waits_for {
        row("waits for", waits_for.clone());
    }
    if detail.crashes > 0 {
        row("crashes", format!("the host died {} times while it ran", detail.crashes));
    }
    if let Some(correlation) = &detail.correlation_id {
        row("correlation", correlation.clone());
    }
    row("fingerprint", detail.fingerprint.clone());
    table
}

/// The steps of a run, as `state` shows them as well.
pub fn steps(steps: &[Step]) -> Table {
    let mut table = Table::new(&["STEP", "KIND", "NAME", "STATE", "ATTEMPTS", "EVENTS", "CAME TO"]);
    for step in steps {
        let came_to = match (&step.output, &step.failure, step.deadline) {
            (Some(output), _, _) => compact(output),
            (None, Some(failure), _) => failure.to_string(),
            (None, None, Some(deadline)) => format!("due {deadline}"),
            (None, None, None) => String::new(),
        };
        table.row([
            step.command_no.to_string(),
            step.kind.clone(),
            step.name.clone(),
            step.state.clone(),
            if step.attempts == 0 { String::new() } else { step.attempts.to_string() },
            step.resolved_event
                .map_or_else(|| step.scheduled_event.to_string(), |at| format!("{}-{at}", step.scheduled_event)),
            came_to,
        ]);
    }
    table
}
