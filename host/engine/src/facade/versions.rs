//! Which versions new runs take: activation, canaries, rollback, and how versions do.

use relive_core::{
    Error, ErrorKind, Namespace, Timestamp,
    ports::{Activation, ActivationKind, Canary, Status, VersionRow, WHOLE},
};

use super::lookup::store_error;
use crate::{
    engine::Engine,
    versions::{ActivateRequest, ActivationView, Signed, VersionReport, WorkflowReport},
};

/// Of a workflow's runs the latest so many are counted: a report walks no table.
const COUNTED_RUNS: usize = 100_000;
/// Activations that are looked through for the one before, and shown.
const REMEMBERED: usize = 1_000;
/// How often a change is tried against others.
const TRIES: usize = 8;

fn unknown_version(workflow: &str, version: u32, known: &[VersionRow]) -> Error {
    let known: Vec<String> = known.iter().map(|v| v.version.to_string()).collect();
    let message = if known.is_empty() {
        format!("there is no workflow {workflow:?}; `relive workflows` shows those there are")
    } else {
        format!("workflow {workflow} has no version {version}; it has {}", known.join(", "))
    };
    Error::new(ErrorKind::Validation, if known.is_empty() { "unknown-workflow" } else { "unknown-version" }, message)
}

fn busy(workflow: &str) -> Error {
    let message = format!("others change which versions of {workflow} are active at the same time; try again");
    Error::new(ErrorKind::Concurrency, "try-again", message)
}

fn refused(code: &'static str, message: String) -> Error {
    Error::new(ErrorKind::Validation, code, message)
}

impl Engine {
    /// Makes a version the one that new runs take, or that a share of them tries. What holds already is answered as it is.
    pub async fn activate(&self, request: ActivateRequest) -> Result<ActivationView, Error> {
        self.accepting()?;
        self.blocking(move |engine| engine.activate_now(&request).map(ActivationView::from)).await
    }

    pub(super) fn activate_now(&self, request: &ActivateRequest) -> Result<Activation, Error> {
        let ActivateRequest { namespace, workflow, version, share, limits, signed } = request;
        if share.is_some_and(|share| share == 0 || share >= WHOLE) {
            let message =
                "a canary takes more than 0 and less than 100 percent; without a share all new runs take the version";
            return Err(refused("invalid-argument", message.to_owned()));
        }
        if limits.bad_percent == 0 || limits.bad_percent > 100 {
            return Err(refused("invalid-argument", "a canary's limit is 1 to 100 percent".to_owned()));
        }
        let known = self.context.catalog.versions(namespace, Some(workflow)).map_err(store_error)?;
        if !known.iter().any(|v| v.version == *version) {
            return Err(unknown_version(workflow, *version, &known));
        }
        self.change(namespace, workflow, signed, |last| match (share, last) {
            (None, Some(last)) if last.version == *version && last.canary.is_none() => Ok(None),
            (None, _) => Ok(Some((ActivationKind::Activated, *version, None))),
            (Some(_), None) => Err(refused(
                "no-active-version",
                format!("no version of {workflow} is active, so there is nothing to try version {version} beside; activate one"),
            )),
            (Some(_), Some(last)) if last.version == *version => Err(refused(
                "invalid-argument",
                format!("version {version} of {workflow} is the active one; a canary is another"),
            )),
            (Some(share), Some(last)) => {
                let canary = Canary { version: *version, share: *share, limits: *limits };
                let same = last.canary == Some(canary);
                Ok((!same).then_some((ActivationKind::CanaryStarted, last.version, Some(canary))))
            }
        })
    }

    /// Back to what new runs took before: a canary stops; without one the version that was active before is again.
    pub async fn rollback(
        &self,
        namespace: Namespace,
        workflow: String,
        signed: Signed,
    ) -> Result<ActivationView, Error> {
        self.accepting()?;
        self.blocking(move |engine| engine.rollback_now(&namespace, &workflow, &signed).map(ActivationView::from)).await
    }

    fn rollback_now(&self, namespace: &Namespace, workflow: &str, signed: &Signed) -> Result<Activation, Error> {
        let past = self.context.catalog.activations(namespace, workflow, REMEMBERED).map_err(store_error)?;
        let known = self.context.catalog.versions(namespace, Some(workflow)).map_err(store_error)?;
        if past.is_empty() {
            return Err(unknown_version(workflow, 0, &known));
        }
        let there = |version| known.iter().any(|row| row.version == version);
        self.change(namespace, workflow, signed, |last| {
            let Some(last) = last else { return Ok(None) };
            if last.canary.is_some() {
                return Ok(Some((ActivationKind::RolledBack, last.version, None)));
            }
            let Some(version) = before(&past, last, there) else {
                let message = format!(
                    "version {} is the first of {workflow} that was active, of those that are there; there is none before",
                    last.version
                );
                return Err(refused("nothing-to-roll-back", message));
            };
            Ok(Some((ActivationKind::RolledBack, version, None)))
        })
    }

    /// Deletes a version that nothing runs on: new runs and activations know it no more, and its number is not given again.
    /// Its component stays for the histories that were made by it.
    pub async fn delete_version(&self, namespace: Namespace, workflow: String, version: u32) -> Result<(), Error> {
        self.accepting()?;
        self.blocking(move |engine| engine.delete_version_now(&namespace, &workflow, version)).await
    }

    fn delete_version_now(&self, namespace: &Namespace, workflow: &str, version: u32) -> Result<(), Error> {
        let context = &self.context;
        for _ in 0..TRIES {
            let known = context.catalog.versions(namespace, Some(workflow)).map_err(store_error)?;
            let row = known.iter().find(|row| row.version == version);
            let row = row.ok_or_else(|| unknown_version(workflow, version, &known))?;
            let last = context.catalog.activations(namespace, workflow, 1).map_err(store_error)?.pop();
            if last.as_ref().is_some_and(|last| last.names(version)) {
                let message = format!(
                    "new runs of {workflow} take version {version}; have them take another one first: \
                     relive activate {workflow} --to N"
                );
                return Err(refused("version-in-use", message));
            }
            let counts = context.store.count_versions(namespace, workflow, Timestamp(0), 1).map_err(store_error)?;
            let of = counts.iter().filter(|c| c.digest == row.digest && c.status.is_open());
            let open: u64 = of.map(|c| c.runs).sum();
            if open > 0 {
                let message = format!(
                    "{open} open executions are on version {version} of {workflow}; let them end, or move them: \
                     relive migrate {workflow} --from {version} --to N"
                );
                return Err(refused("version-in-use", message));
            }
            let number = last.map_or(0, |last| last.number);
            let at = context.clock.now();
            if context.catalog.delete_version(namespace, workflow, version, number, at).map_err(store_error)? {
                context.workflows.changed(namespace, workflow);
                tracing::info!(workflow, version, "version deleted");
                return Ok(());
            }
        }
        Err(busy(workflow))
    }

    /// Ends a canary that passed a limit, if it is still that one.
    pub(crate) fn stop_canary(&self, namespace: &Namespace, stopped: &Activation, reason: &str) -> Result<(), Error> {
        let signed = Signed { author: None, reason: Some(reason.into()) };
        let change = self.change(namespace, &stopped.workflow, &signed, |last| {
            let same = last.is_some_and(|last| last.number == stopped.number);
            Ok(same.then_some((ActivationKind::CanaryStopped, stopped.version, None)))
        });
        change.map(|_| ())
    }

    /// Makes a change of what is: `next` says of what, `None`: nothing.
    fn change(
        &self,
        namespace: &Namespace,
        workflow: &str,
        signed: &Signed,
        next: impl Fn(Option<&Activation>) -> Result<Option<(ActivationKind, u32, Option<Canary>)>, Error>,
    ) -> Result<Activation, Error> {
        let context = &self.context;
        for _ in 0..TRIES {
            let last = context.catalog.activations(namespace, workflow, 1).map_err(store_error)?.pop();
            let Some((kind, version, canary)) = next(last.as_ref())? else {
                return last.ok_or_else(|| refused("no-active-version", format!("no version of {workflow} is active")));
            };
            let number = last.map_or(0, |last| last.number);
            let next = Activation {
                workflow: workflow.into(),
                number,
                kind,
                version,
                canary,
                at: context.clock.now(),
                author: signed.author.clone(),
                reason: signed.reason.clone(),
            };
            if let Some(done) = context.catalog.activate(namespace, number, &next).map_err(store_error)? {
                context.workflows.changed(namespace, workflow);
                tracing::info!(
                    workflow,
                    version,
                    kind = kind.name(),
                    number = done.number,
                    "new runs take another version"
                );
                return Ok(done);
            }
        }
        Err(busy(workflow))
    }

    /// What new runs took, newest first.
    pub async fn activations(
        &self,
        namespace: Namespace,
        workflow: String,
        limit: usize,
    ) -> Result<Vec<ActivationView>, Error> {
        self.blocking(move |engine| {
            let limit = limit.min(REMEMBERED);
            let past = engine.context.catalog.activations(&namespace, &workflow, limit).map_err(store_error)?;
            Ok(past.into_iter().map(ActivationView::from).collect())
        })
        .await
    }

    /// How the versions of a workflow do.
    pub async fn workflow_report(&self, namespace: Namespace, workflow: String) -> Result<WorkflowReport, Error> {
        self.blocking(move |engine| engine.workflow_report_now(&namespace, &workflow)).await
    }

    fn workflow_report_now(&self, namespace: &Namespace, workflow: &str) -> Result<WorkflowReport, Error> {
        let context = &self.context;
        let rows = context.catalog.versions(namespace, Some(workflow)).map_err(store_error)?;
        if rows.is_empty() {
            return Err(unknown_version(workflow, 0, &rows));
        }
        let activation = context.catalog.activations(namespace, workflow, 1).map_err(store_error)?.pop();
        let counts =
            context.store.count_versions(namespace, workflow, Timestamp(0), COUNTED_RUNS).map_err(store_error)?;
        let report = |row: VersionRow| {
            let (state, share) = standing_of(activation.as_ref(), row.version);
            let of = || counts.iter().filter(|c| c.digest == row.digest);
            let count = |wanted: fn(Status) -> bool| of().filter(|c| wanted(c.status)).map(|c| c.runs).sum();
            VersionReport {
                version: row.version,
                digest: row.digest,
                state,
                percent: f64::from(share) * 100.0 / f64::from(WHOLE),
                open: count(|s| s == Status::Running),
                blocked: count(|s| s == Status::Blocked),
                closed: count(|s| !s.is_open()),
                failed: count(|s| s == Status::Failed),
                oldest_open: of().filter(|c| c.status.is_open()).map(|c| c.oldest).min(),
                deployed_at: row.deployed_at,
                author: row.author.as_deref().map(str::to_owned),
                note: row.note.as_deref().map(str::to_owned),
            }
        };
        Ok(WorkflowReport {
            workflow: workflow.to_owned(),
            versions: rows.into_iter().map(report).collect(),
            activation: activation.clone().map(ActivationView::from),
            counted_runs: COUNTED_RUNS as u64,
        })
    }
}

/// The version that was active before the one of `last`, of those that are `there`.
fn before(past: &[Activation], last: &Activation, there: impl Fn(u32) -> bool) -> Option<u32> {
    // What was rolled back is skipped: rolling back twice goes back two versions, not there and back again.
    let mut gone = vec![last.version];
    for activation in past.iter().filter(|a| a.number <= last.number) {
        if activation.kind == ActivationKind::RolledBack && activation.canary.is_none() {
            let left = past.iter().find(|a| a.number + 1 == activation.number).map(|a| a.version);
            // One that ended a canary left no version.
            gone.extend(left.filter(|version| *version != last.version && *version != activation.version));
        } else if !gone.contains(&activation.version) && there(activation.version) {
            return Some(activation.version);
        }
    }
    None
}

/// What a version is to new runs, and the share that takes it.
fn standing_of(activation: Option<&Activation>, version: u32) -> (&'static str, u16) {
    let Some(activation) = activation else { return ("idle", 0) };
    match activation.canary {
        Some(canary) if canary.version == version => ("canary", canary.share),
        Some(canary) if activation.version == version => ("active", WHOLE - canary.share),
        None if activation.version == version => ("active", WHOLE),
        _ => ("idle", 0),
    }
}

#[cfg(test)]
mod tests {
    use relive_core::ports::CanaryLimits;

    use super::*;

    fn past(steps: &[(ActivationKind, u32)]) -> Vec<Activation> {
        let activation = |(number, (kind, version)): (u64, &(ActivationKind, u32))| Activation {
            workflow: "w".into(),
            number,
            kind: *kind,
            version: *version,
            canary: None,
            at: Timestamp(0),
            author: None,
            reason: None,
        };
        let mut past: Vec<Activation> = (1..).zip(steps).map(activation).collect();
        past.reverse();
        past
    }

    #[test]
    fn rolling_back_goes_on_to_earlier_versions() {
        use ActivationKind::{Activated as A, RolledBack as R};
        let back = |steps: &[(ActivationKind, u32)]| {
            let past = past(steps);
            before(&past, &past[0], |version| version != 7)
        };
        assert_eq!(back(&[(A, 1)]), None);
        assert_eq!(back(&[(A, 1), (A, 2)]), Some(1));
        assert_eq!(back(&[(A, 1), (A, 2), (A, 3)]), Some(2));
        assert_eq!(back(&[(A, 1), (A, 7), (A, 3)]), Some(1), "7 was deleted");
        assert_eq!(back(&[(A, 1), (A, 2), (A, 3), (R, 2)]), Some(1), "not to 3 again");
        assert_eq!(back(&[(A, 1), (A, 2), (A, 3), (R, 2), (R, 1)]), None);
        assert_eq!(back(&[(A, 1), (A, 2), (R, 1), (A, 2)]), Some(1), "activated again, it is to be left again");
        assert_eq!(back(&[(A, 1), (A, 2), (R, 1), (A, 3)]), Some(1), "2 was rolled back");
        assert_eq!(back(&[(A, 1), (ActivationKind::CanaryStarted, 1), (R, 1), (A, 2)]), Some(1), "only a canary was");
    }

    #[test]
    fn shares_are_told_of_each_version() {
        let mut activation = past(&[(ActivationKind::Activated, 1)]).remove(0);
        assert_eq!(standing_of(None, 1), ("idle", 0));
        assert_eq!(
            (standing_of(Some(&activation), 1), standing_of(Some(&activation), 2)),
            (("active", WHOLE), ("idle", 0))
        );
        activation.canary = Some(Canary { version: 2, share: 500, limits: CanaryLimits::default() });
        let of = |version| standing_of(Some(&activation), version);
        assert_eq!((of(1), of(2), of(3)), (("active", 9_500), ("canary", 500), ("idle", 0)));
    }
}
