//! An item in the making: events are numbered, timed, encoded and chained as they are pushed, and the rows that
//! belong to them are kept beside.

use std::{collections::BTreeMap, sync::Arc};

use relive_core::{
    Digest, RunKey, Timestamp,
    canonical_hash::chain,
    codec::{Codec, CodecError, CodecId, StoredEvent, current_version},
    cursor::TurnOutput,
    event::{Attributes, EventBody, EventClass, HistoryEvent, TaskScheduled},
    options::CancellationType,
    ports::{ActivityRunner, AppendItem, ExecutionRow, NewExecution, RowChange, TaskRow, TimerRow},
};

use crate::{
    dispatch::route,
    message::{Ack, Incoming, Reply},
    remote::ClaimRequest,
    waiters::Ended,
};

/// An activity that is dispatched once its schedule is durable.
pub(super) struct Launch {
    pub row: TaskRow,
    pub scheduled: TaskScheduled,
    pub task_queue: Option<Arc<str>>,
    pub trace_id: Option<Arc<str>>,
}

/// What happens after the commit.
#[derive(Default)]
pub(super) struct Effects {
    pub launches: BTreeMap<u64, Launch>,
    pub timers: Vec<TimerRow>,
    /// Activities that were given up: stop them and forget them.
    pub abandoned: Vec<(u64, CancellationType)>,
    /// Activities that operators changed, and whether they begin anew.
    pub changed: Vec<(u64, bool)>,
    /// Activities that are resolved, and how many of them by a failure or a timeout.
    pub resolved: Vec<u64>,
    pub exhausted: u64,
}

pub(super) struct Draft {
    pub item: AppendItem,
    /// The row as it will be.
    pub row: ExecutionRow,
    pub effects: Effects,
    /// Inbound events that the item carries, in case they must be taken back.
    pub taken: Vec<Incoming>,
    pub replies: Vec<Reply>,
    /// How many riding events the item carries.
    pub rode: usize,
    /// How the run ends with this item.
    pub ended: Option<Ended>,
    /// Attempts that workers get with the item, and their rows.
    pub claims: Vec<(ClaimRequest, TaskRow)>,
    /// Who hears of the commit.
    pub acks: Vec<Ack>,
    runner: Arc<dyn ActivityRunner>,
    codec: CodecId,
    now: Timestamp,
    scratch: Vec<u8>,
}

impl Draft {
    /// An empty item on top of `row`.
    pub fn new(
        row: &ExecutionRow,
        epoch: u64,
        codec: CodecId,
        now: Timestamp,
        runner: Arc<dyn ActivityRunner>,
    ) -> Self {
        let change = RowChange {
            status: row.status,
            blocked: row.blocked,
            last_inbound_id: row.last_inbound_id,
            applied_through: row.applied_through,
            command_count: row.command_count,
            reset_crashes: false,
            digest: None,
        };
        Self {
            item: AppendItem::new(row.key, row.last_event_id, Some(epoch), change),
            row: row.clone(),
            effects: Effects::default(),
            taken: Vec::new(),
            replies: Vec::new(),
            rode: 0,
            ended: None,
            claims: Vec::new(),
            acks: Vec::new(),
            runner,
            codec,
            now,
            scratch: Vec::new(),
        }
    }

    /// The item that creates the run `new`, at the time and in the codec of `before`.
    pub fn successor(run: RunKey, new: &NewExecution, before: &Self, epoch: u64) -> Self {
        let mut row = ExecutionRow::new(run, new, epoch);
        row.last_timestamp = before.now.max(before.row.last_timestamp);
        Self::new(&row, epoch, before.codec, before.now, before.runner.clone())
    }

    /// Whether nothing would change.
    pub fn is_empty(&self) -> bool {
        self.item.events.is_empty()
            && self.item.put_tasks.is_empty()
            && self.row.applied_through == self.item.row.applied_through
            && self.replies.is_empty()
            && self.claims.is_empty()
    }

    /// Numbers, times, encodes and chains an event, not before `not_before`.
    pub fn push(&mut self, body: EventBody, not_before: Timestamp) -> Result<HistoryEvent, CodecError> {
        let ty = body.event_type();
        self.scratch.clear();
        self.codec.encode(&body, &mut self.scratch)?;
        let event_id = self.row.last_event_id + 1;
        let timestamp = self.now.max(self.row.last_timestamp).max(not_before);
        let (version, codec) = (current_version(ty), self.codec.codec_id());
        let hash = chain(&self.row.last_hash, event_id, timestamp, ty.code(), codec, version, &self.scratch);
        let bytes: Arc<[u8]> = self.scratch.as_slice().into();
        self.row.last_event_id = event_id;
        self.row.last_hash = hash;
        self.row.last_timestamp = timestamp;
        self.row.history_bytes += bytes.len() as u64;
        if ty.class() == EventClass::Inbound {
            self.row.last_inbound_id = event_id;
        }
        self.keep_rows(event_id, timestamp, &body);
        self.item.events.push(StoredEvent {
            event_id,
            timestamp,
            event_type: ty.code(),
            codec,
            event_version: version,
            bytes,
            hash,
        });
        Ok(HistoryEvent { event_id, timestamp, event_version: version, body, hash })
    }

    /// A turn of this guest ended and the host is still there: crashes are counted in a row.
    pub fn survived(&mut self) {
        if self.row.crashes > 0 {
            self.row.crashes = 0;
            self.item.row.reset_crashes = true;
        }
    }

    /// Pushes what a turn left. Activities are of the run's trace: who launches them reads no other event.
    pub fn push_output(&mut self, output: TurnOutput, trace: Option<&Arc<str>>) -> Result<(), CodecError> {
        for mut body in output.commands {
            if matches!(body.attributes, Attributes::TaskScheduled(_)) {
                body.trace_id = trace.cloned();
            }
            self.push(body, Timestamp(0))?;
        }
        self.item.logs.extend(output.logs);
        self.item.published.extend(output.published);
        Ok(())
    }

    fn keep_rows(&mut self, event_id: u64, at: Timestamp, body: &EventBody) {
        let run = self.item.run;
        let command_no = body.command_no.unwrap_or(0);
        match &body.attributes {
            Attributes::TaskScheduled(scheduled) => {
                let namespace = &self.row.execution.namespace;
                let queue = route(&*self.runner, namespace, &scheduled.name, body.task_queue.as_ref());
                let row = TaskRow { queue, ..TaskRow::new(run, command_no, event_id, at) };
                self.item.put_tasks.push(row.clone());
                let (task_queue, trace_id) = (body.task_queue.clone(), body.trace_id.clone());
                let launch = Launch { row, scheduled: scheduled.clone(), task_queue, trace_id };
                self.effects.launches.insert(command_no, launch);
            }
            Attributes::TimerCreated(timer) => {
                let row = TimerRow { deadline: timer.deadline, run, command_no };
                self.item.put_timers.push(row);
                self.effects.timers.push(row);
            }
            Attributes::TaskCompleted(_)
            | Attributes::TaskFailed(_)
            | Attributes::TaskTimedOut(_)
            | Attributes::TaskCanceled(_) => {
                self.drop_task(command_no);
                self.effects.resolved.push(command_no);
                let exhausted = matches!(body.attributes, Attributes::TaskFailed(_) | Attributes::TaskTimedOut(_));
                self.effects.exhausted += u64::from(exhausted);
            }
            Attributes::TaskCancelRequested(c) => {
                if c.cancellation != CancellationType::Wait {
                    self.drop_task(c.target);
                }
                self.effects.abandoned.push((c.target, c.cancellation));
            }
            Attributes::TimerFired(_) => self.drop_timer(command_no),
            Attributes::TimerCanceled(c) => self.drop_timer(c.target),
            Attributes::SignalReceived(_) | Attributes::CancelRequested(_) => {
                self.item.inbound_keys.extend(body.inbound_key())
            }
            _ => {}
        }
    }

    /// A row that this item made is taken back; one that was there before is removed.
    fn drop_task(&mut self, command_no: u64) {
        let before = self.item.put_tasks.len();
        let fresh = self.effects.launches.remove(&command_no).is_some();
        self.item.put_tasks.retain(|t| t.command_no != command_no);
        if !fresh || before == self.item.put_tasks.len() {
            self.item.remove_tasks.push(command_no);
        }
    }

    fn drop_timer(&mut self, command_no: u64) {
        let before = self.item.put_timers.len();
        self.item.put_timers.retain(|t| t.command_no != command_no);
        self.effects.timers.retain(|t| t.command_no != command_no);
        if before == self.item.put_timers.len() {
            self.item.remove_timers.push(command_no);
        }
    }

    /// Puts the row's numbers into the item.
    pub fn seal(&mut self) {
        self.item.row.status = self.row.status;
        self.item.row.blocked = self.row.blocked;
        self.item.row.last_inbound_id = self.row.last_inbound_id;
        self.item.row.applied_through = self.row.applied_through;
        self.item.row.command_count = self.row.command_count;
    }

    /// The run goes on on this component.
    pub fn moves_to(&mut self, digest: Digest) {
        self.row.digest = digest;
        self.item.row.digest = Some(digest);
    }
}
