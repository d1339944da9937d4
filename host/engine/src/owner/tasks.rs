//! Attempts of activities: launching, what follows a failed one, and what the guest is told in the end.

use std::{sync::Arc, time::Duration};

use relive_core::{
    Failure, FailureKind, Json, Namespace, RunId, Timestamp,
    codec::StoredEvent,
    event::{
        Attributes, EventBody, TaskCanceled, TaskCompleted, TaskFailed, TaskRetryScheduled, TaskScheduled,
        TaskTimedOut, TimeoutType,
    },
    options::ActivityOptions,
    ports::{ActivityTask, TaskRow},
    retry::Next,
    trace::TraceParent,
};

use super::{Owner, draft::Launch};
use crate::{
    abort,
    attempts::Retrying,
    context::Context,
    dispatch::Attempt,
    message::{Ack, AttemptError, Incoming, Reply},
};

/// An activity that is not resolved.
pub(crate) struct Task {
    pub row: TaskRow,
    /// What was asked for; absent until it is needed, for tasks that a former host left.
    scheduled: Option<(TaskScheduled, Option<Arc<str>>)>,
    /// The run's trace, known with it.
    trace: Option<Arc<str>>,
    pub(super) attempt: Option<Attempt>,
    last_failure: Option<Failure>,
    /// Its result waits in the queue.
    pub(super) resolved: bool,
    /// When its worker was last heard of.
    pub(super) heard: Timestamp,
    /// When its alarm rings.
    pub(super) alarm: Option<Timestamp>,
}

impl Task {
    pub(super) fn new(launch: Launch) -> Self {
        Self {
            row: launch.row,
            scheduled: Some((launch.scheduled, launch.task_queue)),
            trace: launch.trace_id,
            attempt: None,
            last_failure: None,
            resolved: false,
            heard: Timestamp(0),
            alarm: None,
        }
    }

    /// A task that a former host left.
    pub(super) fn known(row: TaskRow) -> Self {
        let (heard, alarm) = (Timestamp(0), None);
        Self { row, scheduled: None, trace: None, attempt: None, last_failure: None, resolved: false, heard, alarm }
    }

    /// Asks the attempt to stop.
    pub(super) fn abort(self) {
        if let Some(attempt) = self.attempt {
            attempt.stop();
        }
    }

    fn deadline(&self) -> Option<Timestamp> {
        let (_, options) = self.asked()?;
        Some(self.row.scheduled_at.plus(options.schedule_to_close?))
    }

    /// Who runs its attempts by the deployment as it is now.
    pub(super) fn route(&mut self, context: &Context, namespace: &Namespace) {
        if let Some((scheduled, queue)) = &self.scheduled {
            self.row.queue = context.dispatcher.route(namespace, &scheduled.name, queue.as_ref());
        }
    }

    /// The run's trace, if it is known.
    pub(super) fn trace_id(&self) -> Option<Arc<str>> {
        self.trace.clone()
    }

    /// The span of the attempt that is due or running.
    pub(super) fn traceparent(&self, run: RunId) -> TraceParent {
        TraceParent::of_attempt(self.trace.as_deref(), run, self.row.command_no, self.row.attempt)
    }

    /// What was asked for, and the options in force: an operator's go before the guest's.
    pub(super) fn asked(&self) -> Option<(&TaskScheduled, Arc<ActivityOptions>)> {
        let (scheduled, _) = self.scheduled.as_ref()?;
        Some((scheduled, self.row.options.as_ref().unwrap_or(&scheduled.options).clone()))
    }
}

impl Owner {
    /// Launches the tasks that a former host left.
    pub(super) fn launch_known(&mut self, context: &Arc<Context>) {
        let idle: Vec<u64> =
            self.tasks.iter().filter(|(_, t)| t.attempt.is_none() && !t.resolved).map(|(no, _)| *no).collect();
        for no in idle {
            let Some(row) = self.tasks.get(&no).map(|task| &task.row) else { continue };
            // What waits in its queue waits there whether its owner is in memory or not.
            if row.queue.is_none() || !context.remote.queues.holds(self.run, no, row.attempt) {
                // First: whoever has it gets the time of a heartbeat from now on. Once.
                if self.tasks.get(&no).is_some_and(|task| task.heard == Timestamp(0)) {
                    self.note_claim(context, no);
                }
                self.launch(context, no);
            }
        }
    }

    /// Makes sure that it is known what a task was asked for. False: the store cannot say now.
    pub(super) fn recall_if_needed(&mut self, context: &Arc<Context>, no: u64) -> bool {
        if self.tasks.get(&no).is_some_and(|task| task.scheduled.is_some()) {
            return true;
        }
        let Some(task) = self.tasks.get(&no) else { return true };
        match context.store.read_from(self.run, task.row.event_id, 1) {
            Ok(events) => match self.recall(no, events.first()) {
                Ok(()) => return true,
                Err(what) => tracing::error!(run = self.run.0, step = no, what, "an activity's schedule is unusable"),
            },
            // Launched, offered or looked at once it can be read.
            Err(error) => self.store_trouble(context, &error),
        }
        false
    }

    /// Starts the attempt that is due, at once or when it is.
    pub(super) fn launch(&mut self, context: &Arc<Context>, no: u64) {
        let waits = self.begin_with_commit.contains(&no) || !self.tasks.contains_key(&no);
        if waits || !self.recall_if_needed(context, no) {
            return;
        }
        let (Some(task), Some(row)) = (self.tasks.get_mut(&no), &self.row) else {
            return;
        };
        if task.row.queue.is_some() || task.row.claim.is_some() || task.is_held() {
            return self.place(context, no);
        }
        let Some((scheduled, options)) = task.asked() else {
            return;
        };
        let policy = options.policy();
        if policy.maximum_attempts != 0 && task.row.attempt > policy.maximum_attempts {
            let failure =
                Failure::new(FailureKind::Infrastructure, "attempt-lost", "the host ended during the last attempt")
                    .permanent();
            let attempt = task.row.attempt - 1;
            if policy.non_retryable_codes.contains(&failure.code) {
                return self.resolve(no, TaskFailed { attempt, failure }, None);
            }
            return self.exhaust(context, no, attempt, failure, None);
        }
        let now = context.clock.now();
        let left = task.deadline().map(|deadline| deadline.since(now));
        if left == Some(0) {
            let (attempt, last_failure) = (task.row.attempt, task.last_failure.take());
            let timed_out = TaskTimedOut { attempt, timeout: TimeoutType::ScheduleToClose, last_failure };
            return self.resolve(no, timed_out, None);
        }
        let attempt_nanos = options.attempt_nanos();
        let timeout = match left {
            Some(left) if left < attempt_nanos => (Duration::from_nanos(left), TimeoutType::ScheduleToClose),
            _ => (Duration::from_nanos(attempt_nanos), TimeoutType::StartToClose),
        };
        let request = ActivityTask {
            execution: row.execution.clone(),
            command_no: no,
            name: scheduled.name.clone(),
            input: scheduled.input.clone(),
            attempt: task.row.attempt,
            task_queue: task.scheduled.as_ref().and_then(|(_, queue)| queue.clone()),
            correlation_id: row.correlation_id.clone(),
            trace: task.traceparent(row.execution.run_id),
            timeout: Some(timeout.0),
            token: None,
        };
        let delay = Duration::from_nanos(task.row.due_at.since(now));
        let begin = (task.row.due_at.max(now), delay);
        let late = Duration::from_nanos(now.since(task.row.due_at));
        task.attempt = Some(context.dispatcher.launch(self.run, request, begin, late, timeout));
    }

    /// Takes what a task was asked for from its schedule event.
    fn recall(&mut self, no: u64, event: Option<&StoredEvent>) -> Result<(), String> {
        let Some(task) = self.tasks.get_mut(&no) else {
            return Ok(());
        };
        let event = event.ok_or_else(|| format!("event {} is missing", task.row.event_id))?;
        let event = event.decode().map_err(|e| e.to_string())?;
        let Attributes::TaskScheduled(scheduled) = event.body.attributes else {
            return Err(format!("event {} schedules no activity", event.event_id));
        };
        task.scheduled = Some((scheduled, event.body.task_queue));
        task.trace = event.body.trace_id;
        Ok(())
    }

    /// An attempt ended: its result, another attempt, or the end. `reply` hears of it once that is durable.
    pub(super) fn attempt_ended(
        &mut self,
        context: &Arc<Context>,
        no: u64,
        attempt: u32,
        result: Result<Json, AttemptError>,
        reply: Option<Reply>,
    ) {
        if self.tasks.get(&no).is_none_or(|task| task.row.attempt != attempt || task.resolved) {
            return;
        }
        self.forget_remote(context, no);
        let Some(task) = self.tasks.get_mut(&no) else {
            return;
        };
        task.attempt = None;
        abort::point("completion-before-commit");
        // What is asked to stop is not tried again, however it ended.
        let stopped = task.row.cancel_requested;
        let result = result.map_err(|error| if stopped { AttemptError::Canceled } else { error });
        let mut lost = false;
        let (failure, timeout) = match result {
            Ok(result) => return self.resolve(no, TaskCompleted { attempt, result }, reply),
            Err(AttemptError::Canceled) => {
                let failure = Failure::new(FailureKind::Canceled, "canceled", "the activity was canceled").permanent();
                return self.resolve(no, TaskCanceled { attempt, failure }, reply);
            }
            // Time that ran out for the activity, or for its finding a worker, is not given again.
            Err(AttemptError::TimedOut(timeout @ (TimeoutType::ScheduleToClose | TimeoutType::ScheduleToStart))) => {
                let held = task.row.exhausted.as_ref().map(|exhausted| exhausted.how.last_failure.clone());
                let last_failure = held.or_else(|| task.last_failure.take());
                return self.resolve(no, TaskTimedOut { attempt, timeout, last_failure }, reply);
            }
            Err(AttemptError::TimedOut(timeout)) => (
                Failure::new(FailureKind::Timeout, timeout.code(), "the attempt gave no result in time"),
                Some(timeout),
            ),
            Err(AttemptError::Lost(failure)) => {
                lost = true;
                (failure, None)
            }
            Err(AttemptError::Failed(failure)) => (failure, None),
        };
        // A worker that was silent for too long is as good as lost; one that took too long is not.
        lost |= timeout == Some(TimeoutType::Heartbeat);
        let Some((_, options)) = task.asked() else { return };
        let draw = (u64::from_le_bytes(crate::ids::seed()[..8].try_into().unwrap_or_default()) >> 11) as f64
            / (1u64 << 53) as f64;
        context.metrics.attempt_failed(failure.kind);
        let policy = options.policy();
        match policy.next(attempt, &failure, context.clock.now(), task.deadline(), draw) {
            Next::Retry { at } => {
                self.acks.extend(reply.map(Ack::Report));
                self.retry(context, no, failure, at);
            }
            Next::Final if lost && !policy.non_retryable_codes.contains(&failure.code) => {
                self.acks.extend(reply.map(Ack::Report));
                self.exhaust(context, no, attempt, failure, timeout);
            }
            Next::Final => match timeout {
                Some(timeout) => self.resolve(no, TaskTimedOut { attempt, timeout, last_failure: None }, reply),
                None => self.resolve(no, TaskFailed { attempt, failure }, reply),
            },
            Next::DeadlineExceeded => {
                let timeout = TimeoutType::ScheduleToClose;
                self.resolve(no, TaskTimedOut { attempt, timeout, last_failure: Some(failure) }, reply);
            }
        }
    }

    /// Another attempt follows; its event and row ride on the next commit.
    fn retry(&mut self, context: &Arc<Context>, no: u64, failure: Failure, at: Timestamp) {
        let (Some(task), Some(row)) = (self.tasks.get_mut(&no), &self.row) else {
            return;
        };
        let event = TaskRetryScheduled { attempt: task.row.attempt, failure: failure.clone(), next_at: at };
        task.row.attempt += 1;
        task.row.due_at = at;
        task.last_failure = Some(failure.clone());
        task.route(context, &row.execution.namespace);
        let attempt = task.row.attempt;
        self.riding_tasks.insert(no);
        tracing::info!(run = self.run.0, step = no, attempt, %failure, "attempt failed; another follows");
        context.attempts.failed(self.run, no, Retrying { attempt, last_failure: failure });
        self.riding.push(EventBody { is_retry: true, ..EventBody::new(Some(no), event) });
        self.launch(context, no);
    }

    /// The guest gave the activity up and waits for its answer.
    pub(super) fn cancel_task(&mut self, context: &Arc<Context>, no: u64) {
        let Some(task) = self.tasks.get_mut(&no) else {
            return;
        };
        if task.row.claim.is_some() {
            // Its worker learns of it with the next heartbeat, and has until its deadlines to answer.
            task.row.cancel_requested = true;
            self.riding_tasks.insert(no);
            self.urgent = true;
            return;
        }
        if let Some(attempt) = task.attempt.take() {
            attempt.stop();
        }
        let attempt = task.row.attempt;
        self.attempt_ended(context, no, attempt, Err(AttemptError::Canceled), None);
    }

    pub(super) fn resolve(&mut self, no: u64, outcome: impl Into<Attributes>, reply: Option<Reply>) {
        if let Some(task) = self.tasks.get_mut(&no) {
            task.resolved = true;
            self.riding_tasks.remove(&no);
            let body = EventBody::new(Some(no), outcome);
            self.queue.push_back(Incoming { reply, ..Incoming::new(body) });
        }
    }

    /// The activity is over, as far as this execution is concerned.
    pub(super) fn drop_task(&mut self, context: &Arc<Context>, no: u64, stop: bool) {
        context.attempts.forget(self.run, no);
        self.forget_remote(context, no);
        self.riding_tasks.remove(&no);
        if let Some(task) = self.tasks.remove(&no)
            && stop
        {
            task.abort();
        }
    }
}
