//! Where executions are: which host of the cluster owns what callers name, and how the hosts stand.

use std::sync::Arc;

use relive_core::{Error, ErrorKind, Namespace, RunKey, Shard, WorkflowId, ports::ClusterView};

use crate::{Place, engine::Engine, ids, remote::TaskToken};

/// Random ids that are tried for one whose shard is this host's: a host with a single shard finds one in 10,000 tries
/// with a probability beyond doubt.
const ID_TRIES: usize = 10_000;

impl Engine {
    /// Whether other hosts may own executions.
    #[must_use]
    pub fn is_clustered(&self) -> bool {
        self.context.cluster.is_some()
    }

    /// The owner of a workflow id's executions.
    #[must_use]
    pub fn place(&self, namespace: &Namespace, id: &WorkflowId) -> Place {
        self.place_shard(Shard::of(namespace, id))
    }

    /// The owner of the execution that a task's token or id names; none: the text names nothing.
    #[must_use]
    pub fn place_task(&self, text: &str) -> Option<Place> {
        TaskToken::run_of(text).map(|run| self.place_run(run))
    }

    /// The owner of a run.
    #[must_use]
    pub fn place_run(&self, run: RunKey) -> Place {
        self.place_shard(run.shard())
    }

    fn place_shard(&self, shard: Shard) -> Place {
        let context = &self.context;
        if context.ownership.epoch(shard).is_some() {
            return Place::Here;
        }
        context.cluster.as_ref().map_or(Place::Nobody, |cluster| cluster.other_owner(shard))
    }

    /// How the hosts and shards stand, by this host's newest beat; none: it has its store to itself.
    #[must_use]
    pub fn cluster(&self) -> Option<Arc<ClusterView>> {
        self.context.cluster.as_ref().map(|cluster| cluster.view())
    }

    /// This host's name in the cluster.
    #[must_use]
    pub fn host_id(&self) -> Option<Arc<str>> {
        self.context.cluster.as_ref().map(|cluster| cluster.parts.host_id.clone())
    }

    /// Whether it owns executions.
    #[must_use]
    pub fn owns_anything(&self) -> bool {
        !self.context.ownership.owned().is_empty()
    }

    /// Whether another host lives that could take over.
    #[must_use]
    pub fn has_others(&self) -> bool {
        let Some(cluster) = &self.context.cluster else { return false };
        let takes =
            |host: &relive_core::ports::HostRow| host.alive && !host.draining && host.id != cluster.parts.host_id;
        cluster.view().hosts.iter().any(takes)
    }

    /// From now on nothing more comes to this host; what it has goes to others. [`Engine::shutdown`] follows.
    pub fn drain(&self) {
        if let Some(cluster) = &self.context.cluster {
            cluster.drain();
        }
    }

    /// The epoch under which this host may write to the shard.
    pub(crate) fn owned(&self, shard: Shard) -> Result<u64, Error> {
        self.context.ownership.epoch(shard).ok_or_else(|| not_owner(&self.context.ownership))
    }

    /// A workflow id that nobody has had, of a shard that this host owns.
    pub(crate) fn fresh_id(&self, namespace: &Namespace) -> Result<WorkflowId, Error> {
        for _ in 0..ID_TRIES {
            let id = WorkflowId::new(&ids::random())
                .map_err(|e| Error::new(ErrorKind::Validation, "invalid-name", e.to_string()))?;
            if self.context.ownership.epoch(Shard::of(namespace, &id)).is_some() {
                return Ok(id);
            }
        }
        Err(not_owner(&self.context.ownership))
    }
}

/// Why this host does not do it: another owns the execution, or it cannot reach the store and must not.
pub(crate) fn not_owner(ownership: &crate::ownership::Ownership) -> Error {
    let message = if ownership.holds() {
        "another host owns the execution, or it is on its way to one; try again in a moment"
    } else {
        "this host has lost touch with the store and owns nothing until it is back; try again, or ask another host"
    };
    Error::new(ErrorKind::Concurrency, "not-owner", message)
}
