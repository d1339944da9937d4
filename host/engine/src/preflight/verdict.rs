//! The verdict of one execution.

use std::{collections::BTreeMap, sync::Arc};

use relive_core::{
    Digest, RunId,
    cursor::{Cursor, Divergence, RunContext},
    event::{Attributes, HistoryEvent},
    guest::{Guest, GuestFault},
    life::{Life, Record, TurnError},
    ports::ExecutionRow,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::Ready;
use crate::{
    context::Context,
    facade::{open_promises, record},
    owner::decoded_history,
    schema,
    views::OpenPromise,
};

/// How an execution and other code get on.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Verdict {
    pub workflow_id: String,
    #[schema(value_type = schema::RunId)]
    pub run_id: RunId,
    #[schema(value_type = schema::Status)]
    pub status: relive_core::ports::Status,
    /// Events that it has.
    pub events: u64,
    #[serde(flatten)]
    pub outcome: PreflightOutcome,
    /// What `version()` answered.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub answers: BTreeMap<String, u32>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum PreflightOutcome {
    /// It runs on this code.
    SameCode,
    /// The code does what history says, and then waits for these, or has ended as history has.
    Agrees { next: Vec<OpenPromise> },
    Diverges {
        #[schema(value_type = schema::Divergence)]
        divergence: Box<Divergence>,
    },
    /// The code does not come through.
    Traps { fault: String },
    /// The history cannot be read.
    Unreadable { reason: String },
}

impl PreflightOutcome {
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::SameCode => "same-code",
            Self::Agrees { .. } => "agrees",
            Self::Diverges { .. } => "diverges",
            Self::Traps { .. } => "traps",
            Self::Unreadable { .. } => "unreadable",
        }
    }
}

pub(super) fn of(context: &Context, ready: &Ready, row: &ExecutionRow, always: bool) -> Verdict {
    let same = row.digest == ready.digest;
    let mut answers = BTreeMap::new();
    let (events, outcome) = if same && !always {
        (row.last_event_id, PreflightOutcome::SameCode)
    } else {
        match decoded_history(&*context.store, row.key) {
            Ok(Ok(mut events)) => {
                // What came since the row was read is not what it says was applied.
                events.truncate(usize::try_from(row.last_event_id).unwrap_or(usize::MAX));
                let instantiate = |cursor| ready.instantiate(context, cursor);
                let outcome = relive(&instantiate, ready.digest, record(row), &events, &mut answers);
                let same = same && matches!(outcome, PreflightOutcome::Agrees { .. });
                (events.len() as u64, if same { PreflightOutcome::SameCode } else { outcome })
            }
            Ok(Err(violation)) => (0, PreflightOutcome::Unreadable { reason: violation.to_string() }),
            Err(error) => (0, PreflightOutcome::Unreadable { reason: error.to_string() }),
        }
    };
    Verdict {
        workflow_id: row.execution.workflow_id.to_string(),
        run_id: row.execution.run_id,
        status: row.status,
        events,
        outcome,
        answers,
    }
}

/// Relives a history on other code, which `instantiate` makes an instance of.
pub(crate) fn relive(
    instantiate: &dyn Fn(Cursor) -> Result<Box<dyn Guest>, GuestFault>,
    digest: Digest,
    record: Record,
    events: &[HistoryEvent],
    answers: &mut BTreeMap<String, u32>,
) -> PreflightOutcome {
    let unreadable = |reason: &str| PreflightOutcome::Unreadable { reason: reason.to_owned() };
    let Some(start) = events.first() else { return unreadable("the history is empty") };
    let Attributes::ExecutionStarted(started) = &start.body.attributes else {
        return unreadable("the history does not begin with ExecutionStarted");
    };
    let run = Arc::new(RunContext::new(started, &start.body, start.timestamp, digest));
    let guest = match instantiate(Cursor::new(run)) {
        Ok(guest) => guest,
        // The host's trouble says nothing of the code.
        Err(GuestFault::Host(what) | GuestFault::Unavailable(what)) => return unreadable(&what),
        Err(fault) => return PreflightOutcome::Traps { fault: fault.to_string() },
    };
    let mut life = Life::new(guest);
    match life.relive(events, record, u64::MAX) {
        Ok(_) => {
            let cursor = life.guest().cursor();
            answers.clone_from(cursor.versions());
            PreflightOutcome::Agrees { next: open_promises(cursor, events) }
        }
        Err(TurnError::Diverged(divergence)) => PreflightOutcome::Diverges { divergence },
        Err(
            TurnError::Unusable(reason) | TurnError::Fault(GuestFault::Host(reason) | GuestFault::Unavailable(reason)),
        ) => PreflightOutcome::Unreadable { reason },
        Err(error) => PreflightOutcome::Traps { fault: error.to_string() },
    }
}

/// What a finding is about, without what tells one execution from another: quoted text and numbers.
pub(super) fn kind(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '0'..='9' => {
                out.push('N');
                while rest.next_if(|c| c.is_ascii_digit() || *c == '.').is_some() {}
            }
            '{' | '[' => {
                out.push('…');
                let mut depth = 1;
                while depth > 0
                    && let Some(c) = rest.next()
                {
                    depth += i32::from(matches!(c, '{' | '[')) - i32::from(matches!(c, '}' | ']'));
                }
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_told_apart_by_what_they_are_about() {
        let told = kind("activity charge({\"order\": 17, \"x\": [1, 2]}) as command 12");
        assert_eq!(told, "activity charge(…) as command N");
        assert_eq!(kind("activity charge({\"order\": 3}) as command 9"), told);
        assert_ne!(kind("activity refund({\"order\": 3}) as command 9"), told);
        assert_eq!(kind("timer of 1.5 s"), "timer of N s");
        assert_eq!(kind("[unclosed"), "…");
    }
}
