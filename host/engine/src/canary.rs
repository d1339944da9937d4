//! Watching canaries: one whose runs fail or stand blocked too often is stopped, and the reason recorded.

use std::time::Duration;

use relive_core::{
    Digest,
    ports::{CanaryLimits, Status, StoreError, VersionCount},
};

use crate::{engine::Engine, workflows::Takes};

/// How often each host looks at the canaries that it knows of. Whoever is first stops one.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Of a workflow's runs the latest so many are looked at.
const RUNS: usize = 10_000;

/// Looks at every canary once.
pub(crate) fn watch(engine: &Engine) {
    for (namespace, takes) in engine.context.workflows.canaries() {
        match counts(engine, &namespace, &takes) {
            Ok(counts) => {
                let Some((digest, limits)) = takes.trial() else { continue };
                let Some(reason) = verdict(&counts, &digest, limits) else { continue };
                let workflow = &takes.activation.workflow;
                tracing::warn!(%workflow, reason, "a canary is stopped");
                if let Err(error) = engine.stop_canary(&namespace, &takes.activation, &reason) {
                    tracing::warn!(%workflow, %error, "a canary could not be stopped; trying again");
                }
            }
            Err(error) => tracing::warn!(%error, "failed to look at a canary"),
        }
    }
}

fn counts(engine: &Engine, namespace: &relive_core::Namespace, takes: &Takes) -> Result<Vec<VersionCount>, StoreError> {
    let activation = &takes.activation;
    engine.context.store.count_versions(namespace, &activation.workflow, activation.at, RUNS)
}

/// Why the canary is to be stopped, if it is.
fn verdict(counts: &[VersionCount], digest: &Digest, limits: CanaryLimits) -> Option<String> {
    let runs = |wanted: fn(Status) -> bool| {
        counts.iter().filter(|c| c.digest == *digest && wanted(c.status)).map(|c| c.runs).sum::<u64>()
    };
    let judged = runs(|status| status != Status::Running);
    let (failed, blocked) = (runs(|status| status == Status::Failed), runs(|status| status == Status::Blocked));
    let bad = failed + blocked;
    let over = judged >= u64::from(limits.min_runs) && bad * 100 > u64::from(limits.bad_percent) * judged;
    (over && bad > 0).then(|| {
        format!(
            "of {judged} runs {failed} failed and {blocked} are blocked, which is more than {} percent",
            limits.bad_percent
        )
    })
}

#[cfg(test)]
mod tests {
    use relive_core::Timestamp;

    use super::*;

    #[test]
    fn a_canary_is_judged_by_its_own_runs() {
        let (own, other) = (Digest::of(b"new"), Digest::of(b"old"));
        let count = |digest, status, runs| VersionCount { digest, status, runs, oldest: Timestamp(0) };
        let limits = CanaryLimits { bad_percent: 10, min_runs: 20 };
        let verdict = |counts: &[VersionCount]| verdict(counts, &own, limits);
        let others = count(other, Status::Failed, 1_000);
        assert_eq!(verdict(&[others.clone(), count(own, Status::Completed, 50)]), None);
        assert_eq!(verdict(&[count(own, Status::Failed, 19)]), None, "too few to say");
        assert_eq!(verdict(&[count(own, Status::Failed, 2), count(own, Status::Completed, 18)]), None, "just within");
        let bad =
            [count(own, Status::Failed, 2), count(own, Status::Blocked, 1), count(own, Status::Completed, 17), others];
        assert!(verdict(&bad).is_some_and(|why| why.contains("of 20 runs 2 failed and 1 are blocked")));
        assert_eq!(verdict(&[count(own, Status::Running, 500)]), None, "running ones say nothing");
    }
}
