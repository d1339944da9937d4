//! Waiting for the end of an execution, across long polls and restarts of the host.

use std::time::{Duration, Instant};

use relive_core::ports::Status;
use relive_engine::views::ResultView;

use crate::{
    Context,
    client::decode,
    exit::{Exit, Failure},
    output,
};

/// One long poll. Short enough that a blocked execution is told soon.
const POLL: Duration = Duration::from_secs(10);
/// A host that was killed is back within this, or somebody has to look.
const HOST_AWAY: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_millis(200);

/// Asks until the execution has ended, is blocked, or `timeout` is over. The answer is the host's text and its meaning.
pub fn for_result(context: &Context, id: &str, timeout: Option<Duration>) -> Result<(String, ResultView), Failure> {
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let mut away_since: Option<Instant> = None;
    let mut answered = false;
    loop {
        // The first question is a short one: whether there is such an execution, and a host to wait for.
        let poll = if answered { POLL } else { Duration::ZERO };
        let left = deadline.map_or(poll, |deadline| deadline.saturating_duration_since(Instant::now()).min(poll));
        let route = context.client.execution(id, &["result"]).query("wait_ms", left.as_millis());
        match context.client.get(&route) {
            Ok(answer) => {
                (answered, away_since) = (true, None);
                let view: ResultView = decode(&answer)?;
                if is_final(&view, context.global.run.is_some()) {
                    return Ok((answer, view));
                }
            }
            // A host that answered before is being restarted: what it acknowledged is still there.
            Err(failure) if answered && is_away(&failure) => {
                let since = *away_since.get_or_insert_with(|| {
                    output::note(context, "the host is away; waiting for it to come back");
                    Instant::now()
                });
                if since.elapsed() > HOST_AWAY {
                    return Err(failure);
                }
                std::thread::sleep(RETRY);
            }
            Err(failure) => return Err(failure),
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            let message = format!("execution {id} has not ended in the time given");
            return Err(Failure::new(Exit::Timeout, "timeout", message)
                .hint(format!("it goes on; `relive result {id} --wait` waits again")));
        }
    }
}

/// Whether there is nothing to wait for any more. A run that goes on as a new one is not the end, unless it was asked for.
fn is_final(view: &ResultView, one_run: bool) -> bool {
    match view.status {
        Status::Running => false,
        Status::ContinuedAsNew => one_run,
        _ => true,
    }
}

fn is_away(failure: &Failure) -> bool {
    failure.exit == Exit::Unreachable || failure.code == "shutting-down"
}

/// Shows how an execution stands, and turns it into the exit code.
pub fn tell(context: &Context, id: &str, answer: &str, view: &ResultView) -> Result<Exit, Failure> {
    let exit = match view.status {
        Status::Completed | Status::Running | Status::ContinuedAsNew => Exit::Ok,
        Status::Blocked | Status::Failed | Status::Canceled | Status::Terminated => Exit::Unsuccessful,
    };
    if context.global.json {
        output::line(answer)?;
        return Ok(exit);
    }
    match view.status {
        Status::Completed => output::line(view.result.as_ref().map_or("null", |json| json.as_str()))?,
        Status::Running => output::line("running")?,
        Status::ContinuedAsNew => output::line(&match view.continued_as {
            Some(run) => format!("continued as run {run}"),
            None => "continued as a new run".to_owned(),
        })?,
        Status::Blocked => {
            let why = view.blocked.as_deref().unwrap_or("no reason is recorded");
            output::complain(&format!("blocked: {why}"));
            output::complain(&format!(
                "what to do: `relive show {id}` has the report; `relive unblock {id}` lets it try again"
            ));
        }
        status => output::complain(&match &view.failure {
            Some(failure) => format!("{}: {failure}", status.name()),
            None => status.name().to_owned(),
        }),
    }
    Ok(exit)
}
