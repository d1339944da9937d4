//! A run's steps, read off its history: each activity and timer with what became of it.

use std::collections::BTreeMap;

use relive_core::{
    Digest,
    event::{Attributes, HistoryEvent},
    fingerprint,
};

use crate::views::StepView;

/// The steps of a history, by command number.
pub(crate) fn steps(events: &[HistoryEvent]) -> Vec<StepView> {
    let mut steps: BTreeMap<u64, StepView> = BTreeMap::new();
    for event in events {
        begin_again(&mut steps, &event.body.attributes);
        let Some(command_no) = event.body.command_no else {
            continue;
        };
        match &event.body.attributes {
            Attributes::TaskScheduled(_) | Attributes::TimerCreated(_) => {
                steps.insert(command_no, begun(event, command_no));
            }
            Attributes::TaskCancelRequested(c) => {
                steps.entry(c.target).and_modify(|s| s.state = "canceled");
            }
            Attributes::TimerCanceled(c) => {
                steps.entry(c.target).and_modify(|s| s.state = "canceled");
            }
            _ => {
                steps.entry(command_no).and_modify(|step| resolve(step, event));
            }
        }
    }
    steps.into_values().collect()
}

/// Exhausted activities whose attempts begin again, by an operator or in a fork.
fn begin_again(steps: &mut BTreeMap<u64, StepView>, attributes: &Attributes) {
    let revived = match attributes {
        Attributes::CommandIssued(issued) if issued.revives().is_some() => issued.revives(),
        Attributes::ExecutionForked(_) => None,
        _ => return,
    };
    for (no, step) in steps.iter_mut().filter(|(_, step)| step.state == "exhausted") {
        if revived.is_none_or(|revived| revived == *no) {
            (step.state, step.attempts, step.failure) = ("pending", 1, None);
        }
    }
}

fn begun(event: &HistoryEvent, command_no: u64) -> StepView {
    let mut step = StepView {
        command_no,
        kind: "timer",
        name: String::new(),
        state: "pending",
        scheduled_event: event.event_id,
        resolved_event: None,
        attempts: 0,
        input: None,
        output: None,
        failure: None,
        deadline: None,
        fingerprint: fingerprint::step(event).map(|f| Digest(f).to_string()).unwrap_or_default(),
    };
    match &event.body.attributes {
        Attributes::TaskScheduled(a) => {
            (step.kind, step.name, step.input, step.attempts) =
                ("activity", a.name.to_string(), Some(a.input.clone()), 1);
        }
        Attributes::TimerCreated(t) => {
            step.name = format!("{:?}", std::time::Duration::from_nanos(t.duration));
            step.deadline = Some(t.deadline);
        }
        _ => {}
    }
    step
}

fn resolve(step: &mut StepView, event: &HistoryEvent) {
    match &event.body.attributes {
        Attributes::TaskStarted(a) => {
            step.attempts = a.attempt;
            return;
        }
        Attributes::TaskRetryScheduled(a) => {
            step.attempts = a.attempt + 1;
            step.failure = Some(a.failure.clone());
            return;
        }
        Attributes::TaskExhausted(a) => {
            (step.state, step.attempts, step.failure) = ("exhausted", a.attempts, Some(a.last_failure.clone()));
            return;
        }
        Attributes::TaskCompleted(a) => {
            (step.state, step.attempts, step.output, step.failure) =
                ("completed", a.attempt, Some(a.result.clone()), None);
        }
        Attributes::TaskFailed(a) => {
            (step.state, step.attempts, step.failure) = ("failed", a.attempt, Some(a.failure.clone()))
        }
        Attributes::TaskTimedOut(a) => {
            (step.state, step.attempts, step.failure) = ("timed-out", a.attempt, a.last_failure.clone())
        }
        Attributes::TaskCanceled(a) => {
            (step.state, step.attempts, step.failure) = ("canceled", a.attempt, Some(a.failure.clone()))
        }
        Attributes::TimerFired(_) => step.state = "completed",
        _ => return,
    }
    step.resolved_event = Some(event.event_id);
}
