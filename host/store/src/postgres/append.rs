//! The hot path: what can be judged by what this host knows goes in one statement, committed with it: one round trip a
//! batch. The statement repeats the conditions, so that what this host knows may be wrong; an item that does not come
//! back as written, or that was not to be judged, goes the slower way (`slow`), in the order of the batch.

use std::collections::HashSet;

use relive_core::{
    Namespace, RunId, RunKey, WorkflowId,
    ports::{AppendError, AppendItem, Appended, StoreError},
};
use sqlx::AssertSqlSafe;

use super::{
    PostgresStore,
    batch::Batch,
    error::{self, Result, store_error},
    heads::{Heads, Known},
    links::Held,
    rows,
    slow::slow,
};
use crate::check::{Head, Judged, Lookup, judge};

pub(super) type Outcome = std::result::Result<Appended, AppendError>;

/// A statement takes that many items at most, and as many bytes of events: a server copies them a few times.
const MAX_ITEMS: usize = 512;
const MAX_BYTES: usize = 8 << 20;

/// Appends a batch; see the port.
pub(super) fn append(store: &PostgresStore, batch: &[AppendItem]) -> Vec<Outcome> {
    let mut outcomes = Vec::with_capacity(batch.len());
    let mut rest = batch;
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(chunk(rest));
        outcomes.extend(append_chunk(store, chunk));
        rest = after;
    }
    outcomes
}

/// How many of the first items go together.
fn chunk(items: &[AppendItem]) -> usize {
    let mut bytes = 0;
    let fits = |item: &&AppendItem| {
        bytes += item.events.iter().map(|e| e.bytes.len()).sum::<usize>();
        bytes <= MAX_BYTES
    };
    items.iter().take(MAX_ITEMS).take_while(fits).count().max(1)
}

fn append_chunk(store: &PostgresStore, items: &[AppendItem]) -> Vec<Outcome> {
    let known = known(&mut store.heads.lock(), items);
    let fast = select(&known, items);
    let mut outcomes: Vec<Option<Outcome>> = vec![None; items.len()];
    match try_fast(store, items, &fast) {
        Ok(done) => {
            let mut heads = store.heads.lock();
            for (n, judged) in &fast {
                let item = &items[*n];
                if done.contains(&item.run) {
                    note(&mut heads, item, &judged.after);
                    outcomes[*n] = Some(Ok(Appended { last_event_id: judged.after.last_event_id }));
                } else {
                    heads.forget(item.run);
                }
            }
        }
        // Nothing was committed, and a closer look will tell why.
        Err(error) if error::is_race(&error) || error::is_of_an_item(&error) => {
            tracing::debug!(%error, items = fast.len(), "a batch goes the slower way");
        }
        Err(error) => {
            let error = store_error(&error);
            let mut heads = store.heads.lock();
            fast.iter().for_each(|(n, _)| heads.forget(items[*n].run));
            return vec![Err(AppendError::Backend(error)); items.len()];
        }
    }
    let rest: Vec<usize> = (0..items.len()).filter(|n| outcomes[*n].is_none()).collect();
    let slower = slow(store, &rest.iter().map(|n| &items[*n]).collect::<Vec<_>>());
    for (n, outcome) in rest.into_iter().zip(slower) {
        outcomes[n] = Some(outcome);
    }
    let missing =
        || Err(AppendError::Backend(StoreError::new(relive_core::ports::StoreErrorKind::Fatal, "no outcome")));
    outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(missing)).collect()
}

/// What this host knows of the items' runs.
fn known(heads: &mut Heads, items: &[AppendItem]) -> Vec<Option<Known>> {
    items.iter().map(|item| heads.get(item.run).cloned()).collect()
}

/// The items that are good by what this host knows, in the order of their runs, as rows are locked. An item whose run or
/// workflow id an earlier one of the batch touches must wait for what becomes of that one.
fn select(known: &[Option<Known>], items: &[AppendItem]) -> Vec<(usize, Judged)> {
    let mut runs = HashSet::new();
    let mut names: HashSet<(Namespace, WorkflowId)> = HashSet::new();
    let mut fast: Vec<(usize, Judged)> = Vec::with_capacity(items.len());
    for (n, (item, known)) in items.iter().zip(known).enumerate() {
        let name = match &item.create {
            Some(new) => Some((new.execution.namespace.clone(), new.execution.workflow_id.clone())),
            None if item.row.status.is_open() => None,
            None => known.as_ref().map(|k| k.name.clone()),
        };
        let simple = item.successor.is_none() && (item.create.is_some() || item.inbound_keys.len() <= 1);
        let first = runs.insert(item.run) & name.is_none_or(|name| names.insert(name));
        if !first || !simple {
            continue;
        }
        let guess = Guess { run: item.run, head: known.as_ref().map(|k| &k.head) };
        if let Ok(judged) = judge(&guess, item) {
            fast.push((n, judged));
        }
    }
    fast.sort_by_key(|(n, _)| items[*n].run);
    fast
}

/// What this host believes. Keys and names are looked up by the statement.
struct Guess<'a> {
    run: RunKey,
    head: Option<&'a Head>,
}

impl Lookup for Guess<'_> {
    type Error = std::convert::Infallible;

    fn head(&self, run: RunKey) -> std::result::Result<Option<Head>, Self::Error> {
        Ok(self.head.filter(|_| run == self.run).cloned())
    }

    fn has_inbound_key(&self, _run: RunKey, _key: &str) -> std::result::Result<bool, Self::Error> {
        Ok(false)
    }

    fn open_run(&self, _namespace: &Namespace, _id: &WorkflowId) -> std::result::Result<Option<RunId>, Self::Error> {
        Ok(None)
    }

    fn name(&self, _run: RunKey) -> std::result::Result<Option<(Namespace, WorkflowId)>, Self::Error> {
        Ok(None)
    }
}

fn try_fast(store: &PostgresStore, items: &[AppendItem], fast: &[(usize, Judged)]) -> Result<HashSet<RunKey>> {
    let mut batch = Batch::new(store.feeds);
    for (n, judged) in fast {
        batch.take(&items[*n], judged)?;
    }
    if batch.is_empty() {
        return Ok(HashSet::new());
    }
    write(store, &mut store.writes.take()?, &batch)
}

/// Writes a batch, and tells the runs that were written.
pub(super) fn write(store: &PostgresStore, link: &mut Held<'_>, batch: &Batch<'_>) -> Result<HashSet<RunKey>> {
    store.count_round_trip();
    let sql = store.statements.get(batch.parts());
    let rows = link.rows(AssertSqlSafe(sql), batch.args()?.done()?)?;
    rows.iter().map(|row| rows::number(row, 0).map(RunKey)).collect()
}

/// Remembers where a run stands after an item that was committed.
pub(super) fn note(heads: &mut Heads, item: &AppendItem, after: &Head) {
    if !after.status.is_open() {
        return heads.forget(item.run);
    }
    let name = match &item.create {
        Some(new) => Some((new.execution.namespace.clone(), new.execution.workflow_id.clone())),
        None => heads.get(item.run).map(|k| k.name.clone()),
    };
    if let Some(name) = name {
        heads.put(item.run, Known { head: after.clone(), name });
    }
}
