//! Finding what callers name, and doing it on threads that may block.

use std::sync::atomic::Ordering;

use relive_core::{
    Error, ErrorKind,
    ports::{ExecutionRow, StoreError, StoreErrorKind},
};

use crate::{engine::Engine, requests::Target};

/// A store's error as callers see it.
pub(crate) fn store_error(error: StoreError) -> Error {
    let code = match error.kind {
        StoreErrorKind::NoSpace => "no-space",
        StoreErrorKind::ReadOnly => "read-only",
        StoreErrorKind::Corrupt => "corrupt",
        StoreErrorKind::Transient | StoreErrorKind::Fatal => "store-unavailable",
    };
    Error::new(ErrorKind::EventStore, code, error.message)
}

impl Engine {
    /// Runs `work` on a thread that may block.
    pub async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Engine) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let engine = self.clone();
        match tokio::task::spawn_blocking(move || work(&engine)).await {
            Ok(result) => result,
            Err(error) => {
                tracing::error!(%error, "a request's work ended badly");
                Err(Error::new(ErrorKind::Unknown, "internal", "the host failed to do it; see its log"))
            }
        }
    }

    pub(crate) fn find(&self, target: &Target) -> Result<ExecutionRow, Error> {
        let found =
            self.context.store.find(&target.namespace, &target.workflow_id, target.run_id).map_err(store_error)?;
        found.ok_or_else(|| {
            let run = target.run_id.map(|r| format!(" run {r}")).unwrap_or_default();
            let message = format!(
                "there is no execution {}{run} in namespace {}; `relive list` shows those there are",
                target.workflow_id, target.namespace
            );
            Error::new(ErrorKind::WorkflowExecution, "unknown-execution", message)
        })
    }

    /// The execution, which must be open.
    pub(crate) fn find_open(&self, target: &Target) -> Result<ExecutionRow, Error> {
        let row = self.find(target)?;
        if row.status.is_open() {
            return Ok(row);
        }
        let message = format!("the execution has ended ({}); nothing can be sent to it any more", row.status.name());
        Err(Error::new(ErrorKind::WorkflowExecution, "closed", message).at(&row.execution))
    }

    /// Whether new work is taken.
    pub(crate) fn accepting(&self) -> Result<(), Error> {
        self.unless(self.context.draining.load(Ordering::Acquire) || self.context.stopping.load(Ordering::Acquire))
    }

    /// Whether answers for what runs already are taken.
    pub(crate) fn answering(&self) -> Result<(), Error> {
        self.unless(self.context.stopping.load(Ordering::Acquire))
    }

    pub(crate) fn unless(&self, ending: bool) -> Result<(), Error> {
        if ending {
            return Err(Error::new(
                ErrorKind::Cancelled,
                "shutting-down",
                "the host is shutting down; try again in a moment",
            ));
        }
        Ok(())
    }
}
