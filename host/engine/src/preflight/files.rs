//! A pre-flight without a host: histories of files, relived on a component that nobody deployed.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

use relive_core::{
    Digest, Error, Timestamp,
    history::file::{Head, HistoryFile},
    life::Record,
};

use super::{PreflightOutcome, PreflightReport, Verdict, millis, verdict};
use crate::guests::GuestFactory;

/// Relives the histories on the component, as many at once as there are processors. `told` hears each verdict.
pub fn preflight_files(
    guests: &dyn GuestFactory,
    component: &[u8],
    workflow: &str,
    histories: &[HistoryFile],
    at: Timestamp,
    told: &mut dyn FnMut(&Verdict),
) -> Result<PreflightReport, Error> {
    let began = Instant::now();
    let digest = guests.admit(component)?.digest;
    let mut report = PreflightReport::new(workflow, None, digest, at, false);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let (send, verdicts) = crossbeam_channel::unbounded();
        for _ in 0..threads.min(histories.len()) {
            let (send, next) = (send.clone(), &next);
            scope.spawn(move || {
                while let Some(history) = histories.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if send.send(of(guests, digest, history)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(send);
        for verdict in verdicts {
            report.take(&verdict);
            told(&verdict);
        }
    });
    report.sort();
    report.took_ms = millis(began.elapsed());
    Ok(report)
}

fn of(guests: &dyn GuestFactory, digest: Digest, history: &HistoryFile) -> Verdict {
    let Head { execution, status, applied_through, commands, .. } = &history.head;
    let record = Record::Complete { applied_through: *applied_through, commands: *commands };
    let mut answers = BTreeMap::new();
    let instantiate = |cursor| guests.instantiate(&digest, cursor);
    let outcome = verdict::relive(&instantiate, digest, record, &history.events, &mut answers);
    let same = history.head.digest == digest && matches!(outcome, PreflightOutcome::Agrees { .. });
    Verdict {
        workflow_id: execution.workflow_id.to_string(),
        run_id: execution.run_id,
        status: *status,
        events: history.events.len() as u64,
        outcome: if same { PreflightOutcome::SameCode } else { outcome },
        answers,
    }
}
