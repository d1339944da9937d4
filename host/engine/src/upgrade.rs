//! Another engine over histories that are there: before a host takes executions up with code, settings or a machine that it
//! did not have when it ran last, it relives some of those that are open. Nothing is written.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use relive_core::{
    RunKey,
    guest::GuestFault,
    history::Violation,
    ports::{ExecutionRow, HistoryStore, ListFilter, Status, StoreError},
};

use crate::{
    facade::record,
    guests::GuestFactory,
    owner::decoded_history,
    preflight::{PreflightOutcome, relive},
};

/// Places in the store's order of runs at which some are taken, beside the newest: old histories have old formats.
const PLACES: u64 = 8;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpgradeReport {
    /// Open executions that were relived.
    pub checked: u64,
    /// Of those, the ones that do not agree, and how.
    pub differ: Vec<(String, String)>,
    /// Whether the time was up before the sample was through.
    pub cut_short: bool,
}

/// Relives up to `sample` open executions on their own components, for as long as `patience` lasts.
pub fn check_open(
    store: &dyn HistoryStore,
    guests: &dyn GuestFactory,
    sample: usize,
    patience: Duration,
) -> Result<UpgradeReport, StoreError> {
    let until = Instant::now() + patience;
    let mut report = UpgradeReport::default();
    for row in draw(store, sample)? {
        if Instant::now() >= until {
            report.cut_short = true;
            break;
        }
        report.checked += 1;
        if let Some(what) = differs(store, guests, &row)? {
            report.differ.push((row.execution.to_string(), what));
        }
    }
    Ok(report)
}

fn draw(store: &dyn HistoryStore, sample: usize) -> Result<Vec<ExecutionRow>, StoreError> {
    let filter = ListFilter { status: Some(Status::Running), ..ListFilter::default() };
    let mut drawn = store.list(&filter, None, sample.div_ceil(2))?;
    let newest = drawn.first().map_or(0, |row| row.key.0);
    let mut seen: BTreeSet<RunKey> = drawn.iter().map(|row| row.key).collect();
    for place in 1..=PLACES {
        let before = RunKey(newest / PLACES * place);
        let more = store.list(&filter, Some(before), sample / 2 / PLACES as usize)?;
        drawn.extend(more.into_iter().filter(|row| seen.insert(row.key)));
    }
    Ok(drawn)
}

fn differs(
    store: &dyn HistoryStore,
    guests: &dyn GuestFactory,
    row: &ExecutionRow,
) -> Result<Option<String>, StoreError> {
    let mut events = match decoded_history(store, row.key)? {
        Ok(events) => events,
        Err(violation @ Violation::Undecodable { .. }) => return Ok(Some(violation.to_string())),
        // Damage, which has nothing to do with who reads it.
        Err(_) => return Ok(None),
    };
    // Whoever owns it now may have gone on.
    events.truncate(usize::try_from(row.last_event_id).unwrap_or(usize::MAX));
    // Code that cannot be loaded says so before it says anything of the history.
    let unloadable = std::cell::RefCell::new(None);
    let instantiate = |cursor| {
        guests.instantiate(&row.digest, cursor).inspect_err(|fault| {
            if let GuestFault::Host(what) = fault {
                *unloadable.borrow_mut() = Some(what.clone());
            }
        })
    };
    let outcome = relive(&instantiate, row.digest, record(row), &events, &mut BTreeMap::new());
    if let Some(what) = unloadable.take() {
        return Ok(Some(what));
    }
    Ok(match outcome {
        PreflightOutcome::Diverges { divergence } => Some(divergence.to_string()),
        PreflightOutcome::Traps { fault } => Some(fault),
        PreflightOutcome::SameCode | PreflightOutcome::Agrees { .. } | PreflightOutcome::Unreadable { .. } => None,
    })
}
