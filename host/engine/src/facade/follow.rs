//! Following: reads that go on when something was committed. Nothing is kept for a follower but its place and what
//! tells it of changes; whoever is slow reads later.

use std::{collections::HashMap, time::Duration};

use relive_core::{
    Error, ErrorKind, ExecutionKey, HistoryEvent, RunId, RunKey,
    cursor::LogLine,
    ports::{ListFilter, Status},
};
use tokio::{sync::watch, time::Instant};

use super::lookup::store_error;
use crate::{
    changes::{Missed, Watch},
    engine::Engine,
    requests::Target,
    views::ExecutionView,
};

/// How often a follower of the list looks for what other hosts did.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How far such a look reaches: the newest executions of the list.
const LOOKED_AT: usize = 1_000;

/// What one read gives, and whether the run had ended before it: then there is nothing after what it gives.
#[derive(Clone, Debug)]
pub struct Chunk<T> {
    pub items: Vec<T>,
    pub ended: Option<Status>,
}

/// A run that is followed.
pub struct Follow {
    engine: Engine,
    run: RunKey,
    pub execution: ExecutionKey,
    watch: Watch,
}

/// The list of executions, followed.
pub struct FollowList {
    engine: Engine,
    filter: ListFilter,
    /// The number of the last change that was given.
    at: u64,
    told: watch::Receiver<()>,
    /// In a cluster, where other hosts change the list, too.
    others: Option<Others>,
}

/// How the list looked when it was looked at last.
struct Others {
    looked: Instant,
    seen: HashMap<RunId, Status>,
}

/// What happened to the list.
#[derive(Clone, Debug)]
pub enum ListChange {
    /// These executions began, ended, were blocked or unblocked; as they are now.
    Executions(Vec<ExecutionView>),
    /// Too long ago to tell: read the list.
    Reload,
}

impl Engine {
    /// Follows an execution's run.
    pub async fn follow(&self, target: Target) -> Result<Follow, Error> {
        let row = self.blocking(move |engine| engine.find(&target)).await?;
        let watch = self.context.changes.follow(row.key);
        Ok(Follow { engine: self.clone(), run: row.key, execution: row.execution, watch })
    }

    /// Follows the list after the change that `after` names: this process's generation and the change's number. From now on if
    /// there is none. The filter's status is not applied: who left it is told, too.
    #[must_use]
    pub fn follow_list(&self, filter: ListFilter, after: Option<(u64, u64)>) -> FollowList {
        let (last, told) = self.context.changes.follow_list();
        let others = self.is_clustered().then(|| Others { looked: Instant::now(), seen: HashMap::new() });
        let at = match after {
            None => last,
            // What others did meanwhile nobody knows.
            Some(_) if others.is_some() => u64::MAX,
            Some((epoch, at)) if epoch == self.context.generation => at,
            // Of another life of the host: never a number that is remembered.
            Some(_) => u64::MAX,
        };
        FollowList { engine: self.clone(), filter: ListFilter { status: None, ..filter }, at, told, others }
    }
}

impl Follow {
    /// Events from `from` on, at most `limit`.
    pub async fn events(&mut self, from: u64, limit: usize) -> Result<Chunk<HistoryEvent>, Error> {
        self.watch.mark();
        let (run, execution) = (self.run, self.execution.clone());
        let read = move |engine: &Engine| {
            let ended = engine.ended(run)?;
            let stored = engine.context.store.read_from(run, from.max(1), limit).map_err(store_error)?;
            let decoded = stored.iter().map(|event| event.decode()).collect::<Result<Vec<_>, _>>();
            let items = decoded.map_err(|e| Error::new(ErrorKind::Codec, "corrupt", e.to_string()).at(&execution))?;
            Ok(Chunk { items, ended })
        };
        self.engine.blocking(read).await
    }

    /// Log lines after number `after`, at most `limit`.
    pub async fn lines(&mut self, after: u64, limit: usize) -> Result<Chunk<(u64, LogLine)>, Error> {
        self.watch.mark();
        let run = self.run;
        let read = move |engine: &Engine| {
            let ended = engine.ended(run)?;
            let items = engine.context.store.logs(run, after, limit).map_err(store_error)?;
            Ok(Chunk { items, ended })
        };
        self.engine.blocking(read).await
    }

    /// Resolves when something was committed since the last read began.
    pub async fn changed(&mut self) {
        self.watch.changed().await;
    }
}

impl FollowList {
    /// The place after what was given: the process's generation and a number.
    #[must_use]
    pub fn place(&self) -> (u64, u64) {
        (self.engine.context.generation, self.at)
    }

    /// What changed since the last call, of at most `limit` changes; nothing if nothing did.
    pub async fn read(&mut self, limit: usize) -> Result<ListChange, Error> {
        self.told.borrow_and_update();
        let (runs, last) = match self.engine.context.changes.since(self.at, limit) {
            Missed::Runs(runs, last) => (runs, last),
            Missed::TooMuch => return Ok(ListChange::Reload),
        };
        self.at = last;
        let mut views = if runs.is_empty() { Vec::new() } else { self.views(runs).await? };
        if let Some(others) = &mut self.others {
            others.seen.extend(views.iter().map(|view| (view.run_id, view.status)));
            if others.looked.elapsed() >= LOOK_EVERY {
                views.extend(self.look().await?);
            }
        }
        Ok(ListChange::Executions(views))
    }

    async fn views(&self, runs: Vec<RunKey>) -> Result<Vec<ExecutionView>, Error> {
        let filter = self.filter.clone();
        let read = move |engine: &Engine| {
            let mut views = Vec::new();
            for run in runs {
                let row = engine.context.store.execution(run).map_err(store_error)?;
                views.extend(row.filter(|row| filter.holds(row)).as_ref().map(ExecutionView::from));
            }
            Ok(views)
        };
        self.engine.blocking(read).await
    }

    /// Executions of the list that stand otherwise than they did when it was looked at last.
    async fn look(&mut self) -> Result<Vec<ExecutionView>, Error> {
        let Some(others) = &mut self.others else { return Ok(Vec::new()) };
        others.looked = Instant::now();
        let mut found = self.engine.list(self.filter.clone(), None, LOOKED_AT).await?.executions;
        let seen = found.iter().map(|view| (view.run_id, view.status)).collect();
        let before = std::mem::replace(&mut others.seen, seen);
        found.retain(|view| before.get(&view.run_id) != Some(&view.status));
        Ok(found)
    }

    /// Goes on from now: for whoever is about to read the list.
    pub async fn skip_to_now(&mut self) -> Result<(), Error> {
        self.told.borrow_and_update();
        self.at = self.engine.context.changes.follow_list().0;
        self.look().await.map(drop)
    }

    /// Resolves when something changed since the last read began.
    pub async fn changed(&mut self) {
        // The sender lives as long as the engine, which is held here.
        let Some(others) = &self.others else { return drop(self.told.changed().await) };
        tokio::select! {
            _ = self.told.changed() => {}
            () = tokio::time::sleep_until(others.looked + LOOK_EVERY) => {}
        }
    }
}

impl Engine {
    fn ended(&self, run: RunKey) -> Result<Option<Status>, Error> {
        let row = self.context.store.execution(run).map_err(store_error)?;
        Ok(row.map(|row| row.status).filter(|status| !status.is_open()))
    }
}
