//! Which executions a pre-flight checks.

use std::collections::BTreeMap;

use crossbeam_channel::Sender;
use relive_core::{
    Error, RunKey,
    ports::{ExecutionRow, ListFilter, Status},
};

use super::Work;
use crate::facade::store_error;

/// Rows of a list that are read at once.
const PAGE: usize = 1_000;

/// Sends the rows that are to be checked.
pub(super) fn list(work: &Work<'_>, rows: Sender<ExecutionRow>) -> Result<(), Error> {
    match work.request.sample {
        Some(sample) => list_sample(work, &rows, sample)?,
        None => {
            for status in [Status::Running, Status::Blocked] {
                walk(work, status, &mut |row| rows.send(row).is_ok())?;
            }
        }
    }
    let Some(within) = work.request.closed_within else { return Ok(()) };
    let now = work.context.clock.now().0;
    let since = now.saturating_sub(u64::try_from(within.as_nanos()).unwrap_or(u64::MAX));
    for status in Status::ALL.into_iter().filter(|status| !status.is_open()) {
        walk(work, status, &mut |row| row.closed_at.is_none_or(|at| at.0 < since) || rows.send(row).is_ok())?;
    }
    Ok(())
}

/// Some of the open ones: those whose keys have the smallest hashes, so that the same sample is drawn again.
fn list_sample(work: &Work<'_>, rows: &Sender<ExecutionRow>, sample: usize) -> Result<(), Error> {
    let mut drawn: BTreeMap<(u64, RunKey), ExecutionRow> = BTreeMap::new();
    for status in [Status::Running, Status::Blocked] {
        walk(work, status, &mut |row| {
            drawn.insert((mixed(row.key.0), row.key), row);
            if drawn.len() > sample {
                drawn.pop_last();
            }
            true
        })?;
    }
    // Nobody takes them any more once the pre-flight is over.
    let _ = drawn.into_values().all(|row| rows.send(row).is_ok());
    Ok(())
}

/// A number that has nothing to do with when a run was started (the finaliser of splitmix64).
fn mixed(key: u64) -> u64 {
    let mut z = key.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Walks the workflow's executions that stand like this, newest first, until it is told to stop.
fn walk(work: &Work<'_>, status: Status, take: &mut dyn FnMut(ExecutionRow) -> bool) -> Result<(), Error> {
    let filter = ListFilter {
        namespace: Some(work.request.namespace.clone()),
        workflow: Some(work.request.workflow.clone()),
        workflow_id: None,
        status: Some(status),
    };
    let mut before = None;
    loop {
        let page = work.context.store.list(&filter, before, PAGE).map_err(store_error)?;
        let more = page.len() == PAGE;
        before = page.last().map(|row| row.key);
        for row in page {
            if work.is_over() || !take(row) {
                return Ok(());
            }
        }
        if !more {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_spread() {
        let mut keys: Vec<u64> = (0..1_000).map(|n| n << 8).collect();
        keys.sort_by_key(|key| mixed(*key));
        let early = keys[..100].iter().filter(|key| **key < 500 << 8).count();
        assert!((35..65).contains(&early), "{early}");
    }
}
