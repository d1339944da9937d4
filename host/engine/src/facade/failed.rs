//! Activities that are exhausted: attempts used up, the last of them unanswered, and an operator has yet to decide.

use relive_core::{Error, Failure, Json, Namespace, Timestamp, event::Attributes, ports::TaskRow};
use serde::Serialize;
use utoipa::ToSchema;

use super::{lookup::store_error, pending::cursor};
use crate::{engine::Engine, schema};

/// Exhausted tasks of one page.
const PAGE: usize = 1_000;

/// An activity that is exhausted.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct FailedTask {
    pub workflow_id: String,
    pub run_id: String,
    pub command_no: u64,
    pub activity: String,
    #[schema(value_type = schema::Json)]
    pub input: Json,
    /// Of activities that workers run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_queue: Option<String>,
    /// Attempts made.
    pub attempts: u32,
    /// How the last one ended.
    #[schema(value_type = schema::Failure)]
    pub last_failure: Failure,
    #[schema(value_type = schema::Timestamp)]
    pub scheduled_at: Timestamp,
    #[schema(value_type = schema::Timestamp)]
    pub failed_at: Timestamp,
}

/// A page of them, by execution and step.
#[derive(Clone, Debug)]
pub struct FailedPage {
    pub failed_tasks: Vec<FailedTask>,
    pub next: Option<String>,
}

impl Engine {
    /// The exhausted activities of a namespace, or of one of its task queues, a page at a time.
    pub async fn failed_tasks(
        &self,
        namespace: Namespace,
        queue: Option<String>,
        after: Option<String>,
        limit: usize,
    ) -> Result<FailedPage, Error> {
        let mut after = after.map(|text| cursor(&text)).transpose()?;
        let limit = limit.clamp(1, PAGE);
        self.blocking(move |engine| {
            let mut failed_tasks = Vec::new();
            loop {
                let wanted = limit - failed_tasks.len();
                let rows = engine.context.store.exhausted_tasks(&namespace, after, wanted).map_err(store_error)?;
                after = rows.last().map(|t| (t.run, t.command_no)).or(after);
                for row in rows.iter().filter(|row| queue.is_none() || row.queue.as_deref() == queue.as_deref()) {
                    failed_tasks.extend(engine.failed(row)?);
                }
                let more = rows.len() == wanted;
                if !more || failed_tasks.len() == limit {
                    let next = after.filter(|_| more).map(|(run, no)| format!("{}-{no}", run.0));
                    return Ok(FailedPage { failed_tasks, next });
                }
            }
        })
        .await
    }

    fn failed(&self, row: &TaskRow) -> Result<Option<FailedTask>, Error> {
        let store = &self.context.store;
        let (Some(of), Some(exhausted)) = (store.execution(row.run).map_err(store_error)?, &row.exhausted) else {
            return Ok(None);
        };
        let events = store.read_from(row.run, row.event_id, 1).map_err(store_error)?;
        let scheduled = events.first().and_then(|e| e.decode().ok()).map(|e| e.body.attributes);
        let Some(Attributes::TaskScheduled(scheduled)) = scheduled else { return Ok(None) };
        Ok(Some(FailedTask {
            workflow_id: of.execution.workflow_id.to_string(),
            run_id: of.execution.run_id.to_string(),
            command_no: row.command_no,
            activity: scheduled.name.to_string(),
            input: scheduled.input,
            task_queue: row.queue.as_deref().map(str::to_owned),
            attempts: exhausted.how.attempts,
            last_failure: exhausted.how.last_failure.clone(),
            scheduled_at: row.scheduled_at,
            failed_at: exhausted.at,
        }))
    }
}
