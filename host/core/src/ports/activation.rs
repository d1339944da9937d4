//! Which versions new runs of a workflow take: activations, change by change.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use super::VersionRow;
use crate::{
    ids::{Namespace, WorkflowId},
    time::Timestamp,
};

/// A share of all runs is counted in these.
pub const WHOLE: u16 = 10_000;

/// Why the versions that new runs take changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ActivationKind {
    /// All new runs take a version.
    Activated,
    /// A share of them tries another one.
    CanaryStarted,
    /// The share is back to none, by an operator or because a limit was passed.
    CanaryStopped,
    /// Back to what there was before.
    RolledBack,
}

impl ActivationKind {
    pub const ALL: [Self; 4] = [Self::Activated, Self::CanaryStarted, Self::CanaryStopped, Self::RolledBack];

    /// The name in the store, the API and the CLI.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Activated => "activated",
            Self::CanaryStarted => "canary-started",
            Self::CanaryStopped => "canary-stopped",
            Self::RolledBack => "rolled-back",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// When a canary stops by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CanaryLimits {
    /// Failed, timed out and blocked runs, in percent of those that ended or are blocked; 1 to 100.
    pub bad_percent: u8,
    /// Nothing is judged before this many.
    pub min_runs: u32,
}

impl Default for CanaryLimits {
    fn default() -> Self {
        Self { bad_percent: 10, min_runs: 20 }
    }
}

/// A version that a share of new runs tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canary {
    pub version: u32,
    /// Of [`WHOLE`]; from 1 to one below it.
    pub share: u16,
    pub limits: CanaryLimits,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Activation {
    pub workflow: Arc<str>,
    /// From 1.
    pub number: u64,
    pub kind: ActivationKind,
    /// What new runs take,
    pub version: u32,
    /// but for these.
    pub canary: Option<Canary>,
    pub at: Timestamp,
    /// Who asked for it; none: nobody said, or the host itself.
    pub author: Option<Arc<str>>,
    pub reason: Option<Arc<str>>,
}

impl Activation {
    /// Whether new runs may take the version, as the active one or as a canary.
    #[must_use]
    pub fn names(&self, version: u32) -> bool {
        self.version == version || self.canary.is_some_and(|canary| canary.version == version)
    }
}

impl Activation {
    /// The version that a new run of the workflow id takes: always the same while the activation holds.
    #[must_use]
    pub fn version_for(&self, namespace: &Namespace, id: &WorkflowId) -> u32 {
        match &self.canary {
            Some(canary) if bucket(namespace, &self.workflow, id) < canary.share => canary.version,
            _ => self.version,
        }
    }
}

/// Which of [`WHOLE`] parts a workflow id falls into. A larger share keeps those that a smaller one had.
fn bucket(namespace: &Namespace, workflow: &str, id: &WorkflowId) -> u16 {
    let mut hash = sha2::Sha256::new();
    for part in [namespace.as_str(), workflow, id.as_str()] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    let digest = hash.finalize();
    let number = digest.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    u16::try_from(number % u64::from(WHOLE)).unwrap_or(0)
}

/// What holds now, with the versions that it names.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    pub activation: Activation,
    pub active: VersionRow,
    pub canary: Option<VersionRow>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn activation(share: u16) -> Activation {
        Activation {
            workflow: "order".into(),
            number: 1,
            kind: ActivationKind::CanaryStarted,
            version: 1,
            canary: Some(Canary { version: 2, share, limits: CanaryLimits::default() }),
            at: Timestamp(0),
            author: None,
            reason: None,
        }
    }

    #[test]
    fn a_share_is_about_that_many_and_grows_without_losing_any() {
        let ns = Namespace::default();
        let ids: Vec<WorkflowId> = (0..20_000).map(|n| WorkflowId::new(&format!("order-{n}")).unwrap()).collect();
        let tries = |share| {
            let activation = activation(share);
            ids.iter().map(|id| activation.version_for(&ns, id) == 2).collect::<Vec<_>>()
        };
        let (tenth, half) = (tries(1_000), tries(5_000));
        let count = |chosen: &[bool]| chosen.iter().filter(|c| **c).count();
        assert!((1_800..2_200).contains(&count(&tenth)), "{}", count(&tenth));
        assert!((9_600..10_400).contains(&count(&half)), "{}", count(&half));
        assert!(tenth.iter().zip(&half).all(|(small, large)| !small || *large));
        // What is written down here may not change: running canaries would try it on others.
        let first = |n: u16| {
            ids.iter().filter(|id| bucket(&ns, "order", id) < n).take(3).map(|id| id.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(first(1_000), first(1_000));
    }

    proptest! {
        #[test]
        fn names_go_there_and_back(kind in prop::sample::select(&ActivationKind::ALL[..])) {
            prop_assert_eq!(ActivationKind::from_name(kind.name()), Some(kind));
            prop_assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }

        #[test]
        fn parts_are_within_the_whole(id in "[a-z0-9-]{1,40}", workflow in "[a-z]{1,20}") {
            prop_assert!(bucket(&Namespace::default(), &workflow, &WorkflowId::new(&id).unwrap()) < WHOLE);
        }
    }
}
