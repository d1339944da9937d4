//! Whether the host takes work: not while it recovers, not while it drains, and not while the store cannot be written.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use relive_core::{Error, ErrorKind};

use crate::{engine::Engine, facade::store_error};

/// A store that took something as lately as this is not asked whether it takes something.
const BELIEVE: Duration = Duration::from_secs(10);
/// One in trouble is asked again after this.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How long the store may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is known of a host's health.
pub(crate) struct Health {
    began: Instant,
    /// Everything that had something to do at the start was woken.
    recovered: AtomicBool,
    /// ms since `began`, plus one, when the store last took something.
    took: AtomicU64,
    /// The same, of the last time that it did not; 0: never.
    failed: AtomicU64,
}

impl Default for Health {
    fn default() -> Self {
        // Opening a store writes to it, and that was just now.
        let (took, failed) = (AtomicU64::new(1), AtomicU64::new(0));
        Self { began: Instant::now(), recovered: AtomicBool::new(false), took, failed }
    }
}

impl Health {
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    pub fn recovered(&self) {
        self.recovered.store(true, Ordering::Release);
    }

    /// The store took something, or could not.
    pub fn wrote(&self, well: bool) {
        let at = if well { &self.took } else { &self.failed };
        at.store(self.now(), Ordering::Release);
    }

    /// Whether the store can be written, if that is known without asking it.
    fn known(&self) -> Option<bool> {
        let (took, failed) = (self.took.load(Ordering::Acquire), self.failed.load(Ordering::Acquire));
        let since = |at: u64| Duration::from_millis(self.now().saturating_sub(at));
        if failed >= took {
            return (since(failed) < ASK_AGAIN).then_some(false);
        }
        (since(took) < BELIEVE).then_some(true)
    }
}

impl Engine {
    /// Whether the host takes work; the error says why not: `recovering`, `shutting-down`, or what the store has.
    pub async fn readiness(&self) -> Result<(), Error> {
        self.accepting()?;
        if self.context.cluster.as_ref().is_some_and(|cluster| cluster.is_draining()) {
            let message = "the host hands its executions over and ends; ask another one";
            return Err(Error::new(ErrorKind::Concurrency, "shutting-down", message));
        }
        let health = &self.context.health;
        if !health.recovered.load(Ordering::Acquire) {
            let message = "the host is still waking what had something to do before it started; ask again";
            return Err(Error::new(ErrorKind::Concurrency, "recovering", message));
        }
        let unavailable = |what: &str| {
            Error::new(ErrorKind::EventStore, "store-unavailable", format!("the store cannot be written: {what}"))
        };
        match health.known() {
            Some(true) => return Ok(()),
            Some(false) => return Err(unavailable("the latest write failed; the host's log says why")),
            None => {}
        }
        let probe = self.blocking(|engine| {
            let probed = engine.context.store.probe();
            engine.context.health.wrote(probed.is_ok());
            probed.map_err(store_error)
        });
        match tokio::time::timeout(PATIENCE, probe).await {
            Ok(probed) => probed,
            Err(_) => Err(unavailable("it did not answer in time")),
        }
    }

    pub(crate) async fn is_ready(&self) -> bool {
        self.readiness().await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_word_counts_for_a_while() {
        let health = Health::default();
        assert_eq!(health.known(), Some(true));
        health.failed.store(health.now() + 1, Ordering::Release);
        assert_eq!(health.known(), Some(false));
        health.took.store(health.now() + 2, Ordering::Release);
        assert_eq!(health.known(), Some(true));
    }
}
