//! Pre-flights for callers: begin one, and read what earlier ones found.

use std::sync::Arc;

use relive_core::{Error, ErrorKind, Json, Namespace};
use tokio::sync::mpsc;

use super::lookup::store_error;
use crate::{
    context::Context,
    engine::Engine,
    preflight::{self, BACKLOG, PreflightRequest, Ready, Told},
};

impl Engine {
    /// Relives executions of a workflow on other code, without effects. What it finds comes over the channel; the report is
    /// last, and stays with the version. Dropping the channel stops it.
    pub async fn preflight(&self, request: PreflightRequest) -> Result<mpsc::Receiver<Told>, Error> {
        self.accepting()?;
        if request.sample == Some(0) {
            let message = "a sample has at least one execution; leave it away to check all";
            return Err(Error::new(ErrorKind::Validation, "invalid-argument", message));
        }
        self.blocking(move |engine| {
            let ready = Ready::new(&engine.context, &request)?;
            let (told, heard) = mpsc::channel(BACKLOG);
            let run = move |context: &Arc<Context>| preflight::run(context, &request, &ready, &told);
            let begun = engine.spawn("relive-preflight", run);
            begun.map_err(|e| Error::new(ErrorKind::Unknown, "internal", format!("failed to start a thread: {e}")))?;
            Ok(heard)
        })
        .await
    }

    /// What pre-flights of a version found, newest first: reports as they were given.
    pub async fn preflights(&self, namespace: Namespace, workflow: String, version: u32) -> Result<Vec<Json>, Error> {
        self.blocking(move |engine| {
            let rows = engine.context.catalog.preflights(&namespace, &workflow, version).map_err(store_error)?;
            Ok(rows.into_iter().map(|row| row.report).collect())
        })
        .await
    }
}
