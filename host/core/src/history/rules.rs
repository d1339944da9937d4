//! What must hold of a decoded history, alone and against the rows that belong to it.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::Violation;
use crate::{
    event::{Attributes, HistoryEvent},
    options::CancellationType,
    time::Timestamp,
};

/// A numbered command and what became of it.
#[derive(Default)]
struct Step {
    deadline: Option<Timestamp>,
    resolved: bool,
    given_up: bool,
    /// Held until an operator decides.
    exhausted: bool,
}

/// Checks a whole history, oldest event first: I2 (times), I4, I5 (numbers), I6, I9.
pub fn validate(events: &[HistoryEvent]) -> Result<(), Violation> {
    steps(events).map(|_| ())
}

fn steps(events: &[HistoryEvent]) -> Result<BTreeMap<u64, Step>, Violation> {
    let mut steps: BTreeMap<u64, Step> = BTreeMap::new();
    let mut keys = HashSet::new();
    let mut last_command = 0;
    check_lifecycle(events)?;
    for (event, expected) in events.iter().zip(1..) {
        if event.event_id != expected {
            return Err(Violation::Gap { expected, found: event.event_id });
        }
        if let Some(key) = event.body.inbound_key()
            && !keys.insert(key.clone())
        {
            return Err(Violation::RepeatedInbound { event: event.event_id, key });
        }
        revive(&mut steps, &event.body.attributes);
        let Some(command_no) = event.body.command_no else {
            continue;
        };
        if event.event_type().is_numbered_command() {
            if command_no <= last_command {
                return Err(Violation::CommandOrder(event.event_id));
            }
            last_command = command_no;
            record(&mut steps, command_no, &event.body.attributes);
        } else if event.event_type().is_resolution() {
            resolve(&mut steps, event, command_no)?;
        } else {
            attempt(&mut steps, event, command_no)?;
        }
    }
    Ok(steps)
}

/// What lets the attempts of exhausted activities begin again: an operator, or a fork, which begins all of them anew.
fn revive(steps: &mut BTreeMap<u64, Step>, attributes: &Attributes) {
    match attributes {
        Attributes::CommandIssued(issued) => {
            if let Some(step) = issued.revives().and_then(|no| steps.get_mut(&no)) {
                step.exhausted = false;
            }
        }
        Attributes::ExecutionForked(_) => steps.values_mut().for_each(|s| s.exhausted = false),
        _ => {}
    }
}

/// No attempt of an activity begins while it is exhausted. What is said of one that was given up does not matter.
fn attempt(steps: &mut BTreeMap<u64, Step>, event: &HistoryEvent, command_no: u64) -> Result<(), Violation> {
    let exhausted = match event.body.attributes {
        Attributes::TaskExhausted(_) => true,
        Attributes::TaskStarted(_) | Attributes::TaskRetryScheduled(_) => false,
        _ => return Ok(()),
    };
    let wrong = |why| Err(Violation::Attempt { event: event.event_id, command_no, why });
    match steps.get_mut(&command_no) {
        None => wrong("which was not issued"),
        Some(step) if step.deadline.is_some() => wrong("which is of another kind"),
        Some(step) if step.given_up => Ok(()),
        Some(step) if step.resolved && exhausted => wrong("which was resolved before"),
        Some(step) if step.exhausted => wrong("which is exhausted: nobody let it begin again"),
        Some(step) => {
            step.exhausted = exhausted;
            Ok(())
        }
    }
}

fn record(steps: &mut BTreeMap<u64, Step>, command_no: u64, attributes: &Attributes) {
    match attributes {
        Attributes::TaskScheduled(_) => {
            steps.insert(command_no, Step::default());
        }
        Attributes::TimerCreated(t) => {
            steps.insert(command_no, Step { deadline: Some(t.deadline), ..Step::default() });
        }
        Attributes::TimerCanceled(c) => {
            steps.entry(c.target).and_modify(|s| s.given_up = true);
        }
        Attributes::TaskCancelRequested(c) if c.cancellation != CancellationType::Wait => {
            steps.entry(c.target).and_modify(|s| s.given_up = true);
        }
        _ => {}
    }
}

fn resolve(steps: &mut BTreeMap<u64, Step>, event: &HistoryEvent, command_no: u64) -> Result<(), Violation> {
    let wrong = |why| Err(Violation::Resolution { event: event.event_id, command_no, why });
    let Some(step) = steps.get_mut(&command_no) else {
        return wrong("which was not issued");
    };
    if step.resolved {
        return wrong("which was resolved before");
    }
    let timer = matches!(event.body.attributes, Attributes::TimerFired(_));
    if timer != step.deadline.is_some() {
        return wrong("which is of another kind");
    }
    if step.exhausted && !step.given_up && matches!(event.body.attributes, Attributes::TaskCompleted(_)) {
        return wrong("which is exhausted: nobody let it begin again");
    }
    step.resolved = true;
    match step.deadline {
        Some(deadline) if event.timestamp < deadline => Err(Violation::EarlyTimer {
            event: event.event_id,
            command_no,
            early_nanos: deadline.since(event.timestamp),
        }),
        _ => Ok(()),
    }
}

fn check_lifecycle(events: &[HistoryEvent]) -> Result<(), Violation> {
    let fail = |what: String| Err(Violation::Lifecycle(what));
    for (n, event) in events.iter().enumerate() {
        if matches!(event.body.attributes, Attributes::ExecutionStarted(_)) != (n == 0) {
            return fail(format!("ExecutionStarted must be event 1 and only that, see event {}", event.event_id));
        }
        if event.event_type().is_terminal() && n + 1 != events.len() {
            return fail(format!("event {} ends the run and is not the last", event.event_id));
        }
    }
    Ok(())
}

/// What the store holds of a run beside its events.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    pub open: bool,
    pub last_event_id: u64,
    pub last_inbound_id: u64,
    pub applied_through: u64,
    /// Command numbers of task and timer rows.
    pub tasks: BTreeSet<u64>,
    pub timers: BTreeSet<u64>,
    /// Those of the tasks that are marked as exhausted.
    pub exhausted: BTreeSet<u64>,
}

/// Checks a history against its rows (I7): an open run's task and timer rows are its unresolved commands, a closed
/// one has none, tasks are exhausted where history says so, and the row's numbers are the history's.
pub fn validate_rows(events: &[HistoryEvent], rows: &Rows) -> Result<(), Violation> {
    let steps = steps(events)?;
    let fail = |what: String| Err(Violation::Rows(what));
    let last = events.last().map_or(0, |e| e.event_id);
    if rows.last_event_id != last {
        return fail(format!("the row names event {} as the last, history ends with {last}", rows.last_event_id));
    }
    let inbound = events.iter().rev().find(|e| e.event_type().is_inbound()).map_or(0, |e| e.event_id);
    if rows.last_inbound_id != inbound || rows.applied_through > inbound {
        return fail(format!(
            "the row names inbound event {} applied {}, history {inbound}",
            rows.last_inbound_id, rows.applied_through
        ));
    }
    let closed = events.last().is_some_and(|e| e.event_type().is_terminal());
    if rows.open == closed {
        return fail(format!(
            "the row says {}, the last event says otherwise",
            if rows.open { "open" } else { "closed" }
        ));
    }
    let pending = |timer: bool| -> BTreeSet<u64> {
        let open = steps.iter().filter(|(_, s)| !closed && !s.resolved && !s.given_up && s.deadline.is_some() == timer);
        open.map(|(no, _)| *no).collect()
    };
    for (what, held, wanted) in [("task", &rows.tasks, pending(false)), ("timer", &rows.timers, pending(true))] {
        if let Some(no) = held.symmetric_difference(&wanted).next() {
            let state = if held.contains(no) { "a row and is not pending" } else { "no row and is pending" };
            return fail(format!("command {no} has {state} ({what})"));
        }
    }
    let wanted: BTreeSet<u64> = pending(false).into_iter().filter(|no| steps[no].exhausted).collect();
    if let Some(no) = rows.exhausted.symmetric_difference(&wanted).next() {
        let state =
            if wanted.contains(no) { "is exhausted and its row is not" } else { "is not exhausted, its row is" };
        return fail(format!("command {no} {state}"));
    }
    Ok(())
}
