//! Pre-flights: open executions (and recently closed ones) relived on other code, in shadows without effects, before any of
//! them is put under it. `run` is the work; whoever asked hears of it over a channel, and stops it by hanging up.

mod files;
mod rows;
mod verdict;

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender};
use relive_core::{
    Digest, Error, ErrorKind, Json, Namespace, Timestamp,
    cursor::Cursor,
    guest::{Guest, GuestFault},
    ports::{ExecutionRow, PreflightRow},
};
use serde::Serialize;
use tokio::sync::mpsc;
use utoipa::ToSchema;

use crate::{context::Context, facade::store_error, schema};

pub use files::preflight_files;
pub(crate) use verdict::relive;
pub use verdict::{PreflightOutcome, Verdict};

/// Rows that wait to be relived.
const AHEAD: usize = 2_048;
/// How often whoever asked hears how far it is.
const TELL_EVERY: Duration = Duration::from_millis(200);
/// What is told and not taken yet; then the work waits.
pub(crate) const BACKLOG: usize = 256;
/// Examples of each finding.
const EXAMPLES: usize = 5;
/// Findings that are told apart; the rest is counted under the last.
const MAX_GROUPS: usize = 100;
/// A pause has so many times what it took to relive an execution,
const PAUSES: u32 = 3;
/// but no more than this.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
/// Live executions come first.
const NICE: i32 = 19;
/// Reports of a version that are kept.
pub const KEPT_REPORTS: usize = 10;

/// The code that executions are relived on.
#[derive(Clone, Debug)]
pub enum Code {
    /// A version of the workflow.
    Version(u32),
    /// A component that is not deployed.
    Wasm(Vec<u8>),
}

/// Which executions are relived on which code.
#[derive(Clone, Debug)]
pub struct PreflightRequest {
    pub namespace: Namespace,
    pub workflow: String,
    pub code: Code,
    /// So many of the open ones, drawn by their keys; all if none.
    pub sample: Option<usize>,
    /// Also those that ended within this time.
    pub closed_within: Option<Duration>,
    /// Tell of each execution, not only of those that do not agree.
    pub verdicts: bool,
    /// Also relive those that run on this code already: for what `version()` answers them.
    pub answers: bool,
}

/// How far a pre-flight is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub struct Progress {
    pub checked: u64,
    /// How many there are to check, as counted at the beginning.
    pub total: u64,
    pub elapsed_ms: u64,
    /// How long it will still take, if it goes on like this.
    pub left_ms: Option<u64>,
}

/// Executions that do not agree in the same way.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Group {
    /// `diverges`, `traps` or `unreadable`.
    pub outcome: &'static str,
    /// What history holds, without what tells one execution from another,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub history: String,
    /// and what the code asks for, or what went wrong.
    pub code: String,
    pub executions: u64,
    pub examples: Vec<Verdict>,
}

/// What a pre-flight found.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PreflightReport {
    pub workflow: String,
    /// Absent for code that is not deployed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    #[schema(value_type = schema::Digest)]
    pub digest: Digest,
    #[schema(value_type = schema::Timestamp)]
    pub at: Timestamp,
    pub took_ms: u64,
    /// Whether only some of the open executions were checked.
    pub sample: bool,
    pub checked: u64,
    pub events: u64,
    /// They run on this code already: nothing was to be checked.
    pub same_code: u64,
    pub agrees: u64,
    pub diverges: u64,
    pub traps: u64,
    /// Nothing can be said of them: their histories or the component cannot be read.
    pub unreadable: u64,
    /// Largest first.
    pub groups: Vec<Group>,
    /// What `version()` answers executions that agree, by change id: which branches are still taken.
    pub version_answers: Vec<AnswerCount>,
}

/// How many executions got an answer under a change id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct AnswerCount {
    pub change_id: String,
    pub version: u32,
    pub executions: u64,
}

impl PreflightReport {
    /// Whether every execution that was checked may be put under the code.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.diverges + self.traps + self.unreadable == 0
    }
}

/// What whoever asked hears.
#[derive(Debug)]
pub enum Told {
    Progress(Progress),
    Verdict(Box<Verdict>),
    /// The last thing.
    Report(Box<PreflightReport>),
    Failed(Error),
}

/// The code, ready to be used.
pub(crate) struct Ready {
    pub digest: Digest,
    pub version: Option<u32>,
    wasm: Option<Vec<u8>>,
}

impl Ready {
    pub(crate) fn new(context: &Context, request: &PreflightRequest) -> Result<Self, Error> {
        match &request.code {
            Code::Wasm(bytes) => {
                let digest = context.guests.admit(bytes)?.digest;
                Ok(Self { digest, version: None, wasm: Some(bytes.clone()) })
            }
            Code::Version(version) => {
                let all = context.catalog.versions(&request.namespace, Some(&request.workflow)).map_err(store_error)?;
                let row = all.iter().find(|row| row.version == *version).ok_or_else(|| {
                    let message = format!("workflow {} has no version {version}", request.workflow);
                    Error::new(ErrorKind::Validation, "unknown-version", message)
                })?;
                Ok(Self { digest: row.digest, version: Some(*version), wasm: None })
            }
        }
    }

    pub(crate) fn instantiate(&self, context: &Context, cursor: Cursor) -> Result<Box<dyn Guest>, GuestFault> {
        match &self.wasm {
            Some(bytes) => context.guests.instantiate_bytes(bytes, cursor),
            None => context.guests.instantiate(&self.digest, cursor),
        }
    }
}

/// What the threads of one pre-flight share.
struct Work<'a> {
    context: &'a Context,
    request: &'a PreflightRequest,
    ready: &'a Ready,
    told: &'a mpsc::Sender<Told>,
    checked: AtomicU64,
    /// Whoever asked has hung up, or the host stops.
    over: AtomicBool,
}

impl Work<'_> {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire) || self.context.stopping.load(Ordering::Acquire)
    }

    fn tell(&self, told: Told) {
        if self.told.blocking_send(told).is_err() {
            self.over.store(true, Ordering::Release);
        }
    }
}

/// Does a pre-flight, on threads of its own beside the caller's.
pub(crate) fn run(context: &Context, request: &PreflightRequest, ready: &Ready, told: &mpsc::Sender<Told>) {
    be_nice();
    let last = match check(context, request, ready, told) {
        Ok(report) => Told::Report(Box::new(report)),
        Err(error) => Told::Failed(error),
    };
    // Whoever asked may have hung up.
    let _ = told.blocking_send(last);
}

fn be_nice() {
    if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE) {
        tracing::debug!(%error, "failed to lower a thread's priority");
    }
}

fn check(
    context: &Context,
    request: &PreflightRequest,
    ready: &Ready,
    told: &mpsc::Sender<Told>,
) -> Result<PreflightReport, Error> {
    let began = Instant::now();
    let total = total(context, request)?;
    let work = Work { context, request, ready, told, checked: AtomicU64::new(0), over: AtomicBool::new(false) };
    let (send_rows, rows) = crossbeam_channel::bounded::<ExecutionRow>(AHEAD);
    let (send_verdicts, verdicts) = crossbeam_channel::bounded::<Verdict>(AHEAD);
    // The other half is for live executions, and for the store that answers both.
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get().div_ceil(2));
    let (workflow, sample) = (&request.workflow, request.sample.is_some());
    let mut report = PreflightReport::new(workflow, ready.version, ready.digest, context.clock.now(), sample);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (work, rows, verdicts) = (&work, rows.clone(), send_verdicts.clone());
            scope.spawn(move || {
                be_nice();
                relive_rows(work, &rows, &verdicts);
            });
        }
        drop((rows, send_verdicts));
        let lister = scope.spawn(|| {
            be_nice();
            rows::list(&work, send_rows)
        });
        collect(&work, &verdicts, &mut report, total, began);
        // Nobody takes rows any more; the lister sees it.
        drop(verdicts);
        lister.join().unwrap_or_else(|_| Err(Error::new(ErrorKind::Unknown, "internal", "the lister panicked")))
    })?;
    if context.stopping.load(Ordering::Acquire) {
        return Err(Error::new(ErrorKind::Concurrency, "shutting-down", "the host stops; ask again elsewhere"));
    }
    report.sort();
    report.took_ms = millis(began.elapsed());
    keep(context, request, &report);
    Ok(report)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn total(context: &Context, request: &PreflightRequest) -> Result<u64, Error> {
    let counts =
        context.store.count_versions(&request.namespace, &request.workflow, Timestamp(0), 1).map_err(store_error)?;
    let open = counts.iter().filter(|c| c.status.is_open()).map(|c| c.runs).sum::<u64>();
    Ok(request.sample.map_or(open, |sample| open.min(sample as u64)))
}

fn relive_rows(work: &Work<'_>, rows: &Receiver<ExecutionRow>, verdicts: &Sender<Verdict>) {
    while let Ok(row) = rows.recv() {
        if work.is_over() {
            return;
        }
        let began = Instant::now();
        let verdict = verdict::of(work.context, work.ready, &row, work.request.answers);
        // Priorities are this machine's, and the store's work may be another's: where live executions are at work, they
        // have it to themselves for some time.
        if work.context.stats.in_flight.load(Ordering::Acquire) > 0 {
            std::thread::sleep((began.elapsed() * PAUSES).min(LONGEST_PAUSE));
        }
        work.checked.fetch_add(1, Ordering::Relaxed);
        if verdicts.send(verdict).is_err() {
            return;
        }
    }
}

/// Takes verdicts until there are no more, and tells of them.
fn collect(work: &Work<'_>, verdicts: &Receiver<Verdict>, report: &mut PreflightReport, total: u64, began: Instant) {
    let mut tell_at = began;
    loop {
        if Instant::now() >= tell_at {
            work.tell(Told::Progress(progress(work.checked.load(Ordering::Relaxed), total, began.elapsed())));
            tell_at = Instant::now() + TELL_EVERY;
        }
        match verdicts.recv_timeout(TELL_EVERY) {
            Ok(verdict) => {
                report.take(&verdict);
                if work.request.verdicts {
                    work.tell(Told::Verdict(Box::new(verdict)));
                }
            }
            Err(crossbeam_channel::RecvTimeoutError::Timeout) if !work.is_over() => {}
            Err(_) => break,
        }
    }
    let checked = report.checked;
    work.tell(Told::Progress(progress(checked, total.max(checked), began.elapsed())));
}

fn progress(checked: u64, total: u64, elapsed: Duration) -> Progress {
    let total = total.max(checked);
    let elapsed_ms = millis(elapsed);
    let left_ms = (checked > 0).then(|| elapsed_ms.saturating_mul(total - checked) / checked);
    Progress { checked, total, elapsed_ms, left_ms }
}

impl PreflightReport {
    fn new(workflow: &str, version: Option<u32>, digest: Digest, at: Timestamp, sample: bool) -> Self {
        Self {
            workflow: workflow.to_owned(),
            version,
            digest,
            at,
            took_ms: 0,
            sample,
            checked: 0,
            events: 0,
            same_code: 0,
            agrees: 0,
            diverges: 0,
            traps: 0,
            unreadable: 0,
            groups: Vec::new(),
            version_answers: Vec::new(),
        }
    }

    /// What concerns most comes first.
    fn sort(&mut self) {
        self.groups.sort_by_key(|group| std::cmp::Reverse(group.executions));
        self.version_answers.sort_by(|a, b| (&a.change_id, a.version).cmp(&(&b.change_id, b.version)));
    }

    fn take(&mut self, verdict: &Verdict) {
        self.checked += 1;
        self.events += verdict.events;
        for (change_id, version) in &verdict.answers {
            let same = |c: &&mut AnswerCount| c.change_id == *change_id && c.version == *version;
            match self.version_answers.iter_mut().find(same) {
                Some(count) => count.executions += 1,
                None => self.version_answers.push(AnswerCount {
                    change_id: change_id.clone(),
                    version: *version,
                    executions: 1,
                }),
            }
        }
        let (history, code) = match &verdict.outcome {
            PreflightOutcome::SameCode => return self.same_code += 1,
            PreflightOutcome::Agrees { .. } => return self.agrees += 1,
            PreflightOutcome::Diverges { divergence } => {
                self.diverges += 1;
                (verdict::kind(&divergence.history), verdict::kind(&divergence.code))
            }
            PreflightOutcome::Traps { fault } => {
                self.traps += 1;
                (String::new(), verdict::kind(fault))
            }
            PreflightOutcome::Unreadable { reason } => {
                self.unreadable += 1;
                (String::new(), verdict::kind(reason))
            }
        };
        let outcome = verdict.outcome.name();
        let same = |g: &Group| g.outcome == outcome && g.history == history && g.code == code;
        let full = self.groups.len() >= MAX_GROUPS;
        let found = self.groups.iter().position(same).or_else(|| full.then_some(MAX_GROUPS - 1));
        let at = found.unwrap_or_else(|| {
            self.groups.push(Group { outcome, history, code, executions: 0, examples: Vec::new() });
            self.groups.len() - 1
        });
        let group = &mut self.groups[at];
        group.executions += 1;
        if group.examples.len() < EXAMPLES {
            group.examples.push(verdict.clone());
        }
    }
}

/// Keeps the report with the version; without one nobody would find it.
fn keep(context: &Context, request: &PreflightRequest, report: &PreflightReport) {
    let Some(version) = report.version else { return };
    let Ok(json) = Json::of(report) else { return };
    let row = PreflightRow { workflow: request.workflow.as_str().into(), version, at: report.at, report: json };
    if let Err(error) = context.catalog.put_preflight(&request.namespace, &row, KEPT_REPORTS) {
        tracing::warn!(%error, "the report of a pre-flight was not kept");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_tells_what_is_left() {
        let at = |checked, total| progress(checked, total, Duration::from_millis(500));
        assert_eq!(at(0, 10).left_ms, None);
        assert_eq!(at(5, 10), Progress { checked: 5, total: 10, elapsed_ms: 500, left_ms: Some(500) });
        assert_eq!(
            at(12, 10),
            Progress { checked: 12, total: 12, elapsed_ms: 500, left_ms: Some(0) },
            "some were started"
        );
    }
}
