//! The end of a run, for those who ask and those who wait.

use std::time::Duration;

use relive_core::{
    Error, Failure, FailureKind,
    event::Attributes,
    ports::{ExecutionRow, Status},
};

use super::lookup::store_error;
use crate::{engine::Engine, requests::Target, views::ResultView};

impl Engine {
    /// How the run ended. With `wait`, waits that long for its end; an open run is reported as it is then.
    pub async fn result(&self, target: Target, wait: Option<Duration>) -> Result<ResultView, Error> {
        let row = self.blocking(move |engine| engine.find(&target)).await?;
        if !row.status.is_open() || wait.is_none_or(|w| w.is_zero()) {
            return self.blocking(move |engine| engine.result_of(&row)).await;
        }
        let key = row.key;
        let waiter = self.context.waiters.wait(key);
        // The run may have ended between the first look and the registration.
        let again = self.blocking(move |engine| engine.context.store.execution(key).map_err(store_error)).await?;
        if let Some(row) = again.filter(|r| !r.status.is_open()) {
            self.context.waiters.prune(key);
            return self.blocking(move |engine| engine.result_of(&row)).await;
        }
        match tokio::time::timeout(wait.unwrap_or_default(), waiter).await {
            Ok(Ok(ended)) => Ok(ResultView::clone(&ended)),
            _ => {
                self.context.waiters.prune(key);
                self.blocking(move |engine| {
                    let row = engine.context.store.execution(key).map_err(store_error)?.unwrap_or(row);
                    engine.result_of(&row)
                })
                .await
            }
        }
    }

    pub(crate) fn result_of(&self, row: &ExecutionRow) -> Result<ResultView, Error> {
        let mut view = ResultView {
            workflow_id: row.execution.workflow_id.to_string(),
            run_id: row.execution.run_id,
            status: row.status,
            result: None,
            failure: None,
            continued_as: None,
            blocked: None,
        };
        if row.status == Status::Running {
            return Ok(view);
        }
        let last = self.context.store.read_from(row.key, row.last_event_id, 1).map_err(store_error)?;
        match last.first().and_then(|e| e.decode().ok()).map(|e| e.body.attributes) {
            Some(Attributes::ExecutionCompleted(a)) => view.result = Some(a.result),
            Some(Attributes::ExecutionFailed(a)) => view.failure = Some(a.failure),
            Some(Attributes::ExecutionCanceled(a)) => view.failure = Some(a.failure),
            Some(Attributes::ExecutionTerminated(a)) => {
                view.failure = Some(Failure::new(FailureKind::Terminated, "terminated", a.reason).permanent());
            }
            Some(Attributes::ExecutionContinuedAsNew(a)) => view.continued_as = Some(a.new_run_id),
            _ => view.blocked = row.blocked.map(|b| b.to_string()),
        }
        Ok(view)
    }
}
