//! Asks somebody for an approval and waits for the answer or the deadline, whichever is first. Either way whoever asked
//! is told; an approver who is too late, or whose answer is no longer needed, is told that.

use relive_sdk::{activity, log, message, now, publish, select, timer, workflow, Either, Failure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What a message that is no decision fails with.
const UNREADABLE: &str = "decode-error";

#[derive(Deserialize, JsonSchema)]
struct Request {
    /// What is to be approved.
    subject: String,
    requested_by: String,
    approver: String,
    /// How long the approver has, in milliseconds.
    #[serde(default = "a_day")]
    timeout_ms: u64,
}

fn a_day() -> u64 {
    86_400_000
}

/// A message on the channel `decision`.
#[derive(Deserialize)]
struct Decision {
    approved: bool,
    #[serde(default)]
    comment: String,
}

#[derive(Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Outcome {
    Approved,
    Rejected,
    TimedOut,
}

#[derive(Serialize, JsonSchema)]
struct Answer {
    outcome: Outcome,
    comment: String,
}

/// The value published as `approval`.
#[derive(Serialize)]
#[serde(tag = "phase", rename_all = "kebab-case")]
enum State<'a> {
    /// Until then, in milliseconds since 1970.
    Waiting {
        approver: &'a str,
        until_ms: u64,
    },
    Decided {
        outcome: Outcome,
    },
    Withdrawn,
}

#[derive(Serialize)]
struct Letter<'a> {
    to: &'a str,
    text: String,
}

/// Waits for a decision, but not for ever.
#[workflow(channels = ["decision"])]
async fn approval(request: Request) -> Result<Answer, Failure> {
    write_to(&request.approver, format!("please approve: {}", request.subject)).await?;
    let answer = match decide(&request).await {
        Ok(answer) => answer,
        Err(failure) => {
            publish("approval", &State::Withdrawn)?;
            write_to(&request.approver, format!("no longer needed: {}", request.subject)).await?;
            return Err(failure);
        }
    };
    publish("approval", &State::Decided { outcome: answer.outcome })?;
    let text = match answer.outcome {
        Outcome::Approved => format!("approved: {}", request.subject),
        Outcome::Rejected => format!("rejected: {}", request.subject),
        Outcome::TimedOut => {
            write_to(&request.approver, format!("too late: {}", request.subject)).await?;
            format!("nobody answered: {}", request.subject)
        }
    };
    write_to(&request.requested_by, text).await?;
    Ok(answer)
}

/// The race. One timer for all of it: a message that cannot be read does not begin the time anew.
async fn decide(request: &Request) -> Result<Answer, Failure> {
    let time = Duration::from_millis(request.timeout_ms);
    let until_ms = u64::try_from((now() + time).as_millis()).unwrap_or(u64::MAX);
    publish("approval", &State::Waiting { approver: &request.approver, until_ms })?;
    let mut deadline = timer(time).start();
    loop {
        match select(message::<Decision>("decision"), &mut deadline).await {
            Either::Left(Ok(Decision { approved, comment })) => {
                let outcome = if approved { Outcome::Approved } else { Outcome::Rejected };
                return Ok(Answer { outcome, comment });
            }
            Either::Left(Err(failure)) if failure.code == UNREADABLE => {
                log::warn!("not a decision: {failure}"; approver = request.approver);
            }
            Either::Left(Err(failure)) => return Err(failure),
            Either::Right(fired) => {
                fired?;
                return Ok(Answer { outcome: Outcome::TimedOut, comment: String::new() });
            }
        }
    }
}

async fn write_to(to: &str, text: String) -> Result<(), Failure> {
    activity("write", &Letter { to, text }).max_attempts(5).await
}

relive_sdk::workflows![approval];
