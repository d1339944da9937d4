//! Appending in memory: judge, then change; nothing can fail in between.

use std::{
    collections::{BTreeMap, HashSet},
    convert::Infallible,
};

use relive_core::{
    Namespace, RunId, RunKey, Timestamp, WorkflowId,
    canonical_hash::GENESIS,
    ports::{AppendError, AppendItem, Appended, ExecutionRow, NewExecution, Published},
};

use super::{Run, State};
use crate::check::{Head, Lookup, Stop, judge};

impl Lookup for State {
    type Error = Infallible;

    fn head(&self, run: RunKey) -> Result<Option<Head>, Infallible> {
        Ok(self.runs.get(&run).map(|r| Head {
            status: r.row.status,
            epoch: r.row.epoch,
            last_event_id: r.row.last_event_id,
            last_hash: r.row.last_hash,
            last_timestamp: r.row.last_timestamp,
            last_inbound_id: r.row.last_inbound_id,
            applied_through: r.row.applied_through,
            command_count: r.row.command_count,
            history_bytes: r.row.history_bytes,
            log_count: r.logs.len() as u64,
        }))
    }

    fn has_inbound_key(&self, run: RunKey, key: &str) -> Result<bool, Infallible> {
        Ok(self.runs.get(&run).is_some_and(|r| r.inbound_keys.contains(key)))
    }

    fn open_run(&self, namespace: &Namespace, id: &WorkflowId) -> Result<Option<RunId>, Infallible> {
        let key = self.open.get(&(namespace.clone(), id.clone()));
        Ok(key.and_then(|key| self.runs.get(key)).map(|r| r.row.execution.run_id))
    }

    fn shard_epoch(&self, _run: RunKey) -> Result<u64, Infallible> {
        Ok(self.fence)
    }

    fn name(&self, run: RunKey) -> Result<Option<(Namespace, WorkflowId)>, Infallible> {
        Ok(self.runs.get(&run).map(|r| (r.row.execution.namespace.clone(), r.row.execution.workflow_id.clone())))
    }
}

impl State {
    pub(super) fn append(&mut self, item: &AppendItem) -> Result<Appended, AppendError> {
        let judged = match judge(self, item) {
            Ok(judged) => judged,
            Err(Stop::Refused(AppendError::Conflict { expected, actual, .. })) => {
                let tail = self
                    .runs
                    .get(&item.run)
                    .map_or(Vec::new(), |r| r.events.iter().filter(|e| e.event_id > expected).cloned().collect());
                return Err(AppendError::Conflict { expected, actual, tail });
            }
            Err(Stop::Refused(error)) => return Err(error),
            Err(Stop::Store(never)) => match never {},
        };
        self.apply(item, &judged.after);
        if let (Some(next), Some(head)) = (&item.successor, &judged.successor) {
            self.apply(next, head);
        }
        Ok(Appended { last_event_id: judged.after.last_event_id })
    }

    fn apply(&mut self, item: &AppendItem, head: &Head) {
        if let Some(new) = &item.create {
            self.last_key = self.last_key.max(item.run.0 >> 8);
            self.runs.insert(item.run, new_run(item.run, new));
            self.open.insert((new.execution.namespace.clone(), new.execution.workflow_id.clone()), item.run);
        }
        let Some(run) = self.runs.get_mut(&item.run) else {
            return;
        };
        set_row(&mut run.row, item, head);
        run.events.extend(item.events.iter().cloned());
        run.inbound_keys.extend(item.inbound_keys.iter().cloned());
        run.logs.extend(item.logs.iter().cloned());
        let event_id = head.last_event_id;
        run.published.extend(
            item.published
                .iter()
                .map(|(key, value)| (key.clone(), Published { key: key.clone(), value: value.clone(), event_id })),
        );
        run.tasks.extend(item.put_tasks.iter().map(|t| (t.command_no, t.clone())));
        item.remove_tasks.iter().for_each(|no| {
            run.tasks.remove(no);
        });
        for timer in run.timers.values() {
            self.timers.remove(timer);
        }
        run.timers.extend(item.put_timers.iter().map(|t| (t.command_no, *t)));
        item.remove_timers.iter().for_each(|no| {
            run.timers.remove(no);
        });
        if head.status.is_open() {
            self.timers.extend(run.timers.values());
            item.image.iter().for_each(|image| run.keep_image(image));
        } else {
            run.images.clear();
            run.tasks.clear();
            run.timers.clear();
            self.open.remove(&(run.row.execution.namespace.clone(), run.row.execution.workflow_id.clone()));
        }
    }
}

fn set_row(row: &mut ExecutionRow, item: &AppendItem, head: &Head) {
    row.status = head.status;
    row.blocked = item.row.blocked;
    row.epoch = head.epoch;
    row.last_event_id = head.last_event_id;
    row.last_hash = head.last_hash;
    row.last_timestamp = head.last_timestamp;
    row.last_inbound_id = head.last_inbound_id;
    row.applied_through = head.applied_through;
    row.command_count = head.command_count;
    row.history_bytes = head.history_bytes;
    row.digest = item.row.digest.unwrap_or(row.digest);
    if item.row.reset_crashes {
        row.crashes = 0;
    }
    if !head.status.is_open() {
        row.closed_at = Some(head.last_timestamp);
    }
}

fn new_run(key: RunKey, new: &NewExecution) -> Run {
    let row = ExecutionRow {
        key,
        execution: new.execution.clone(),
        workflow: new.workflow.clone(),
        digest: new.digest,
        status: relive_core::ports::Status::Running,
        blocked: None,
        epoch: 0,
        last_event_id: 0,
        last_hash: GENESIS,
        last_timestamp: Timestamp(0),
        last_inbound_id: 0,
        applied_through: 0,
        command_count: 0,
        history_bytes: 0,
        crashes: 0,
        started_at: new.started_at,
        closed_at: None,
        correlation_id: new.correlation_id.clone(),
    };
    Run {
        row,
        events: Vec::new(),
        tasks: BTreeMap::new(),
        timers: BTreeMap::new(),
        inbound_keys: HashSet::new(),
        published: BTreeMap::new(),
        logs: Vec::new(),
        images: BTreeMap::new(),
    }
}
