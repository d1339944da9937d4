//! Activities that are not resolved: where each stands, which attempt, what the last one said, who has it.

use relive_core::{
    Error, Failure, Json, RunKey, ShardSet, Timestamp,
    event::Attributes,
    ports::{ExecutionRow, TaskRow},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::lookup::store_error;
use crate::{engine::Engine, requests::Target, schema};

/// Open tasks that are looked at for one page.
const PAGE: usize = 1_000;

/// Where a pending activity stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PendingState {
    /// The host itself runs it, or will in a moment.
    Hosted,
    /// It waits in its queue for a worker.
    Queued,
    /// The next attempt is not due yet.
    BackingOff,
    /// A worker has it, or whoever took it on to answer by its token.
    Running,
    /// An operator paused it.
    Paused,
    /// Its attempts are used up and nobody answered the last: an operator decides.
    Exhausted,
}

/// An activity that is scheduled and not resolved.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PendingActivity {
    pub workflow_id: String,
    pub run_id: String,
    pub command_no: u64,
    pub activity: String,
    pub state: PendingState,
    /// The attempt that is due or running, from 1.
    pub attempt: u32,
    /// 0: without end.
    pub maximum_attempts: u32,
    #[schema(value_type = schema::Timestamp)]
    pub scheduled_at: Timestamp,
    /// When the attempt is, or was, due.
    #[schema(value_type = schema::Timestamp)]
    pub due_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_queue: Option<String>,
    /// The id of the worker that has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::Timestamp>)]
    pub started_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::Failure>)]
    pub last_failure: Option<Failure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = schema::Json, required = false)]
    pub heartbeat_details: Option<Json>,
    pub cancel_requested: bool,
}

/// A page of them, by execution and step.
#[derive(Clone, Debug)]
pub struct PendingPage {
    pub activities: Vec<PendingActivity>,
    pub next: Option<String>,
}

impl Engine {
    /// The pending activities of one execution, or of a namespace, a page at a time.
    pub async fn pending_activities(
        &self,
        namespace: relive_core::Namespace,
        target: Option<Target>,
        after: Option<String>,
        limit: usize,
    ) -> Result<PendingPage, Error> {
        let after = after.map(|text| cursor(&text)).transpose()?;
        let limit = limit.clamp(1, PAGE);
        self.blocking(move |engine| {
            let store = &engine.context.store;
            let rows = match &target {
                Some(target) => store.open_work(engine.find(target)?.key).map_err(store_error)?.0,
                None => store.open_tasks(&ShardSet::ALL, after, limit).map_err(store_error)?,
            };
            let full = target.is_none() && rows.len() == limit;
            let next = rows.last().filter(|_| full).map(|t| format!("{}-{}", t.run.0, t.command_no));
            let mut activities = Vec::with_capacity(rows.len());
            let mut of: Option<ExecutionRow> = None;
            for row in &rows {
                if of.as_ref().is_none_or(|of| of.key != row.run) {
                    of = store.execution(row.run).map_err(store_error)?;
                }
                let Some(of) = of.as_ref().filter(|of| of.execution.namespace == namespace) else { continue };
                activities.extend(engine.pending(of, row)?);
            }
            Ok(PendingPage { activities, next })
        })
        .await
    }

    fn pending(&self, of: &ExecutionRow, row: &TaskRow) -> Result<Option<PendingActivity>, Error> {
        let events = self.context.store.read_from(row.run, row.event_id, 1).map_err(store_error)?;
        let scheduled = events.first().and_then(|e| e.decode().ok()).map(|e| e.body.attributes);
        let Some(Attributes::TaskScheduled(scheduled)) = scheduled else { return Ok(None) };
        let options = row.options.as_ref().unwrap_or(&scheduled.options);
        let retrying = self.context.attempts.of(row.run, row.command_no);
        Ok(Some(PendingActivity {
            workflow_id: of.execution.workflow_id.to_string(),
            run_id: of.execution.run_id.to_string(),
            command_no: row.command_no,
            activity: scheduled.name.to_string(),
            state: self.state_of(row),
            attempt: retrying.as_ref().map_or(row.attempt, |r| r.attempt.max(row.attempt)),
            maximum_attempts: options.policy().maximum_attempts,
            scheduled_at: row.scheduled_at,
            due_at: row.due_at,
            task_queue: row.queue.as_deref().map(str::to_owned),
            worker: row.claim.as_ref().and_then(|c| c.worker.as_deref()).map(str::to_owned),
            started_at: row.claim.as_ref().map(|c| c.at),
            last_failure: retrying
                .map(|r| r.last_failure)
                .or_else(|| row.exhausted.as_ref().map(|exhausted| exhausted.how.last_failure.clone())),
            heartbeat_details: row.details.clone(),
            cancel_requested: row.cancel_requested,
        }))
    }

    fn state_of(&self, row: &TaskRow) -> PendingState {
        if row.claim.is_some() {
            PendingState::Running
        } else if row.exhausted.is_some() {
            PendingState::Exhausted
        } else if row.paused {
            PendingState::Paused
        } else if row.due_at > self.context.clock.now() {
            PendingState::BackingOff
        } else if row.queue.is_some() {
            PendingState::Queued
        } else {
            PendingState::Hosted
        }
    }

    /// For whom each pending activity of a run waits, in words, by command number.
    pub(crate) fn waiting_for(&self, of: &ExecutionRow) -> Result<Vec<(u64, String)>, Error> {
        let rows = self.context.store.open_work(of.key).map_err(store_error)?.0;
        let words = rows.iter().filter_map(|row| Some((row.command_no, self.waits_on(of, row)?)));
        Ok(words.collect())
    }

    fn waits_on(&self, of: &ExecutionRow, row: &TaskRow) -> Option<String> {
        if let Some(exhausted) = &row.exhausted {
            let (code, id, no) = (&exhausted.how.last_failure.code, &of.execution.workflow_id, row.command_no);
            // What to do stands in front: tables cut long lines off.
            let decide = format!("`relive failed-tasks redrive {id} {no}` or `give-up`");
            return Some(format!("exhausted; {decide}; nobody answered the last attempt ({code})"));
        }
        if let Some(claim) = &row.claim {
            return Some(match claim.worker.as_deref() {
                Some(worker) => format!("worker {worker} has it"),
                None => "whoever has its token answers for it".to_owned(),
            });
        }
        let queue = row.queue.as_ref()?;
        if row.paused {
            return Some("paused by an operator".to_owned());
        }
        let name = (of.execution.namespace.clone(), queue.clone());
        let view = self.context.remote.queues.view(&name, self.context.clock.now());
        if let Some(limit) = view.as_ref().and_then(|v| v.held_back) {
            return Some(format!("waits in task queue {queue}, which is held back by its {limit} limit"));
        }
        Some(match view.and_then(|v| v.last_poll) {
            Some(_) => format!("waits for a worker of task queue {queue}"),
            None => format!(
                "waits for a worker of task queue {queue}, which none has polled: start one, or deploy the activity"
            ),
        })
    }
}

pub(super) fn cursor(text: &str) -> Result<(RunKey, u64), Error> {
    let parsed = text.split_once('-').and_then(|(run, no)| Some((RunKey(run.parse().ok()?), no.parse().ok()?)));
    parsed.ok_or_else(|| {
        Error::new(
            relive_core::ErrorKind::Validation,
            "invalid-cursor",
            "the page cursor is not one that a list gave; begin without",
        )
    })
}
