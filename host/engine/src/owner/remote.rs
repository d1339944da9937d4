//! Attempts that workers take: offered in their queue when they are due, claimed before they run, heard of, answered
//! for, or out of time. A claim is a lease on the attempt: it stands in the task's row, with its event, before the
//! worker learns of it, and only who knows its secret may answer.

use std::sync::Arc;

use relive_core::{
    Error, ErrorKind, Failure, FailureKind, Json, Namespace, Timestamp,
    deadline::{Standing, nearest},
    event::{Attributes, EventBody, TaskStarted, TimeoutType},
    ports::{Claim, TaskRow, TimerRow},
};

use super::{Owner, commit::STORE_PAUSE, draft::Draft, load::decoded_history, tasks::Task, turns::Abandon};
use crate::{
    abort,
    context::Context,
    message::{Ack, AttemptError, BeatReply, Incoming, Message, Reply},
    remote::{
        Beat, ClaimRequest, ClaimedTask, Lost, NotClaimed, Offered, Pass, Poller, QueueName, Report, TaskRef,
        TaskToken, message as hint,
    },
    traces,
};

/// A worker's answer on its way to the owner.
pub(crate) struct Reported {
    pub namespace: Namespace,
    pub token: TaskToken,
    pub report: Report,
    pub reply: Reply,
}

/// A heartbeat on its way to the owner.
pub(crate) struct Beaten {
    pub namespace: Namespace,
    pub token: TaskToken,
    /// Kept for the next attempt, should this one fail.
    pub details: Option<Json>,
    /// The worker lets go of the attempt: whoever has the token answers, whatever becomes of the worker.
    pub defer: bool,
    pub reply: BeatReply,
}

/// How a token and the task that it names fit.
enum Fit {
    Current,
    /// Its answer is known and on its way into the history.
    Answered,
    /// Another attempt is due or running.
    Superseded,
    /// No such task is open.
    Gone,
    /// It was never given out.
    Forged,
}

impl Task {
    fn standing(&self) -> Standing {
        let running = self.row.claim.as_ref().map(|claim| (claim.at, self.heard.max(claim.at)));
        Standing { scheduled_at: self.row.scheduled_at, due_at: self.row.due_at, running }
    }

    /// Whether everything about it is in the store and in its queue, so that its owner may be forgotten.
    pub(super) fn is_parked(&self) -> bool {
        let waits = self.row.queue.is_some() || self.row.exhausted.is_some();
        waits && self.row.claim.is_none() && !self.resolved
    }

    /// Whether a worker may take the attempt that is due.
    pub(super) fn may_be_claimed(&self) -> bool {
        self.row.queue.is_some() && self.is_parked() && !self.is_held()
    }

    /// Whether no attempt of it begins until an operator says so.
    pub(super) fn is_held(&self) -> bool {
        self.row.paused || self.row.exhausted.is_some()
    }
}

fn lost(row: &TaskRow, claim: &Claim) -> Lost {
    Lost { run: row.run, command_no: row.command_no, secret: claim.secret }
}

impl Owner {
    fn queue_of(&self, row: &TaskRow) -> Option<QueueName> {
        Some((self.row.as_ref()?.execution.namespace.clone(), row.queue.clone()?))
    }

    /// Offers the attempt that is due in its queue, or arms an alarm for what comes first.
    pub(super) fn place(&mut self, context: &Arc<Context>, no: u64) {
        let now = context.clock.now();
        let waits = self.begin_with_commit.contains(&no);
        let Some(task) = self.tasks.get(&no).filter(|t| !t.resolved && !waits) else { return };
        let Some((activity, options)) = task.asked().map(|(s, options)| (s.name.clone(), options)) else { return };
        // Nobody can find a worker for what is held: the time for that does not run.
        let held = task.is_held() && task.row.claim.is_none();
        let of_queue = |timeout| timeout == TimeoutType::ScheduleToStart;
        let deadline = nearest(&options, &task.standing()).filter(|(_, timeout)| !(held && of_queue(*timeout)));
        if let Some((_, timeout)) = deadline.filter(|(at, _)| *at <= now) {
            return self.out_of_time(context, no, timeout);
        }
        let mut next = deadline.map(|(at, _)| at);
        if task.row.claim.is_none() && !held {
            if task.row.due_at > now {
                next = Some(next.map_or(task.row.due_at, |at| at.min(task.row.due_at)));
            } else if let Some(name) = self.queue_of(&task.row) {
                let attempt = task.row.attempt;
                let offered = TaskRef { run: self.run, command_no: no, attempt };
                match context.remote.queues.offer(&name, &activity, offered, now) {
                    Offered::Taken(Poller { worker, reply, .. }) => {
                        self.claims.push(ClaimRequest { command_no: no, attempt, worker, pass: Pass::Free, reply });
                    }
                    Offered::Queued(backlog) => self.announce(context, &name, offered, &activity, backlog),
                    Offered::Known => {}
                }
            }
        }
        self.arm(context, no, next);
    }

    /// Tells the other hosts: polls may wait there.
    fn announce(&self, context: &Context, name: &QueueName, task: TaskRef, activity: &Arc<str>, backlog: u64) {
        if let (Some(exchange), Some(cluster)) = (&context.exchange, &context.cluster)
            && cluster.has_others()
        {
            let correlation_id = self.row.as_ref().and_then(|row| row.correlation_id.clone());
            let trace_id = self.tasks.get(&task.command_no).and_then(Task::trace_id);
            exchange.announce(hint(name, task, activity, (correlation_id, trace_id)), backlog);
        }
    }

    /// Sets the task's one alarm.
    fn arm(&mut self, context: &Arc<Context>, no: u64, at: Option<Timestamp>) {
        let Some(task) = self.tasks.get_mut(&no) else { return };
        let row = |deadline| TimerRow { deadline, run: self.run, command_no: no };
        if task.alarm != at {
            context.timers.alarm(task.alarm.map(row), at.map(row));
            task.alarm = at;
        }
    }

    /// Something about a task may be due: a deadline, its time, or a host that runs it now.
    pub(super) fn look_at(&mut self, context: &Arc<Context>, no: u64) {
        if !self.load_row(context) {
            return self.later(context, Message::Alarm { command_no: no });
        }
        let Some(task) = self.tasks.get_mut(&no) else { return };
        // It has rung.
        task.alarm = None;
        if !self.recall_if_needed(context, no) {
            return self.later(context, Message::Alarm { command_no: no });
        }
        let (Some(task), Some(row)) = (self.tasks.get_mut(&no), &self.row) else { return };
        let name = task.asked().map(|(scheduled, _)| scheduled.name.clone());
        let hosted = name.is_some_and(|name| context.dispatcher.hosts(&row.execution.namespace, &name));
        if hosted && task.is_parked() && !task.is_held() {
            task.row.queue = None;
            self.riding_tasks.insert(no);
            context.remote.queues.remove(self.run, no);
            return self.launch(context, no);
        }
        if task.row.queue.is_some() || task.row.claim.is_some() || task.is_held() {
            self.place(context, no);
        }
    }

    /// The message comes again, if it is the store that cannot be read now; what is unusable stays so.
    fn later(&self, context: &Arc<Context>, message: Message) {
        if self.paused {
            context.dispatcher.later(self.run, STORE_PAUSE, message);
        }
    }

    fn out_of_time(&mut self, context: &Arc<Context>, no: u64, timeout: TimeoutType) {
        let Some(attempt) = self.tasks.get(&no).map(|t| t.row.attempt) else { return };
        self.attempt_ended(context, no, attempt, Err(AttemptError::TimedOut(timeout)), None);
    }

    /// Puts the claims that can be into the draft; the others learn why not.
    pub(super) fn take_claims(&mut self, context: &Arc<Context>, draft: &mut Draft) -> Result<(), Abandon> {
        for mut request in std::mem::take(&mut self.claims) {
            let no = request.command_no;
            let taken = draft.claims.iter().any(|(other, _)| other.command_no == no);
            let row = match self.tasks.get(&no) {
                Some(task) if taken || (task.row.claim.is_some() && task.row.attempt == request.attempt) => {
                    Err(NotClaimed::Busy)
                }
                Some(task) if task.may_be_claimed() && task.row.attempt == request.attempt => Ok(task.row.clone()),
                _ => Err(NotClaimed::Superseded),
            };
            match row {
                Err(why) => drop(request.reply.send(Err(why))),
                // Nobody waits for it any more: the next one may have it.
                Ok(_) if request.reply.is_closed() => self.place(context, no),
                Ok(row) if !self.let_out(context, &row, &mut request) => {
                    drop(request.reply.send(Err(NotClaimed::Limited)));
                    self.place(context, no);
                }
                Ok(mut row) => {
                    let at = context.clock.now();
                    let secret = u64::from_le_bytes(crate::ids::seed()[..8].try_into().unwrap_or_default());
                    row.claim = Some(Claim { secret, worker: Some(request.worker.id.clone()), at });
                    let started = TaskStarted { attempt: row.attempt, worker: request.worker.identity.clone() };
                    draft.push(EventBody::new(Some(no), started), Timestamp(0))?;
                    draft.item.put_tasks.retain(|t| t.command_no != no);
                    draft.item.put_tasks.push(row.clone());
                    draft.claims.push((request, row));
                }
            }
        }
        Ok(())
    }

    /// Whether the limits of the attempt's queue allow the claim. What was handed out has passed them.
    fn let_out(&self, context: &Arc<Context>, row: &TaskRow, request: &mut ClaimRequest) -> bool {
        if !matches!(request.pass, Pass::Wanted) {
            return true;
        }
        let Some(name) = self.queue_of(row) else { return true };
        match context.remote.queues.permit(&name, context.clock.now()) {
            Ok(pass) => request.pass = pass,
            Err(_) => return false,
        }
        true
    }

    /// The claim is durable: the worker may begin.
    pub(super) fn claim_committed(&mut self, context: &Arc<Context>, request: ClaimRequest, row: TaskRow) {
        let no = request.command_no;
        abort::point("claim-committed");
        let Some(task) = self.tasks.get_mut(&no).filter(|t| !t.resolved && t.row.attempt == row.attempt) else {
            return drop(request.reply.send(Err(NotClaimed::Superseded)));
        };
        task.row.claim.clone_from(&row.claim);
        if let Some(claim) = &row.claim {
            context.metrics.schedule_to_start.record(claim.at.since(row.due_at));
        }
        self.note_claim(context, no);
        let recalled = self.recall_if_needed(context, no);
        let Some(claimed) = self.claimed_task(&row).filter(|_| recalled) else {
            self.unclaim(context, no);
            return drop(request.reply.send(Err(NotClaimed::Superseded)));
        };
        if request.reply.send(Ok(Box::new(claimed))).is_err() {
            self.unclaim(context, no);
        }
        self.place(context, no);
    }

    /// Tells the registry and the queue who has the attempt. Also for claims of before a restart: their workers get a
    /// heartbeat's time to be heard of.
    pub(super) fn note_claim(&mut self, context: &Arc<Context>, no: u64) {
        let now = context.clock.now();
        let Some(task) = self.tasks.get_mut(&no).filter(|task| task.row.claim.is_some()) else { return };
        task.heard = now;
        let Some(Task { row, .. }) = self.tasks.get(&no) else { return };
        let (Some(name), Some(claim)) = (self.queue_of(row), &row.claim) else { return };
        context.remote.queues.claimed(&name, self.run, no);
        if let Some(worker) = &claim.worker
            && !context.remote.workers.claimed(&name.0, worker, lost(row, claim), now)
        {
            context.registry.post(self.run, Message::WorkerLost { command_no: no, secret: claim.secret });
        }
    }

    fn claimed_task(&self, row: &TaskRow) -> Option<ClaimedTask> {
        let task = self.tasks.get(&row.command_no).filter(|t| !t.resolved && t.row.attempt == row.attempt)?;
        let (scheduled, options) = task.asked()?;
        let (execution, claim) = (self.row.as_ref()?, row.claim.as_ref()?);
        let attempt = TaskRef { run: self.run, command_no: row.command_no, attempt: row.attempt };
        Some(ClaimedTask {
            token: TaskToken { task: attempt, secret: claim.secret },
            execution: execution.execution.clone(),
            workflow: execution.workflow.clone(),
            command_no: row.command_no,
            attempt: row.attempt,
            activity: scheduled.name.clone(),
            task_queue: row.queue.clone()?,
            input: scheduled.input.clone(),
            correlation_id: execution.correlation_id.clone(),
            trace: task.traceparent(execution.execution.run_id),
            options,
            scheduled_at: row.scheduled_at,
            started_at: claim.at,
            details: row.details.clone(),
        })
    }

    /// The attempt was never begun: whoever claimed it is gone.
    fn unclaim(&mut self, context: &Arc<Context>, no: u64) {
        self.release_claim(context, no);
        self.riding_tasks.insert(no);
    }

    /// Nobody has the attempt any more.
    pub(super) fn release_claim(&mut self, context: &Arc<Context>, no: u64) {
        let Some(task) = self.tasks.get_mut(&no) else { return };
        if let Some(claim) = task.row.claim.take() {
            context.remote.queues.released(self.run, no);
            if let Some(worker) = &claim.worker {
                context.remote.workers.released(worker, lost(&task.row, &claim));
            }
        }
    }

    /// The task is over: no queue offers it, no worker is asked about it, no alarm rings for it.
    pub(super) fn forget_remote(&mut self, context: &Arc<Context>, no: u64) {
        let nobodys = |t: &Task| t.row.queue.is_none() && t.row.claim.is_none() && t.alarm.is_none();
        if self.tasks.get(&no).is_none_or(nobodys) {
            return;
        }
        self.note_end_of_claim(context, no);
        self.release_claim(context, no);
        self.arm(context, no, None);
        context.remote.queues.remove(self.run, no);
    }

    /// For those who watch: a worker's attempt is over.
    fn note_end_of_claim(&self, context: &Arc<Context>, no: u64) {
        let (Some(task), Some(row)) = (self.tasks.get(&no), &self.row) else { return };
        let Some(claim) = &task.row.claim else { return };
        context.metrics.attempts.record(context.clock.now().since(claim.at));
        if let Some((scheduled, _)) = task.asked() {
            let trace = task.traceparent(row.execution.run_id);
            traces::attempt_ended(row, &scheduled.name, task.row.attempt, trace, claim.at);
        }
    }

    fn fit(&self, namespace: &Namespace, token: &TaskToken) -> Fit {
        if self.row.as_ref().is_none_or(|row| row.execution.namespace != *namespace) {
            return Fit::Forged;
        }
        let Some(task) = self.tasks.get(&token.task.command_no) else { return Fit::Gone };
        match &task.row.claim {
            _ if task.resolved && task.row.attempt == token.task.attempt => Fit::Answered,
            _ if task.began_here(token) => Fit::Current,
            Some(claim) if task.row.attempt == token.task.attempt => {
                if claim.secret == token.secret {
                    Fit::Current
                } else {
                    Fit::Forged
                }
            }
            _ if token.task.attempt <= task.row.attempt => Fit::Superseded,
            _ => Fit::Forged,
        }
    }

    /// A worker answered for an attempt.
    pub(super) fn reported(&mut self, context: &Arc<Context>, reported: Reported) {
        let Reported { namespace, token, report, reply } = reported;
        let loaded = self.load_row(context);
        if !loaded && !self.gone {
            let error = self.error(ErrorKind::EventStore, "store-unavailable", "the store cannot be read; try again");
            return drop(reply.send(Err(error)));
        }
        let no = token.task.command_no;
        match self.fit(&namespace, &token) {
            Fit::Current if self.recall_if_needed(context, no) => {
                let result = match report {
                    Report::Completed(result) => Ok(result),
                    Report::Failed(failure) => Err(AttemptError::Failed(failure)),
                    Report::Canceled => Err(self.canceled(no)),
                };
                self.attempt_ended(context, no, token.task.attempt, result, Some(reply));
            }
            Fit::Current => drop(reply.send(Err(self.error(
                ErrorKind::EventStore,
                "store-unavailable",
                "the activity's schedule cannot be read; try again",
            )))),
            Fit::Answered => match self.answer_under_way(&token, &report) {
                Some(incoming) => incoming.again.push(reply),
                None => drop(reply.send(Err(self.superseded()))),
            },
            Fit::Gone if self.has_result(context, &token, &report) => drop(reply.send(Ok(()))),
            Fit::Gone | Fit::Superseded => drop(reply.send(Err(self.superseded()))),
            Fit::Forged => drop(reply.send(Err(unknown_task()))),
        }
    }

    /// This very answer on its way into the history; none: another's, or a deadline that passed.
    fn answer_under_way(&mut self, token: &TaskToken, report: &Report) -> Option<&mut Incoming> {
        let taken = self.flight.iter_mut().flat_map(|flight| &mut flight.taken);
        let mut of = self.queue.iter_mut().chain(taken).filter(|i| i.body.command_no == Some(token.task.command_no));
        of.find(|incoming| match (&incoming.body.attributes, report) {
            (Attributes::TaskCompleted(c), Report::Completed(result)) => c.result.as_str() == result.as_str(),
            (Attributes::TaskFailed(f), Report::Failed(failure)) => f.failure == *failure,
            (Attributes::TaskCanceled(_), Report::Canceled) => true,
            _ => false,
        })
    }

    /// What "I stopped because I was asked to" means: a failure like another, if nobody asked.
    fn canceled(&self, no: u64) -> AttemptError {
        if self.tasks.get(&no).is_some_and(|t| t.row.cancel_requested) {
            return AttemptError::Canceled;
        }
        AttemptError::Failed(Failure::new(FailureKind::Canceled, "canceled", "the worker stopped unasked"))
    }

    /// Whether the history holds this very result: the retry of an answer whose acknowledgement was lost.
    fn has_result(&self, context: &Arc<Context>, token: &TaskToken, report: &Report) -> bool {
        let Report::Completed(result) = report else { return false };
        let Ok(Ok(events)) = decoded_history(&*context.store, self.run) else { return false };
        events.iter().any(|event| {
            event.body.command_no == Some(token.task.command_no)
                && matches!(&event.body.attributes, Attributes::TaskCompleted(c)
                    if c.attempt == token.task.attempt && c.result.as_str() == result.as_str())
        })
    }

    fn superseded(&self) -> Error {
        let message = "the attempt is not awaited any more: it timed out, was tried again, given up, or answered \
                       before; drop its result";
        self.error(ErrorKind::ActivityExecution, "superseded", message)
    }

    /// A worker is at it still.
    pub(super) fn beaten(&mut self, context: &Arc<Context>, beaten: Beaten) {
        let Beaten { namespace, token, details, defer, reply } = beaten;
        let no = token.task.command_no;
        let loaded = self.load_row(context);
        if !loaded && !self.gone {
            let error = self.error(ErrorKind::EventStore, "store-unavailable", "the store cannot be read; try again");
            return drop(reply.send(Err(error)));
        }
        match self.fit(&namespace, &token) {
            Fit::Forged => drop(reply.send(Err(unknown_task()))),
            Fit::Gone | Fit::Superseded | Fit::Answered => {
                drop(reply.send(Ok(Beat { cancel_requested: true, gone: true })));
            }
            Fit::Current => {
                let Some(task) = self.tasks.get_mut(&no) else { return };
                task.heard = context.clock.now();
                let beat = Beat { cancel_requested: task.row.cancel_requested, gone: false };
                if defer
                    && let Some(claim) = &mut task.row.claim
                    && let Some(worker) = claim.worker.take()
                {
                    let attempt = Lost { run: self.run, command_no: no, secret: claim.secret };
                    context.remote.workers.released(&worker, attempt);
                    self.riding_tasks.insert(no);
                }
                if details.is_some() {
                    task.row.details = details;
                    self.riding_tasks.insert(no);
                }
                // Acknowledged once it is kept; with nothing to keep, at once.
                self.acks.push(Ack::Beat(reply, beat));
            }
        }
    }

    /// The worker that had the attempt is lost, or has stopped.
    pub(super) fn worker_lost(&mut self, context: &Arc<Context>, no: u64, secret: u64) {
        if !self.load_row(context) || !self.recall_if_needed(context, no) {
            return self.later(context, Message::WorkerLost { command_no: no, secret });
        }
        let Some(task) = self.tasks.get(&no) else { return };
        if task.row.claim.as_ref().is_some_and(|claim| claim.secret == secret) {
            let failure = Failure::new(
                FailureKind::Infrastructure,
                "worker-lost",
                "the worker that had the attempt stopped, or was not heard of any more",
            );
            let attempt = task.row.attempt;
            self.attempt_ended(context, no, attempt, Err(AttemptError::Lost(failure)), None);
        }
    }
}

/// The answer to a token that was never given out, or not here.
fn unknown_task() -> Error {
    Error::new(
        ErrorKind::ActivityExecution,
        "unknown-task",
        "no such task; show the token that came with it, in its namespace",
    )
}
