//! A batch as the arrays that its statement takes.

use std::collections::BTreeMap;

use relive_core::{
    Digest, RunKey,
    ports::{AppendItem, NewExecution, StoredImage, TaskRow},
};

use super::{
    error::{Result, unreadable},
    rows::{Args, key_of},
    statement::Part,
};
use crate::{
    artifacts::is_large,
    check::{Head, Judged},
    columns::{CANCEL_REQUESTED, PAUSED, level_code, row_key, status_code, time},
};

/// Rows of execution changes.
#[derive(Default)]
struct Updated<'a> {
    numbers: [Vec<i64>; 11],
    owner: Vec<bool>,
    reset: Vec<bool>,
    closed_at: Vec<Option<i64>>,
    status: Vec<i16>,
    hash: Vec<Vec<u8>>,
    blocked: Vec<Option<String>>,
    inbound_key: Vec<Option<&'a str>>,
    digest: Vec<Option<&'a [u8]>>,
}

#[derive(Default)]
struct Created<'a> {
    numbers: [Vec<i64>; 10],
    closed_at: Vec<Option<i64>>,
    status: Vec<i16>,
    hash: Vec<Vec<u8>>,
    run_id: Vec<String>,
    digest: Vec<&'a [u8]>,
    texts: [Vec<&'a str>; 3],
    blocked: Vec<Option<String>>,
    correlation_id: Vec<Option<&'a str>>,
    shards: Vec<i16>,
}

#[derive(Default)]
struct Events<'a> {
    key: Vec<i64>,
    timestamp: Vec<i64>,
    version: Vec<i32>,
    types: [Vec<i16>; 2],
    hash: Vec<&'a [u8]>,
    bytes: Vec<&'a [u8]>,
}

#[derive(Default)]
struct Logs<'a> {
    key: Vec<i64>,
    at: Vec<i64>,
    level: Vec<i16>,
    message: Vec<&'a [u8]>,
    fields: Vec<String>,
}

/// What a statement writes. At most one item a run.
#[derive(Default)]
pub(super) struct Batch<'a> {
    /// The runs that are written if all goes well.
    pub(super) runs: Vec<RunKey>,
    updated: Updated<'a>,
    created: Created<'a>,
    events: Events<'a>,
    /// Those whose bytes are kept apart, and the digests of these.
    large: Events<'a>,
    digests: Vec<Vec<u8>>,
    tasks: Vec<(i64, &'a TaskRow)>,
    removed_tasks: Vec<i64>,
    timers: (Vec<i64>, Vec<i64>),
    removed_timers: Vec<i64>,
    keys: (Vec<i64>, Vec<&'a str>),
    published: (Vec<i64>, Vec<i64>, Vec<&'a str>, Vec<&'a str>),
    logs: Logs<'a>,
    images: (Vec<i64>, Vec<&'a [u8]>),
    /// Whether the outbox is written, and its rows.
    feeds: bool,
    outbox: (Vec<i64>, Vec<i64>),
    ended: Vec<i64>,
}

fn push<T, const N: usize>(columns: &mut [Vec<T>; N], values: [T; N]) {
    for (column, value) in columns.iter_mut().zip(values) {
        column.push(value);
    }
}

fn code(value: i64) -> i16 {
    i16::try_from(value).unwrap_or(-1)
}

fn closed_at(after: &Head) -> Option<i64> {
    (!after.status.is_open()).then(|| time(after.last_timestamp))
}

impl<'a> Batch<'a> {
    /// One without anything; `feeds`: events are noted in the outbox.
    pub(super) fn new(feeds: bool) -> Self {
        Self { feeds, ..Self::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Takes an item that was found good, with its successor.
    pub(super) fn take(&mut self, item: &'a AppendItem, judged: &Judged) -> Result<()> {
        self.take_one(item, judged.before.as_ref(), &judged.after)?;
        match (&item.successor, &judged.successor) {
            (Some(next), Some(head)) => self.take_one(next, None, head),
            _ => Ok(()),
        }
    }

    fn take_one(&mut self, item: &'a AppendItem, before: Option<&Head>, after: &Head) -> Result<()> {
        match (before, &item.create) {
            (Some(before), _) => self.update(item, before, after),
            (None, Some(new)) => self.create(item, new, after),
            (None, None) => return Err(unreadable("an item without a row")),
        }
        self.runs.push(item.run);
        for event in &item.events {
            let large = is_large(event);
            let rows = if large { &mut self.large } else { &mut self.events };
            rows.key.push(row_key(item.run, event.event_id));
            rows.timestamp.push(time(event.timestamp));
            rows.version.push(event.event_version.into());
            push(&mut rows.types, [code(event.event_type.into()), event.codec.into()]);
            rows.hash.push(&event.hash);
            rows.bytes.push(&event.bytes);
            if large {
                self.digests.push(Digest::of(&event.bytes).0.to_vec());
            }
        }
        if let Some(first) = item.events.first().filter(|_| self.feeds) {
            self.outbox.0.push(row_key(item.run, first.event_id));
            self.outbox.1.push(item.last_event_id().cast_signed());
        }
        for key in &item.inbound_keys {
            self.keys.0.push(key_of(item.run));
            self.keys.1.push(key);
        }
        for (key, value) in &item.published {
            self.published.0.push(key_of(item.run));
            self.published.1.push(after.last_event_id.cast_signed());
            self.published.2.push(key);
            self.published.3.push(value.as_str());
        }
        self.log(item, after)?;
        if after.status.is_open() {
            self.work(item);
        } else {
            self.ended.push(key_of(item.run));
        }
        Ok(())
    }

    fn update(&mut self, item: &'a AppendItem, before: &Head, after: &Head) {
        // An outside writer has no say in the owner's numbers.
        let owners = |number: u64| if item.epoch.is_some() { number.cast_signed() } else { 0 };
        let numbers = [
            key_of(item.run),
            item.expected.cast_signed(),
            owners(after.epoch),
            after.last_event_id.cast_signed(),
            time(after.last_timestamp),
            after.last_inbound_id.cast_signed(),
            owners(after.applied_through),
            owners(after.command_count),
            after.history_bytes.cast_signed(),
            before.log_count.cast_signed(),
            after.log_count.cast_signed(),
        ];
        let rows = &mut self.updated;
        push(&mut rows.numbers, numbers);
        rows.owner.push(item.epoch.is_some());
        rows.reset.push(item.row.reset_crashes);
        rows.closed_at.push(closed_at(after));
        rows.status.push(code(status_code(after.status)));
        rows.hash.push(after.last_hash.to_vec());
        rows.blocked.push(item.row.blocked.map(|b| b.to_string()));
        rows.inbound_key.push(item.inbound_keys.first().map(String::as_str));
        rows.digest.push(item.row.digest.as_ref().map(|digest| digest.0.as_slice()));
    }

    fn create(&mut self, item: &'a AppendItem, new: &'a NewExecution, after: &Head) {
        let numbers = [
            key_of(item.run),
            after.epoch.cast_signed(),
            after.last_event_id.cast_signed(),
            time(after.last_timestamp),
            after.last_inbound_id.cast_signed(),
            after.applied_through.cast_signed(),
            after.command_count.cast_signed(),
            after.history_bytes.cast_signed(),
            after.log_count.cast_signed(),
            time(new.started_at),
        ];
        let rows = &mut self.created;
        push(&mut rows.numbers, numbers);
        rows.closed_at.push(closed_at(after));
        rows.status.push(code(status_code(after.status)));
        rows.hash.push(after.last_hash.to_vec());
        rows.run_id.push(new.execution.run_id.to_string());
        rows.digest.push(&new.digest.0);
        let key = &new.execution;
        push(&mut rows.texts, [key.namespace.as_str(), key.workflow_id.as_str(), &*new.workflow]);
        rows.blocked.push(item.row.blocked.map(|b| b.to_string()));
        rows.correlation_id.push(new.correlation_id.as_deref());
        rows.shards.push(item.run.shard().0.into());
    }

    fn log(&mut self, item: &'a AppendItem, after: &Head) -> Result<()> {
        let first = after.log_count - item.logs.len() as u64 + 1;
        for (no, line) in (first..).zip(&item.logs) {
            self.logs.key.push(row_key(item.run, no));
            self.logs.at.push(time(line.at));
            self.logs.level.push(code(level_code(line.level)));
            self.logs.message.push(line.message.as_bytes());
            self.logs.fields.push(serde_json::to_string(&line.fields).map_err(|e| sqlx::Error::Encode(e.into()))?);
        }
        Ok(())
    }

    /// Of a task or timer only the last word counts, and removals win: one may be made and given up in one turn.
    fn work(&mut self, item: &'a AppendItem) {
        let run = item.run;
        if !item.put_tasks.is_empty() || !item.remove_tasks.is_empty() {
            let mut tasks: BTreeMap<u64, Option<&TaskRow>> = BTreeMap::new();
            tasks.extend(item.put_tasks.iter().map(|t| (t.command_no, Some(t))));
            tasks.extend(item.remove_tasks.iter().map(|no| (*no, None)));
            for (no, task) in tasks {
                match task {
                    Some(task) => self.tasks.push((row_key(run, no), task)),
                    None => self.removed_tasks.push(row_key(run, no)),
                }
            }
        }
        if !item.put_timers.is_empty() || !item.remove_timers.is_empty() {
            let mut timers: BTreeMap<u64, Option<i64>> = BTreeMap::new();
            timers.extend(item.put_timers.iter().map(|t| (t.command_no, Some(time(t.deadline)))));
            timers.extend(item.remove_timers.iter().map(|no| (*no, None)));
            for (no, deadline) in timers {
                match deadline {
                    Some(deadline) => {
                        self.timers.0.push(row_key(run, no));
                        self.timers.1.push(deadline);
                    }
                    None => self.removed_timers.push(row_key(run, no)),
                }
            }
        }
        self.images(&item.image);
    }

    fn images(&mut self, images: impl IntoIterator<Item = &'a StoredImage>) {
        for image in images {
            self.images.0.push(row_key(image.run, image.event_id));
            self.images.1.push(&image.bytes);
        }
    }

    fn has(&self, part: Part) -> bool {
        match part {
            Part::Updated => !self.updated.owner.is_empty(),
            Part::Created => !self.created.status.is_empty(),
            Part::Events => !self.events.key.is_empty(),
            Part::LargeEvents => !self.large.key.is_empty(),
            Part::PlainTasks => !self.tasks.is_empty() && self.tasks.iter().all(|(_, t)| is_plain(t)),
            Part::Tasks => !self.tasks.iter().all(|(_, t)| is_plain(t)),
            Part::RemovedTasks => !self.removed_tasks.is_empty(),
            Part::Timers => !self.timers.0.is_empty(),
            Part::RemovedTimers => !self.removed_timers.is_empty(),
            Part::Keys => !self.keys.0.is_empty(),
            Part::Published => !self.published.0.is_empty(),
            Part::Logs => !self.logs.key.is_empty(),
            Part::Images => !self.images.0.is_empty(),
            Part::Outbox => !self.outbox.0.is_empty(),
            Part::Ended => !self.ended.is_empty(),
        }
    }

    /// The parts that the batch has, as the statement's bits.
    pub(super) fn parts(&self) -> u32 {
        Part::ALL.into_iter().filter(|part| self.has(*part)).fold(0, |parts, part| parts | part.bit())
    }

    /// The parameters, in the order of the parts.
    pub(super) fn args(&self) -> Result<Args> {
        let mut args = Args::default();
        for part in Part::ALL.into_iter().filter(|part| self.has(*part)) {
            args = self.add(part, args)?;
        }
        Ok(args)
    }

    fn add(&self, part: Part, args: Args) -> Result<Args> {
        Ok(match part {
            Part::Updated => self.add_updated(args),
            Part::Created => self.add_created(args),
            Part::Events => {
                let Events { key, timestamp, version, types: [types, codecs], hash, bytes } = &self.events;
                args.add(key).add(timestamp).add(version).add(types).add(codecs).add(hash).add(bytes)
            }
            Part::LargeEvents => {
                let Events { key, timestamp, version, types: [types, codecs], hash, bytes } = &self.large;
                let args = args.add(key).add(timestamp).add(version).add(types).add(codecs);
                args.add(hash).add(&self.digests).add(bytes)
            }
            Part::PlainTasks => self.add_plain_tasks(args),
            Part::Tasks => self.add_tasks(args)?,
            Part::RemovedTasks => args.add(&self.removed_tasks),
            Part::Timers => args.add(&self.timers.0).add(&self.timers.1),
            Part::RemovedTimers => args.add(&self.removed_timers),
            Part::Keys => args.add(&self.keys.0).add(&self.keys.1),
            Part::Published => {
                let (run, event_id, key, value) = &self.published;
                args.add(run).add(event_id).add(key).add(value)
            }
            Part::Logs => {
                let Logs { key, at, level, message, fields } = &self.logs;
                args.add(key).add(at).add(level).add(message).add(fields)
            }
            Part::Images => args.add(&self.images.0).add(&self.images.1),
            Part::Outbox => args.add(&self.outbox.0).add(&self.outbox.1),
            Part::Ended => args.add(&self.ended),
        })
    }

    fn add_updated(&self, args: Args) -> Args {
        let rows = &self.updated;
        let [key, expected, others @ ..] = &rows.numbers;
        let args = others.iter().fold(args.add(key).add(expected).add(&rows.owner), Args::add);
        let args = args.add(&rows.reset).add(&rows.closed_at).add(&rows.status);
        args.add(&rows.hash).add(&rows.blocked).add(&rows.inbound_key).add(&rows.digest)
    }

    fn add_created(&self, args: Args) -> Args {
        let rows = &self.created;
        let args = rows.numbers.iter().fold(args.add(&rows.shards), Args::add);
        let args = args.add(&rows.closed_at).add(&rows.status).add(&rows.hash).add(&rows.run_id).add(&rows.digest);
        let args = rows.texts.iter().fold(args, Args::add);
        args.add(&rows.blocked).add(&rows.correlation_id)
    }

    fn task_numbers(&self, args: Args) -> Args {
        let number = |of: fn(&TaskRow) -> i64| self.tasks.iter().map(|(_, t)| of(t)).collect::<Vec<i64>>();
        args.add(self.tasks.iter().map(|(key, _)| *key).collect::<Vec<i64>>())
            .add(number(|t| t.event_id.cast_signed()))
            .add(number(|t| t.attempt.into()))
            .add(number(|t| time(t.due_at)))
            .add(number(|t| time(t.scheduled_at)))
    }

    fn add_plain_tasks(&self, args: Args) -> Args {
        self.task_numbers(args)
    }

    fn add_tasks(&self, args: Args) -> Result<Args> {
        let claims = || self.tasks.iter().map(|(_, t)| t.claim.as_ref());
        let flags = |t: &TaskRow| {
            code(if t.cancel_requested { CANCEL_REQUESTED } else { 0 } | if t.paused { PAUSED } else { 0 })
        };
        let options = |t: &TaskRow| t.options.as_deref().map(serde_json::to_string).transpose();
        let options: std::result::Result<Vec<Option<String>>, _> = self.tasks.iter().map(|(_, t)| options(t)).collect();
        let exhausted = |t: &TaskRow| t.exhausted.as_deref().map(serde_json::to_string).transpose();
        let exhausted: std::result::Result<Vec<Option<String>>, _> =
            self.tasks.iter().map(|(_, t)| exhausted(t)).collect();
        Ok(self
            .task_numbers(args)
            .add(claims().map(|c| c.map(|c| c.secret.cast_signed())).collect::<Vec<Option<i64>>>())
            .add(claims().map(|c| c.map(|c| time(c.at))).collect::<Vec<Option<i64>>>())
            .add(self.tasks.iter().map(|(_, t)| flags(t)).collect::<Vec<i16>>())
            .add(self.tasks.iter().map(|(_, t)| t.queue.as_deref()).collect::<Vec<Option<&str>>>())
            .add(claims().map(|c| c.and_then(|c| c.worker.as_deref())).collect::<Vec<Option<&str>>>())
            .add(self.tasks.iter().map(|(_, t)| t.details.as_ref().map(|d| d.as_str())).collect::<Vec<Option<&str>>>())
            .add(options.map_err(|e| sqlx::Error::Encode(e.into()))?)
            .add(exhausted.map_err(|e| sqlx::Error::Encode(e.into()))?))
    }
}

/// Whether the task is as it was scheduled, and the host's own.
fn is_plain(task: &TaskRow) -> bool {
    task.queue.is_none()
        && task.claim.is_none()
        && task.details.is_none()
        && !task.cancel_requested
        && !task.paused
        && task.options.is_none()
        && task.exhausted.is_none()
}
