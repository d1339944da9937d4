//! Questions about executions and the host.

use std::sync::atomic::Ordering;

use relive_core::{
    Digest, Error, ErrorKind, RunKey,
    event::Attributes,
    fingerprint,
    history::file,
    ports::{ExecutionRow, ListFilter, Status},
};

use super::{lookup::store_error, steps::steps};
use crate::{
    engine::Engine,
    owner::{decoded_history, read_history},
    requests::Target,
    views::{
        ExecutionDetail, ExecutionView, Executions, HistoryPage, HostStatus, LogsPage, QueryView, ReconcilerStatus,
        StepView, WorkerStatus,
    },
};

/// Rows and events that one page holds at most.
const MAX_PAGE: usize = 1_000;

impl Engine {
    /// Executions, newest first, those before `before`; `limit` a page (at most 1,000).
    pub async fn list(&self, filter: ListFilter, before: Option<RunKey>, limit: usize) -> Result<Executions, Error> {
        let limit = limit.clamp(1, MAX_PAGE);
        self.blocking(move |engine| {
            // One more than asked for tells whether there are more.
            let mut rows = engine.context.store.list(&filter, before, limit + 1).map_err(store_error)?;
            let more = rows.len() > limit;
            rows.truncate(limit);
            let next = rows.last().filter(|_| more).map(|row| row.key);
            Ok(Executions { executions: rows.iter().map(ExecutionView::from).collect(), next })
        })
        .await
    }

    /// Everything about one execution at a glance.
    pub async fn show(&self, target: Target) -> Result<ExecutionDetail, Error> {
        self.blocking(move |engine| {
            let row = engine.find(&target)?;
            let events = engine.decoded(&row)?;
            let mut steps = steps(&events);
            engine.overlay(row.key, &mut steps);
            let report = events.iter().rev().find_map(|e| match &e.body.attributes {
                Attributes::ExecutionBlocked(b) => Some(b.report.clone()),
                _ => None,
            });
            Ok(ExecutionDetail {
                execution: ExecutionView::from(&row),
                crashes: row.crashes,
                waits_for: waits_for(&row, &steps, &engine.waiting_for(&row)?),
                steps,
                block_report: report.filter(|_| row.status == Status::Blocked),
                fingerprint: Digest(fingerprint::run(&events)).to_string(),
            })
        })
        .await
    }

    /// The whole history as a file (`relive_core::history::file`), as far as the row says.
    pub async fn export(&self, target: Target) -> Result<String, Error> {
        self.blocking(move |engine| {
            let row = engine.find(&target)?;
            let mut events = read_history(&*engine.context.store, row.key).map_err(store_error)?;
            events.truncate(usize::try_from(row.last_event_id).unwrap_or(usize::MAX));
            Ok(file::write(&row, &events))
        })
        .await
    }

    /// A page of a history, from event `from` (1 is the first) on.
    pub async fn history(&self, target: Target, from: u64, limit: usize) -> Result<HistoryPage, Error> {
        let limit = limit.clamp(1, MAX_PAGE);
        self.blocking(move |engine| {
            let row = engine.find(&target)?;
            let mut stored = engine.context.store.read_from(row.key, from.max(1), limit + 1).map_err(store_error)?;
            let more = stored.len() > limit;
            stored.truncate(limit);
            let events = stored.iter().map(|e| e.decode()).collect::<Result<Vec<_>, _>>();
            let events =
                events.map_err(|e| Error::new(ErrorKind::Codec, "corrupt", e.to_string()).at(&row.execution))?;
            let next = events.last().filter(|_| more).map(|e| e.event_id + 1);
            Ok(HistoryPage {
                workflow_id: row.execution.workflow_id.to_string(),
                run_id: row.execution.run_id,
                fingerprint: Digest(fingerprint::run(&engine.decoded(&row)?)).to_string(),
                events,
                next,
            })
        })
        .await
    }

    /// A published value; the guest is not woken.
    pub async fn query(&self, target: Target, key: String) -> Result<QueryView, Error> {
        self.blocking(move |engine| {
            let row = engine.find(&target)?;
            let value = engine.context.store.published(row.key, Some(&key)).map_err(store_error)?.into_iter().next();
            let value = value.ok_or_else(|| {
                let message = format!(
                    "the execution has published nothing under {key:?}; `relive query {}` lists its keys",
                    target.workflow_id
                );
                Error::new(ErrorKind::Validation, "unknown-key", message).at(&row.execution)
            })?;
            Ok(QueryView { key: value.key, value: value.value, event_id: value.event_id })
        })
        .await
    }

    /// All published values.
    pub async fn queries(&self, target: Target) -> Result<Vec<QueryView>, Error> {
        self.blocking(move |engine| {
            let row = engine.find(&target)?;
            let values = engine.context.store.published(row.key, None).map_err(store_error)?;
            Ok(values.into_iter().map(|v| QueryView { key: v.key, value: v.value, event_id: v.event_id }).collect())
        })
        .await
    }

    /// Log lines after number `after`.
    pub async fn logs(&self, target: Target, after: u64, limit: usize) -> Result<LogsPage, Error> {
        let limit = limit.clamp(1, MAX_PAGE);
        self.blocking(move |engine| {
            let row = engine.find(&target)?;
            let mut lines = engine.context.store.logs(row.key, after, limit + 1).map_err(store_error)?;
            let more = lines.len() > limit;
            lines.truncate(limit);
            let next = lines.last().filter(|_| more).map(|(number, _)| *number);
            let workflow_id = row.execution.workflow_id.to_string();
            Ok(LogsPage { workflow_id, run_id: row.execution.run_id, lines, next })
        })
        .await
    }

    /// The host at a glance.
    #[must_use]
    pub fn status(&self) -> HostStatus {
        let context = &self.context;
        let (live_guests, held) = context.cache.totals();
        let stats = &context.stats;
        HostStatus {
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            uptime_ms: u64::try_from(context.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            cells: context.registry.len(),
            live_guests,
            guest_memory_bytes: held.bytes,
            activities_running: context.dispatcher.running(),
            commits: (context.commits)(),
            relives: stats.relives.load(Ordering::Relaxed),
            relived_events: stats.relived_events.load(Ordering::Relaxed),
            relive_micros: stats.relive_nanos.load(Ordering::Relaxed) / 1_000,
            recovered: stats.recovered.load(Ordering::Relaxed),
            audited: stats.audited.load(Ordering::Relaxed),
            audit_findings: stats.audit_findings.load(Ordering::Relaxed),
            images: context.images.status(),
            workers: WorkerStatus {
                lost: stats.workers_lost.load(Ordering::Relaxed),
                attempts_given_back: stats.attempts_given_back.load(Ordering::Relaxed),
            },
            reconciler: ReconcilerStatus {
                runs: stats.reconciled.load(Ordering::Relaxed),
                put_back: stats.tasks_put_back.load(Ordering::Relaxed),
                removed: stats.tasks_removed.load(Ordering::Relaxed),
            },
        }
    }

    /// What history does not show yet: attempts that failed and are followed by another.
    fn overlay(&self, run: RunKey, steps: &mut [StepView]) {
        for step in steps.iter_mut().filter(|s| s.state == "pending") {
            if let Some(retrying) = self.context.attempts.of(run, step.command_no) {
                (step.attempts, step.failure) = (retrying.attempt, Some(retrying.last_failure));
            }
        }
    }

    /// A whole history, its chain checked, decoded.
    pub(crate) fn decoded(&self, row: &ExecutionRow) -> Result<Vec<relive_core::HistoryEvent>, Error> {
        let mut events = decoded_history(&*self.context.store, row.key).map_err(store_error)?.map_err(|violation| {
            Error::new(ErrorKind::EventStore, "corrupt", format!("the history does not check out: {violation}"))
                .at(&row.execution)
        })?;
        // A run that goes on has more by now than its row said.
        events.truncate(usize::try_from(row.last_event_id).unwrap_or(usize::MAX));
        Ok(events)
    }
}

fn waits_for(row: &ExecutionRow, steps: &[StepView], on: &[(u64, String)]) -> Vec<String> {
    match row.status {
        Status::Blocked => return vec!["operator".to_owned()],
        status if !status.is_open() => return Vec::new(),
        _ => {}
    }
    let pending = steps.iter().filter(|s| matches!(s.state, "pending" | "exhausted"));
    let mut waits: Vec<String> = pending
        .map(|step| match (step.deadline, step.attempts) {
            (Some(deadline), _) => format!("timer {} until {deadline}", step.command_no),
            (None, attempts) => {
                let on = on.iter().find(|(no, _)| *no == step.command_no).map(|(_, on)| format!(": {on}"));
                format!(
                    "activity {} {} (attempt {attempts}){}",
                    step.command_no,
                    step.name,
                    on.as_deref().unwrap_or_default()
                )
            }
        })
        .collect();
    if waits.is_empty() {
        waits.push("message".to_owned());
    }
    waits
}
