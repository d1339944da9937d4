//! The checker over stored histories: chain, invariants, rows, and whether the code still agrees.

use relive_core::{
    Error, Namespace, RunKey,
    history::{Rows, Violation, validate, validate_rows},
    ports::{ExecutionRow, ListFilter},
};

use super::lookup::store_error;
use crate::{
    engine::Engine,
    owner::decoded_history,
    requests::Target,
    views::{Finding, VerifyReport},
};

/// Executions that are listed at once.
const PAGE: usize = 500;
/// An open execution may change while it is read; it is read again this often.
const TRIES: usize = 5;
/// Findings that are reported; a store with more is beyond a list.
const MAX_FINDINGS: usize = 1_000;

impl Engine {
    /// Checks one execution's run, or all of a namespace.
    /// `deep` also relives each, and holds its memory images against the relived guest, byte for byte.
    pub async fn verify(
        &self,
        namespace: Namespace,
        target: Option<Target>,
        deep: bool,
    ) -> Result<VerifyReport, Error> {
        self.blocking(move |engine| {
            let mut report = VerifyReport::default();
            if let Some(target) = target {
                let row = engine.find(&target)?;
                engine.check(&row, deep, &mut report)?;
                return Ok(report);
            }
            let filter = ListFilter { namespace: Some(namespace), ..ListFilter::default() };
            let mut before: Option<RunKey> = None;
            loop {
                let rows = engine.context.store.list(&filter, before, PAGE).map_err(store_error)?;
                for row in &rows {
                    engine.check(row, deep, &mut report)?;
                }
                before = rows.last().map(|r| r.key);
                if rows.len() < PAGE || report.findings.len() >= MAX_FINDINGS {
                    return Ok(report);
                }
            }
        })
        .await
    }

    fn check(&self, row: &ExecutionRow, deep: bool, report: &mut VerifyReport) -> Result<(), Error> {
        let mut found = Ok(0);
        for _ in 0..TRIES {
            found = self.check_once(row.key)?;
            if found.is_ok() {
                break;
            }
        }
        report.executions += 1;
        let finding = match found {
            Ok(events) => {
                report.events += events;
                if deep { self.check_deep(row, report)? } else { None }
            }
            Err(violation) => Some(violation.to_string()),
        };
        if let Some(violation) = finding {
            report.findings.push(Finding {
                workflow_id: row.execution.workflow_id.to_string(),
                run_id: row.execution.run_id,
                violation,
            });
        }
        Ok(())
    }

    fn check_once(&self, run: RunKey) -> Result<Result<u64, Violation>, Error> {
        let store = &self.context.store;
        let events = decoded_history(&**store, run).map_err(store_error)?;
        let (tasks, timers) = store.open_work(run).map_err(store_error)?;
        let Some(row) = store.execution(run).map_err(store_error)? else {
            return Ok(Err(Violation::Rows("the row is gone".to_owned())));
        };
        let check = || {
            let events = events?;
            validate(&events)?;
            if events.last().is_some_and(|e| e.hash != row.last_hash) {
                return Err(Violation::Rows("the row's hash is not that of the last event".to_owned()));
            }
            let rows = Rows {
                open: row.status.is_open(),
                last_event_id: row.last_event_id,
                last_inbound_id: row.last_inbound_id,
                applied_through: row.applied_through,
                tasks: tasks.iter().map(|t| t.command_no).collect(),
                timers: timers.iter().map(|t| t.command_no).collect(),
                exhausted: tasks.iter().filter(|t| t.exhausted.is_some()).map(|t| t.command_no).collect(),
            };
            validate_rows(&events, &rows)?;
            Ok(events.len() as u64)
        };
        Ok(check())
    }
}
