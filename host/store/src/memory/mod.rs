//! The store in memory: the ports' meaning in its plainest form. Nothing survives the process.

mod append;
mod catalog;
mod cluster;
mod workers;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    ops::Bound,
    sync::Arc,
};

use parking_lot::Mutex;
use relive_core::{
    Namespace, RunId, RunKey, Shard, ShardSet, Timestamp, WorkflowId,
    codec::StoredEvent,
    cursor::LogLine,
    ports::{
        AppendError, AppendItem, Appended, Census, ExecutionRow, HistoryStore, ImageStore, KEPT_IMAGES, ListFilter,
        PREPARED_EVENT_BYTES, PREPARED_EVENTS, PREPARED_IMAGE_BYTES, Prepared, Published, Status, StoreError,
        StoreErrorKind, StoredImage, Taken, TaskRow, TimerRow, VersionCount, WakingKit, Wanted,
    },
};

use crate::check::MAX_RUN_KEY;

/// For tests: nothing is cheaper here.
const TOGETHER: usize = 64;

/// One run with all that belongs to it.
struct Run {
    row: ExecutionRow,
    events: Vec<StoredEvent>,
    tasks: BTreeMap<u64, TaskRow>,
    timers: BTreeMap<u64, TimerRow>,
    inbound_keys: HashSet<String>,
    published: BTreeMap<String, Published>,
    logs: Vec<LogLine>,
    images: BTreeMap<u64, Arc<[u8]>>,
}

#[derive(Default)]
struct State {
    runs: BTreeMap<RunKey, Run>,
    /// Open runs by name.
    open: HashMap<(Namespace, WorkflowId), RunKey>,
    timers: BTreeSet<TimerRow>,
    last_key: u64,
    /// The epoch under which the shard of the run that is appended to is owned.
    fence: u64,
}

/// Histories and catalog in memory.
#[derive(Default)]
pub struct MemoryStore {
    state: Mutex<State>,
    catalog: catalog::Shelves,
    hosts: Mutex<cluster::Hosts>,
    workers: Mutex<workers::Workers>,
}

impl MemoryStore {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Run {
    fn work(&self) -> (Vec<TaskRow>, Vec<TimerRow>) {
        (self.tasks.values().cloned().collect(), self.timers.values().copied().collect())
    }

    fn keep_image(&mut self, image: &StoredImage) {
        self.images.insert(image.event_id, image.bytes.clone());
        while self.images.len() > KEPT_IMAGES {
            self.images.pop_first();
        }
    }

    fn kit(&self, at_hand: u64) -> WakingKit {
        let newest = self.images.last_key_value().filter(|_| at_hand == 0);
        let covered = newest.map_or(at_hand, |(event_id, _)| *event_id);
        let image = newest.filter(|(_, bytes)| bytes.len() <= PREPARED_IMAGE_BYTES);
        let image =
            image.map(|(event_id, bytes)| StoredImage { run: self.row.key, event_id: *event_id, bytes: bytes.clone() });
        let first = self.events.iter().take(usize::from(covered > 0));
        let behind = self.events.iter().filter(|e| e.event_id > covered).take(PREPARED_EVENTS);
        let small = |e: &&StoredEvent| e.bytes.len() <= PREPARED_EVENT_BYTES;
        WakingKit { covered, image, events: first.chain(behind).filter(small).cloned().collect() }
    }

    fn needs_wake(&self) -> bool {
        self.row.status == Status::Running && self.row.last_inbound_id > self.row.applied_through
    }
}

impl HistoryStore for MemoryStore {
    fn append(&self, batch: &[AppendItem]) -> Vec<Result<Appended, AppendError>> {
        // No shard changes its owner meanwhile.
        let hosts = self.hosts.lock();
        let mut state = self.state.lock();
        let append = |item: &AppendItem| {
            state.fence = hosts.epoch(item.run.shard());
            state.append(item)
        };
        batch.iter().map(append).collect()
    }

    fn allocate_run_key(&self, shard: Shard) -> Result<RunKey, StoreError> {
        let mut state = self.state.lock();
        if state.last_key >= MAX_RUN_KEY >> 8 {
            return Err(StoreError::new(StoreErrorKind::Fatal, "all run keys were given out"));
        }
        state.last_key += 1;
        Ok(RunKey::in_shard(state.last_key, shard))
    }

    fn stamp_epoch(&self, run: RunKey, epoch: u64) -> Result<ExecutionRow, AppendError> {
        let mut state = self.state.lock();
        let row = &mut state.runs.get_mut(&run).ok_or(AppendError::NotFound)?.row;
        if row.epoch > epoch {
            return Err(AppendError::Fenced { epoch, owner: row.epoch });
        }
        if !row.status.is_open() {
            return Err(AppendError::Closed);
        }
        row.epoch = epoch;
        Ok(row.clone())
    }

    fn take(&self, run: RunKey, epoch: u64) -> Result<Option<Taken>, AppendError> {
        match self.stamp_epoch(run, epoch) {
            Ok(_) | Err(AppendError::Closed) => {}
            Err(AppendError::NotFound) => return Ok(None),
            Err(error) => return Err(error),
        }
        let state = self.state.lock();
        Ok(state.runs.get(&run).map(|run| {
            let (tasks, timers) = run.work();
            Taken { row: run.row.clone(), tasks, timers }
        }))
    }

    fn takes_together(&self) -> usize {
        TOGETHER
    }

    fn take_together(&self, wanted: &[Wanted]) -> Result<Vec<Option<Prepared>>, StoreError> {
        let prepare = |wanted: &Wanted| {
            let taken = self.take(wanted.run, wanted.epoch).ok().flatten()?;
            let state = self.state.lock();
            let run = state.runs.get(&wanted.run).filter(|_| taken.row.status.is_open());
            let kit = wanted.guest.zip(run).map(|(at_hand, run)| run.kit(at_hand));
            Some(Prepared { taken, kit })
        };
        Ok(wanted.iter().map(prepare).collect())
    }

    fn execution(&self, run: RunKey) -> Result<Option<ExecutionRow>, StoreError> {
        Ok(self.state.lock().runs.get(&run).map(|r| r.row.clone()))
    }

    fn find(
        &self,
        namespace: &Namespace,
        id: &WorkflowId,
        run: Option<RunId>,
    ) -> Result<Option<ExecutionRow>, StoreError> {
        let state = self.state.lock();
        let named = |row: &ExecutionRow| row.execution.namespace == *namespace && row.execution.workflow_id == *id;
        let mut rows = state.runs.values().rev().map(|r| &r.row).filter(|row| named(row));
        Ok(match run {
            Some(run_id) => rows.find(|row| row.execution.run_id == run_id).cloned(),
            None => match state.open.get(&(namespace.clone(), id.clone())) {
                Some(key) => state.runs.get(key).map(|r| r.row.clone()),
                None => rows.next().cloned(),
            },
        })
    }

    fn list(&self, filter: &ListFilter, before: Option<RunKey>, limit: usize) -> Result<Vec<ExecutionRow>, StoreError> {
        let state = self.state.lock();
        let end = before.map_or(Bound::Unbounded, Bound::Excluded);
        let rows = state.runs.range((Bound::Unbounded, end)).rev().map(|(_, r)| &r.row);
        Ok(rows.filter(|row| filter.holds(row)).take(limit).cloned().collect())
    }

    fn read_from(&self, run: RunKey, from: u64, limit: usize) -> Result<Vec<StoredEvent>, StoreError> {
        let state = self.state.lock();
        let events = state.runs.get(&run).map_or(&[][..], |r| &r.events);
        Ok(events.iter().filter(|e| e.event_id >= from).take(limit).cloned().collect())
    }

    fn needs_wake(&self, shards: &ShardSet, after: RunKey, limit: usize) -> Result<Vec<RunKey>, StoreError> {
        let state = self.state.lock();
        let later = state.runs.range((Bound::Excluded(after), Bound::Unbounded));
        let wanted = |key: &RunKey, run: &Run| shards.contains(key.shard()) && run.needs_wake();
        Ok(later.filter(|(key, run)| wanted(key, run)).map(|(key, _)| *key).take(limit).collect())
    }

    fn due_timers(
        &self,
        shards: &ShardSet,
        after: Option<TimerRow>,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<TimerRow>, StoreError> {
        let state = self.state.lock();
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        Ok(state
            .timers
            .range((start, Bound::Unbounded))
            .take_while(|t| t.deadline <= until)
            .filter(|t| shards.contains(t.run.shard()))
            .take(limit)
            .copied()
            .collect())
    }

    fn open_tasks(
        &self,
        shards: &ShardSet,
        after: Option<(RunKey, u64)>,
        limit: usize,
    ) -> Result<Vec<TaskRow>, StoreError> {
        let state = self.state.lock();
        let first = after.map_or(RunKey(0), |(run, _)| run);
        let tasks = state.runs.range(first..).flat_map(|(_, r)| r.tasks.values());
        let wanted =
            |t: &&TaskRow| shards.contains(t.run.shard()) && after.is_none_or(|after| (t.run, t.command_no) > after);
        Ok(tasks.filter(wanted).take(limit).cloned().collect())
    }

    fn exhausted_tasks(
        &self,
        namespace: &Namespace,
        after: Option<(RunKey, u64)>,
        limit: usize,
    ) -> Result<Vec<TaskRow>, StoreError> {
        let state = self.state.lock();
        let first = after.map_or(RunKey(0), |(run, _)| run);
        let runs = state.runs.range(first..).filter(|(_, r)| r.row.execution.namespace == *namespace);
        let held = runs.flat_map(|(_, r)| r.tasks.values()).filter(|t| t.exhausted.is_some());
        Ok(held.filter(|t| after.is_none_or(|after| (t.run, t.command_no) > after)).take(limit).cloned().collect())
    }

    fn open_work(&self, run: RunKey) -> Result<(Vec<TaskRow>, Vec<TimerRow>), StoreError> {
        Ok(self.state.lock().runs.get(&run).map(Run::work).unwrap_or_default())
    }

    fn count_crash(&self, shards: &ShardSet, running: &[RunKey], now: Timestamp) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        let nobodys = |t: &TaskRow| t.queue.is_none() && t.claim.is_none() && t.exhausted.is_none();
        let cut_off = |t: &&mut TaskRow| shards.contains(t.run.shard()) && t.due_at <= now && nobodys(t);
        for task in state.runs.values_mut().flat_map(|r| r.tasks.values_mut()).filter(cut_off) {
            task.attempt = task.attempt.saturating_add(1);
        }
        for key in running.iter().collect::<BTreeSet<_>>() {
            if let Some(run) = state.runs.get_mut(key).filter(|r| r.row.status.is_open()) {
                run.row.crashes = run.row.crashes.saturating_add(1);
            }
        }
        Ok(())
    }

    fn published(&self, run: RunKey, key: Option<&str>) -> Result<Vec<Published>, StoreError> {
        let state = self.state.lock();
        let Some(run) = state.runs.get(&run) else {
            return Ok(Vec::new());
        };
        Ok(run.published.values().filter(|p| key.is_none_or(|key| p.key == key)).cloned().collect())
    }

    fn logs(&self, run: RunKey, after: u64, limit: usize) -> Result<Vec<(u64, LogLine)>, StoreError> {
        let state = self.state.lock();
        let Some(run) = state.runs.get(&run) else {
            return Ok(Vec::new());
        };
        Ok((1..)
            .zip(&run.logs)
            .filter(|(no, _)| *no > after)
            .take(limit)
            .map(|(no, line)| (no, line.clone()))
            .collect())
    }

    fn census(&self) -> Result<Census, StoreError> {
        let state = self.state.lock();
        let mut census = Census::default();
        for run in state.open.values().filter_map(|key| state.runs.get(key)) {
            census.behind += u64::from(run.needs_wake());
            census.failed_tasks += run.tasks.values().filter(|task| task.exhausted.is_some()).count() as u64;
            let Some(reason) = run.row.blocked else {
                census.running += 1;
                continue;
            };
            match census.blocked.iter_mut().find(|(r, _)| *r == reason) {
                Some((_, n)) => *n += 1,
                None => census.blocked.push((reason, 1)),
            }
        }
        Ok(census)
    }

    fn count_versions(
        &self,
        namespace: &Namespace,
        workflow: &str,
        since: Timestamp,
        limit: usize,
    ) -> Result<Vec<VersionCount>, StoreError> {
        let state = self.state.lock();
        let of = |row: &&ExecutionRow| row.execution.namespace == *namespace && *row.workflow == *workflow;
        let runs = state.runs.values().rev().map(|r| &r.row).filter(of).enumerate();
        let mut counts: Vec<VersionCount> = Vec::new();
        for (_, row) in runs.filter(|(n, row)| row.started_at >= since && (*n < limit || row.status.is_open())) {
            match counts.iter_mut().find(|c| c.digest == row.digest && c.status == row.status) {
                Some(count) => {
                    count.runs += 1;
                    count.oldest = count.oldest.min(row.started_at);
                }
                None => counts.push(VersionCount {
                    digest: row.digest,
                    status: row.status,
                    runs: 1,
                    oldest: row.started_at,
                }),
            }
        }
        Ok(counts)
    }

    fn probe(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

impl ImageStore for MemoryStore {
    fn save_images(&self, images: &[StoredImage]) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        for image in images {
            if let Some(run) = state.runs.get_mut(&image.run).filter(|r| r.row.status.is_open()) {
                run.keep_image(image);
            }
        }
        Ok(())
    }

    fn image(&self, run: RunKey, through: u64) -> Result<Option<StoredImage>, StoreError> {
        let state = self.state.lock();
        let newest = state.runs.get(&run).and_then(|r| r.images.range(..=through).next_back());
        Ok(newest.map(|(event_id, bytes)| StoredImage { run, event_id: *event_id, bytes: bytes.clone() }))
    }

    fn discard_image(&self, run: RunKey, event_id: u64) -> Result<(), StoreError> {
        if let Some(run) = self.state.lock().runs.get_mut(&run) {
            run.images.remove(&event_id);
        }
        Ok(())
    }
}
