//! The slower way of a batch: in a transaction that locks the execution rows in the order of their keys, so that every
//! refusal is told as it is. For runs that this host knows nothing of, starts of workflow ids that are taken, retries,
//! conflicts, successors, and several items of a run.

use std::collections::{HashMap, HashSet};

use relive_core::{
    Namespace, RunId, RunKey, Shard, WorkflowId,
    ports::{AppendError, AppendItem, Appended, NewExecution},
};

use super::{
    PostgresStore,
    append::{Outcome, note, write},
    batch::Batch,
    error::{self, Result, store_error},
    heads::Known,
    links::{Held, MAX_TRIES},
    rows::{self, Args, key_of},
};
use crate::check::{Head, Judged, Lookup, Stop, judge};

pub(super) const LOCK: &str = concat!(
    "SELECT ",
    rows::execution_columns!(),
    " FROM executions WHERE key = ANY ($1::int8[]) ORDER BY key FOR UPDATE"
);
/// Nobody claims these shards before the transaction ends.
pub(super) const FENCES: &str =
    "SELECT shard, epoch FROM shards WHERE shard = ANY ($1::int2[]) ORDER BY shard FOR KEY SHARE";
pub(super) const KNOWN_KEYS: &str = "SELECT k.run, k.key FROM unnest($1::int8[], $2::text[]) AS n(run, key) \
    JOIN inbound_keys k ON k.run = n.run AND k.key = n.key";
pub(super) const OPEN_RUNS: &str = "SELECT n.namespace, n.workflow_id, x.run_id \
    FROM unnest($1::text[], $2::text[]) AS n(namespace, workflow_id) CROSS JOIN LATERAL ( \
    SELECT uuid_send(run_id) AS run_id FROM executions \
    WHERE namespace = n.namespace AND workflow_id = n.workflow_id AND status <= 1 LIMIT 1) x";

/// Appends items whose fate is not clear. Races are run again; a batch that an item spoils is halved until that item
/// stands alone.
pub(super) fn slow(store: &PostgresStore, items: &[&AppendItem]) -> Vec<Outcome> {
    if items.is_empty() {
        return Vec::new();
    }
    let mut tries = 1;
    let error = loop {
        match attempt(store, items) {
            Ok(Some(outcomes)) => return outcomes,
            Ok(None) if tries < MAX_TRIES => {}
            Ok(None) => break error::overtaken(),
            Err(error) if error::is_race(&error) && tries < MAX_TRIES => {
                tracing::debug!(%error, tries, "a transaction lost a race and is tried again");
            }
            Err(error) => break error,
        }
        tries += 1;
    };
    if items.len() > 1 && error::is_of_an_item(&error) {
        tracing::warn!(%error, items = items.len(), "a batch failed and is halved");
        let (left, right) = items.split_at(items.len() / 2);
        let mut outcomes = slow(store, left);
        outcomes.extend(slow(store, right));
        return outcomes;
    }
    vec![Err(AppendError::Backend(store_error(&error))); items.len()]
}

/// One transaction. Nothing: another one came in between where no row could be locked, and all must be judged again.
fn attempt(store: &PostgresStore, items: &[&AppendItem]) -> Result<Option<Vec<Outcome>>> {
    let mut link = store.writes.take()?;
    link.begin()?;
    let mut rows =
        match Rows::load(store, &mut link, items).and_then(|rows| rows.judge_and_write(store, &mut link, items)) {
            Ok(Some(rows)) => rows,
            result => {
                let undone = link.rollback();
                return result.and(undone).map(|()| None);
            }
        };
    store.count_round_trip();
    if rows.judged.iter().any(|(_, j)| j.is_ok()) {
        link.commit()?
    } else {
        link.rollback()?
    }
    let mut heads = store.heads.lock();
    for (run, (head, name)) in &rows.heads {
        if head.status.is_open() {
            heads.put(*run, Known { head: head.clone(), name: name.clone() });
        }
    }
    for (item, judged) in &rows.judged {
        if let Ok(judged) = judged {
            note(&mut heads, item, &judged.after);
        }
    }
    drop(heads);
    drop(link);
    let outcome = |(item, judged): (&AppendItem, std::result::Result<Judged, AppendError>)| match judged {
        Ok(judged) => Ok(Appended { last_event_id: judged.after.last_event_id }),
        Err(AppendError::Conflict { expected, actual, .. }) => {
            let tail = store.read_events(item.run, expected + 1, actual, usize::MAX)?;
            Err(AppendError::Conflict { expected, actual, tail })
        }
        Err(error) => Err(error),
    };
    Ok(Some(std::mem::take(&mut rows.judged).into_iter().map(outcome).collect()))
}

/// What the transaction sees, with the items before.
#[derive(Default)]
struct Rows<'a> {
    heads: HashMap<RunKey, (Head, (Namespace, WorkflowId))>,
    keys: HashSet<(RunKey, String)>,
    open: HashMap<(Namespace, WorkflowId), RunId>,
    epochs: HashMap<Shard, u64>,
    judged: Vec<(&'a AppendItem, std::result::Result<Judged, AppendError>)>,
}

fn name_of(new: &NewExecution) -> (Namespace, WorkflowId) {
    (new.execution.namespace.clone(), new.execution.workflow_id.clone())
}

impl<'a> Rows<'a> {
    /// Locks the rows of all runs, and looks up keys and names.
    fn load(store: &PostgresStore, link: &mut Held<'_>, items: &[&'a AppendItem]) -> Result<Self> {
        let mut rows = Self::default();
        let all = || items.iter().flat_map(|item| [Some(*item), item.successor.as_deref()]).flatten();
        let mut runs: Vec<i64> = all().map(|item| key_of(item.run)).collect();
        runs.sort_unstable();
        runs.dedup();
        store.count_round_trip();
        for row in link.rows(LOCK, Args::default().add(runs).done()?)? {
            let (execution, log_count) = rows::execution(&row)?;
            let (known, name) = (Known::of(&execution, log_count), execution.execution);
            rows.heads.insert(execution.key, (known.head, (name.namespace, name.workflow_id)));
        }
        let (runs, keys): (Vec<i64>, Vec<&str>) =
            all().flat_map(|item| item.inbound_keys.iter().map(|key| (key_of(item.run), key.as_str()))).unzip();
        if !keys.is_empty() {
            store.count_round_trip();
            for row in link.rows(KNOWN_KEYS, Args::default().add(runs).add(keys).done()?)? {
                rows.keys.insert((RunKey(rows::number(&row, 0)?), rows::text(&row, 1)?.to_owned()));
            }
        }
        let names: HashSet<(&str, &str)> = all()
            .filter_map(|item| item.create.as_ref())
            .map(|new| (new.execution.namespace.as_str(), new.execution.workflow_id.as_str()))
            .collect();
        let (namespaces, ids): (Vec<&str>, Vec<&str>) = names.into_iter().unzip();
        if !ids.is_empty() {
            store.count_round_trip();
            let shards: Vec<i16> = all().map(|item| item.run.shard().0.into()).collect();
            for row in link.rows(FENCES, Args::default().add(shards).done()?)? {
                rows.epochs.insert(Shard(rows::tiny(&row, 0)?), rows::number(&row, 1)?);
            }
            store.count_round_trip();
            for row in link.rows(OPEN_RUNS, Args::default().add(namespaces).add(ids).done()?)? {
                let name = (rows::namespace(&row, 0)?, rows::workflow_id(&row, 1)?);
                rows.open.insert(name, rows::run_id(&row, 2)?);
            }
        }
        Ok(rows)
    }

    /// Judges the items in order and writes those that are good, as many with one statement as touch different runs and
    /// workflow ids. Nothing: a row was not written, since another transaction made one that could not be locked.
    fn judge_and_write(
        mut self,
        store: &PostgresStore,
        link: &mut Held<'_>,
        items: &[&'a AppendItem],
    ) -> Result<Option<Self>> {
        let (mut batch, mut touched) = (Batch::new(store.feeds), HashSet::new());
        for item in items {
            let judged = match judge(&self, item) {
                Ok(judged) => judged,
                Err(Stop::Refused(error)) => {
                    self.judged.push((item, Err(error)));
                    continue;
                }
                Err(Stop::Store(never)) => match never {},
            };
            let name = self.name_after(item);
            if touched.contains(&name) {
                if !flush(store, link, &std::mem::replace(&mut batch, Batch::new(store.feeds)))? {
                    return Ok(None);
                }
                touched.clear();
            }
            touched.insert(name);
            batch.take(item, &judged)?;
            self.apply(item, &judged);
            self.judged.push((item, Ok(judged)));
        }
        Ok(flush(store, link, &batch)?.then_some(self))
    }

    fn name_after(&self, item: &AppendItem) -> Option<(Namespace, WorkflowId)> {
        match &item.create {
            Some(new) => Some(name_of(new)),
            None => self.heads.get(&item.run).map(|(_, name)| name.clone()),
        }
    }

    fn apply(&mut self, item: &AppendItem, judged: &Judged) {
        self.apply_one(item, &judged.after);
        if let (Some(next), Some(head)) = (&item.successor, &judged.successor) {
            self.apply_one(next, head);
        }
    }

    fn apply_one(&mut self, item: &AppendItem, after: &Head) {
        let Some(name) = self.name_after(item) else {
            return;
        };
        if !after.status.is_open() {
            self.open.remove(&name);
        } else if let Some(new) = &item.create {
            self.open.insert(name.clone(), new.execution.run_id);
        }
        self.heads.insert(item.run, (after.clone(), name));
        self.keys.extend(item.inbound_keys.iter().map(|key| (item.run, key.clone())));
    }
}

impl Lookup for Rows<'_> {
    type Error = std::convert::Infallible;

    fn head(&self, run: RunKey) -> std::result::Result<Option<Head>, Self::Error> {
        Ok(self.heads.get(&run).map(|(head, _)| head.clone()))
    }

    fn has_inbound_key(&self, run: RunKey, key: &str) -> std::result::Result<bool, Self::Error> {
        Ok(self.keys.contains(&(run, key.to_owned())))
    }

    fn open_run(&self, namespace: &Namespace, id: &WorkflowId) -> std::result::Result<Option<RunId>, Self::Error> {
        Ok(self.open.get(&(namespace.clone(), id.clone())).copied())
    }

    fn shard_epoch(&self, run: RunKey) -> std::result::Result<u64, Self::Error> {
        Ok(self.epochs.get(&run.shard()).copied().unwrap_or(0))
    }

    fn name(&self, run: RunKey) -> std::result::Result<Option<(Namespace, WorkflowId)>, Self::Error> {
        Ok(self.heads.get(&run).map(|(_, name)| name.clone()))
    }
}

/// Writes what was gathered; whether all of it was.
fn flush(store: &PostgresStore, link: &mut Held<'_>, batch: &Batch<'_>) -> Result<bool> {
    Ok(batch.is_empty() || write(store, link, batch)?.len() == batch.runs.len())
}
