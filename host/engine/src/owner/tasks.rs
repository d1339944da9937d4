//! Attempts of activities: launching, what follows a failed one, and what the guest is told in the end.

use std::{sync::Arc, time::Duration};

use relive_core::{
    Error, ErrorKind, Failure, FailureKind, Json, Timestamp,
    event::{
        Attributes, EventBody, TaskCanceled, TaskCompleted, TaskFailed, TaskRetryScheduled, TaskScheduled,
        TaskTimedOut, TimeoutType,
    },
    ports::{ActivityTask, TaskRow},
    retry::Next,
};

use super::{Owner, draft::Launch};
use crate::{
    abort,
    attempts::Retrying,
    context::Context,
    dispatch::Attempt,
    message::{AttemptError, Incoming},
};

/// An activity that is not resolved.
pub(crate) struct Task {
    pub row: TaskRow,
    /// What was asked for; absent until it is needed, for tasks that a former host left.
    scheduled: Option<(TaskScheduled, Option<Arc<str>>)>,
    attempt: Option<Attempt>,
    last_failure: Option<Failure>,
    /// Its result waits in the queue.
    resolved: bool,
}

impl Task {
    pub(super) fn new(launch: Launch) -> Self {
        Self {
            row: launch.row,
            scheduled: Some((launch.scheduled, launch.task_queue)),
            attempt: None,
            last_failure: None,
            resolved: false,
        }
    }

    /// A task that a former host left.
    pub(super) fn known(row: TaskRow) -> Self {
        Self { row, scheduled: None, attempt: None, last_failure: None, resolved: false }
    }

    /// Asks the attempt to stop.
    pub(super) fn abort(self) {
        if let Some(attempt) = self.attempt {
            attempt.stop();
        }
    }

    fn deadline(&self) -> Option<Timestamp> {
        let (scheduled, _) = self.scheduled.as_ref()?;
        Some(self.row.scheduled_at.plus(scheduled.options.schedule_to_close?))
    }
}

impl Owner {
    /// Launches the tasks that a former host left.
    pub(super) fn launch_known(&mut self, context: &Arc<Context>) {
        let idle: Vec<u64> =
            self.tasks.iter().filter(|(_, t)| t.attempt.is_none() && !t.resolved).map(|(no, _)| *no).collect();
        for no in idle {
            self.launch(context, no);
        }
    }

    /// Starts the attempt that is due, at once or when it is.
    pub(super) fn launch(&mut self, context: &Arc<Context>, no: u64) {
        let Some(task) = self.tasks.get(&no) else {
            return;
        };
        if task.scheduled.is_none()
            && let Err(error) = self.recall(context, no)
        {
            tracing::error!(run = self.run.0, step = no, %error, "failed to read what an activity was asked for");
            return;
        }
        let (Some(task), Some(row)) = (self.tasks.get_mut(&no), &self.row) else {
            return;
        };
        let Some((scheduled, queue)) = &task.scheduled else {
            return;
        };
        let policy = scheduled.options.policy();
        if policy.maximum_attempts != 0 && task.row.attempt > policy.maximum_attempts {
            let failure =
                Failure::new(FailureKind::Infrastructure, "attempt-lost", "the host ended during the last attempt")
                    .permanent();
            let attempt = task.row.attempt - 1;
            return self.resolve(no, TaskFailed { attempt, failure });
        }
        let now = context.clock.now();
        let left = task.deadline().map(|deadline| deadline.since(now));
        if left == Some(0) {
            let (attempt, last_failure) = (task.row.attempt, task.last_failure.take());
            return self.resolve(no, TaskTimedOut { attempt, timeout: TimeoutType::ScheduleToClose, last_failure });
        }
        let attempt_nanos = scheduled.options.attempt_nanos();
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
            task_queue: queue.clone(),
            correlation_id: row.correlation_id.clone(),
            timeout: Some(timeout.0),
        };
        let delay = Duration::from_nanos(task.row.due_at.since(now));
        task.attempt = Some(context.dispatcher.launch(self.run, request, delay, timeout));
    }

    /// Reads what a task was asked for from its schedule event.
    fn recall(&mut self, context: &Arc<Context>, no: u64) -> Result<(), Error> {
        let Some(task) = self.tasks.get_mut(&no) else {
            return Ok(());
        };
        let unusable = |what: String| Error::new(ErrorKind::ActivityExecution, "unusable", what);
        let events = context.store.read_from(self.run, task.row.event_id, 1).map_err(|e| unusable(e.to_string()))?;
        let event = events.first().ok_or_else(|| unusable(format!("event {} is missing", task.row.event_id)))?;
        let event = event.decode().map_err(|e| unusable(e.to_string()))?;
        let Attributes::TaskScheduled(scheduled) = event.body.attributes else {
            return Err(unusable(format!("event {} schedules no activity", event.event_id)));
        };
        task.scheduled = Some((scheduled, event.body.task_queue));
        Ok(())
    }

    /// An attempt ended: its result, another attempt, or the end.
    pub(super) fn attempt_ended(
        &mut self,
        context: &Arc<Context>,
        no: u64,
        attempt: u32,
        result: Result<Json, AttemptError>,
    ) {
        let Some(task) = self.tasks.get_mut(&no) else {
            return;
        };
        if task.row.attempt != attempt || task.resolved {
            return;
        }
        task.attempt = None;
        abort::point("completion-before-commit");
        let (failure, timeout) = match result {
            Ok(result) => return self.resolve(no, TaskCompleted { attempt, result }),
            Err(AttemptError::Canceled) => {
                let failure = Failure::new(FailureKind::Canceled, "canceled", "the activity was canceled").permanent();
                return self.resolve(no, TaskCanceled { attempt, failure });
            }
            Err(AttemptError::TimedOut(TimeoutType::ScheduleToClose)) => {
                let last_failure = task.last_failure.take();
                return self.resolve(no, TaskTimedOut { attempt, timeout: TimeoutType::ScheduleToClose, last_failure });
            }
            Err(AttemptError::TimedOut(timeout)) => (
                Failure::new(FailureKind::Timeout, timeout.code(), "the attempt gave no result in time"),
                Some(timeout),
            ),
            Err(AttemptError::Failed(failure)) => (failure, None),
        };
        let Some((scheduled, _)) = &task.scheduled else {
            return;
        };
        let draw = (u64::from_le_bytes(crate::ids::seed()[..8].try_into().unwrap_or_default()) >> 11) as f64
            / (1u64 << 53) as f64;
        match scheduled.options.policy().next(attempt, &failure, context.clock.now(), task.deadline(), draw) {
            Next::Retry { at } => self.retry(context, no, failure, at),
            Next::Final => match timeout {
                Some(timeout) => self.resolve(no, TaskTimedOut { attempt, timeout, last_failure: None }),
                None => self.resolve(no, TaskFailed { attempt, failure }),
            },
            Next::DeadlineExceeded => {
                self.resolve(
                    no,
                    TaskTimedOut { attempt, timeout: TimeoutType::ScheduleToClose, last_failure: Some(failure) },
                );
            }
        }
    }

    /// Another attempt follows; its event and row ride on the next commit.
    fn retry(&mut self, context: &Arc<Context>, no: u64, failure: Failure, at: Timestamp) {
        let Some(task) = self.tasks.get_mut(&no) else {
            return;
        };
        let event = TaskRetryScheduled { attempt: task.row.attempt, failure: failure.clone(), next_at: at };
        task.row.attempt += 1;
        task.row.due_at = at;
        task.last_failure = Some(failure.clone());
        let attempt = task.row.attempt;
        self.riding_tasks.insert(no, task.row.clone());
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
        if let Some(attempt) = task.attempt.take() {
            attempt.stop();
        }
        let attempt = task.row.attempt;
        self.attempt_ended(context, no, attempt, Err(AttemptError::Canceled));
    }

    fn resolve(&mut self, no: u64, outcome: impl Into<Attributes>) {
        if let Some(task) = self.tasks.get_mut(&no) {
            task.resolved = true;
            self.riding_tasks.remove(&no);
            self.queue.push_back(Incoming::new(EventBody::new(Some(no), outcome)));
        }
    }
}
