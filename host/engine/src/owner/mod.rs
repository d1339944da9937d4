//! The owner of one execution: everything that is decided about it is decided here, one message at a time.
//!
//! `mod.rs` takes messages, `load.rs` brings the row and the guest into memory, `turns.rs` makes an item of what
//! waits, `draft.rs` is the item in the making, `commit.rs` takes the store's answer, `tasks.rs` follows attempts,
//! `remote.rs` those that workers take and `deferred.rs` those that are answered from elsewhere; `reconcile.rs` puts
//! right what queues have wrong.
//!
//! ```text
//! message -> queue -> advance: [inbound event, turn, commands]* -> item -> committer -> Appended -> effects
//! ```

mod commit;
mod deferred;
mod draft;
mod ending;
mod exhausted;
mod image;
mod load;
mod migrate;
mod operators;
mod reconcile;
mod remote;
mod tasks;
mod turns;

pub(crate) use exhausted::{Decided, Decision};
pub(crate) use image::{Laid, lay};
pub(crate) use load::{decoded_history, read_history};
pub(crate) use remote::{Beaten, Reported};

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, atomic::Ordering},
};

use relive_core::{
    Error, ErrorKind, RunKey, Timestamp,
    event::{EventBody, HistoryEvent, TimerFired},
    guest::Guest,
    life::Life,
    ports::{AppendItem, ExecutionRow, NewExecution, StoredImage, WakingKit},
};

use crate::{
    cache::Held,
    context::Context,
    facade::place::not_owner,
    message::{Ack, Control, Incoming, Message, Reply},
    remote::ClaimRequest,
};

use self::{commit::Flight, load::Loading, tasks::Task};

pub(crate) type BoxedLife = Life<Box<dyn Guest>>;

/// How a thread of the pool presents itself to an owner.
#[derive(Clone, Copy)]
pub(crate) struct Thread {
    /// Its slot in the running marks.
    pub slot: usize,
}

/// The state of one execution's owner.
pub(crate) struct Owner {
    run: RunKey,
    /// Under which this host owns it; 0: nothing was asked of it yet.
    epoch: u64,
    /// What is committed; none before the start or the first load.
    row: Option<ExecutionRow>,
    loading: Loading,
    /// What the loader read beside the row.
    kit: Option<WakingKit>,
    /// The row to create with the first item.
    create: Option<NewExecution>,
    life: Option<BoxedLife>,
    /// Committed inbound events that the live guest has not seen.
    unapplied: VecDeque<HistoryEvent>,
    /// Inbound events that are not committed.
    queue: VecDeque<Incoming>,
    controls: VecDeque<Control>,
    flight: Option<Flight>,
    /// The item in flight, if the store could not tell whether it was done: it goes there again until it can.
    doubtful: Option<Box<AppendItem>>,
    /// A message was refused because the lease had lapsed: what is in memory lacks it.
    lost: bool,
    /// Events and task rows that ride on the next commit.
    riding: Vec<EventBody>,
    riding_tasks: BTreeSet<u64>,
    /// Tasks whose attempts begin again once their rows are durable.
    begin_with_commit: BTreeSet<u64>,
    /// Attempts that workers want.
    claims: Vec<ClaimRequest>,
    /// Who hears of the next commit.
    acks: Vec<Ack>,
    /// What rides must not wait for another reason to commit.
    urgent: bool,
    /// A memory image that rides on the next commit.
    riding_image: Option<StoredImage>,
    /// The last event that the newest image covers, or where it was last tried.
    image_at: u64,
    tasks: BTreeMap<u64, Task>,
    timers: BTreeSet<u64>,
    /// Commit what is queued without a turn: the turn failed, something came in between, or the code is suspected of
    /// taking hosts down.
    plain_next: bool,
    /// A turn took long once: inbound events are committed before their turns from now on.
    slow: bool,
    /// Failed tries of the turn that is next.
    tries: u32,
    /// Nothing is to be done until `Retry` arrives.
    paused: bool,
    flush: bool,
    gone: bool,
}

impl Owner {
    pub fn new(run: RunKey) -> Self {
        Self {
            run,
            epoch: 0,
            row: None,
            loading: Loading::default(),
            kit: None,
            create: None,
            life: None,
            unapplied: VecDeque::new(),
            queue: VecDeque::new(),
            controls: VecDeque::new(),
            flight: None,
            doubtful: None,
            lost: false,
            riding: Vec::new(),
            riding_tasks: BTreeSet::new(),
            begin_with_commit: BTreeSet::new(),
            claims: Vec::new(),
            acks: Vec::new(),
            urgent: false,
            riding_image: None,
            image_at: 0,
            tasks: BTreeMap::new(),
            timers: BTreeSet::new(),
            plain_next: false,
            slow: false,
            tries: 0,
            paused: false,
            flush: false,
            gone: false,
        }
    }

    /// Takes messages and does what follows from them.
    pub fn handle(&mut self, context: &Arc<Context>, thread: Thread, mut messages: VecDeque<Message>) {
        while let Some(message) = messages.pop_front() {
            // What was in memory went with the end, or with a start that failed; this message may know better.
            if self.gone {
                *self = Self::new(self.run);
            }
            // The store's answer is taken in any case: somebody waits for it.
            if !matches!(message, Message::Appended(..)) && !self.owns(context) {
                self.lost |= message.is_missed();
                message.refuse(&not_owner(&context.ownership));
            } else if let Message::Loaded(loaded) = message {
                self.loaded(context, *loaded, &mut messages);
            } else if let Some(message) = self.wait_for_row(context, message) {
                self.take(context, message);
            }
        }
        // With what is under way the store's answer comes. One that was owned again before it came lacks what was refused.
        let owned = self.owns(context);
        let settled = self.flight.is_none() || (self.doubtful.is_some() && !owned);
        if settled && !self.gone && (self.lost || !owned) {
            self.let_go(context, &not_owner(&context.ownership));
            if context.ownership.epoch_of(self.run).is_some() {
                context.registry.post(self.run, Message::Wake);
            }
        }
        self.advance(context, thread);
        // A guest that was not woken now is none whose memory is worth it.
        self.kit = None;
        if self.flush && self.life.is_some() && self.flight.is_none() {
            self.go_cold(context);
        }
        self.account(context);
    }

    /// Whether nothing is lost when the cell goes.
    pub fn is_idle(&self) -> bool {
        self.gone
            || (self.life.is_none()
                && self.flight.is_none()
                && self.queue.is_empty()
                && self.controls.is_empty()
                && !self.loading.is_asked()
                && self.riding.is_empty()
                && self.riding_tasks.is_empty()
                && self.claims.is_empty()
                && self.acks.is_empty()
                && self.tasks.values().all(Task::is_parked)
                && !self.paused)
    }

    /// Whether this host owns the execution, under the epoch that what is in memory was made under.
    fn owns(&mut self, context: &Arc<Context>) -> bool {
        let epoch = context.ownership.epoch_of(self.run);
        if self.epoch == 0 {
            self.epoch = epoch.unwrap_or(0);
        }
        epoch.is_some_and(|epoch| epoch == self.epoch)
    }

    fn take(&mut self, context: &Arc<Context>, message: Message) {
        match message {
            Message::Start { new, start, reply } => {
                self.plain_next |= context.suspects.contains(&new.digest);
                self.create = Some(*new);
                self.queue.push_back(Incoming { reply: Some(reply), ..Incoming::new(*start) });
            }
            Message::Inbound(incoming) => self.queue.push_back(*incoming),
            Message::Timer { command_no, deadline } => self.timer_due(context, command_no, deadline),
            Message::Attempt { command_no, attempt, result } => {
                self.attempt_ended(context, command_no, attempt, result, None)
            }
            Message::Accepted { command_no, attempt, by } => self.accepted(context, command_no, attempt, by),
            Message::Claim(request) => self.claims.push(request),
            Message::Report(reported) => self.reported(context, *reported),
            Message::Beat(beaten) => self.beaten(context, *beaten),
            Message::WorkerLost { command_no, secret } => self.worker_lost(context, command_no, secret),
            Message::Decided(decision) => self.decided(context, *decision),
            Message::Alarm { command_no } => self.look_at(context, command_no),
            Message::Reconcile { command_no, answer } => self.reconcile(context, command_no, &answer),
            Message::Control(control) => self.controls.push_back(control),
            Message::Appended(item, result) => self.appended(context, *item, result),
            Message::Wake | Message::Loaded(_) => {}
            Message::Recover(recovery) => {
                self.load_row(context);
                drop(recovery);
            }
            Message::Retry => self.retry_store(context),
            Message::Capture(reply) => {
                let _ = reply.send(self.capture(context));
            }
            Message::Evict => self.evict(context),
            Message::Flush(done) => {
                self.flush = true;
                done.add_permits(1);
            }
        }
    }

    fn timer_due(&mut self, context: &Arc<Context>, command_no: u64, deadline: Timestamp) {
        if self.load_row(context) && self.timers.remove(&command_no) {
            self.fire(context, command_no, deadline);
        }
    }

    fn fire(&mut self, context: &Arc<Context>, command_no: u64, deadline: Timestamp) {
        context.metrics.timers.record(context.clock.now().since(deadline));
        let body = EventBody::new(Some(command_no), TimerFired {});
        self.queue.push_back(Incoming { not_before: deadline, ..Incoming::new(body) });
    }

    fn evict(&mut self, context: &Arc<Context>) {
        if self.flight.is_none() && self.unapplied.is_empty() {
            self.go_cold(context);
        } else if let Some(life) = &self.life {
            // It is in use: back into the account, as the most recent.
            let held = held(life.guest_ref());
            context.cache.used(self.run, held);
        }
    }

    /// Tells the cache what the guest holds now, and sends the cold ones off.
    fn account(&mut self, context: &Arc<Context>) {
        match &self.life {
            // One that has ended goes with its commit; it is not worth another's place.
            Some(life) if life.outcome().is_none() => {
                for run in context.cache.used(self.run, held(life.guest_ref())) {
                    context.registry.post_if_present(run, Message::Evict);
                }
            }
            _ => context.cache.dropped(self.run),
        }
    }

    /// Answers everybody who waits with an error, and lets go of the execution.
    fn let_go(&mut self, context: &Arc<Context>, error: &Error) {
        for incoming in self.queue.drain(..) {
            incoming.answer(Err(error.clone()));
        }
        for control in self.controls.drain(..) {
            let (Control::Terminate { reply, .. }
            | Control::Unblock { reply, .. }
            | Control::Task { reply, .. }
            | Control::Migrate { reply, .. }) = control;
            let _ = reply.send(Err(error.clone()));
        }
        for message in self.loading.give_up() {
            message.refuse(error);
        }
        if let Some(flight) = self.flight.take() {
            self.doubtful = None;
            flight.taken.into_iter().for_each(|incoming| incoming.answer(Err(error.clone())));
            answer_all(flight.replies, &Err(error.clone()));
            self.acks.extend(flight.acks);
        }
        // Who wants a claim of it hears nothing, and looks elsewhere.
        self.claims.clear();
        for ack in self.acks.drain(..) {
            ack.answer(Err(error.clone()));
        }
        while let Some(no) = self.tasks.keys().next().copied() {
            self.drop_task(context, no, true);
        }
        (self.life, self.kit) = (None, None);
        self.unapplied.clear();
        self.riding.clear();
        self.riding_tasks.clear();
        self.begin_with_commit.clear();
        self.urgent = false;
        self.riding_image = None;
        context.images.forget(self.run);
        self.gone = true;
        context.cache.dropped(self.run);
    }

    fn submit(&mut self, context: &Arc<Context>, item: AppendItem, flight: Flight) {
        self.flight = Some(flight);
        self.commit(context, item);
    }

    fn commit(&mut self, context: &Arc<Context>, item: AppendItem) {
        context.stats.in_flight.fetch_add(1, Ordering::AcqRel);
        if context.committer.send(item).is_err() {
            tracing::error!(run = self.run.0, "the committer is gone");
        }
    }

    fn error(&self, kind: ErrorKind, code: &'static str, message: impl Into<String>) -> Error {
        let error = Error::new(kind, code, message);
        match (&self.row, &self.create) {
            (Some(row), _) => error.at(&row.execution).correlated(row.correlation_id.as_deref()),
            (None, Some(new)) => error.at(&new.execution).correlated(new.correlation_id.as_deref()),
            (None, None) => error,
        }
    }
}

fn held(guest: &dyn Guest) -> Held {
    Held { bytes: guest.memory_bytes(), maps: guest.memory_maps() }
}

fn answer_all(replies: Vec<Reply>, result: &Result<(), Error>) {
    for reply in replies {
        let _ = reply.send(result.clone());
    }
}
