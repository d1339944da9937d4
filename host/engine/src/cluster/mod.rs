//! One host among others: a lease on the host's row, shards by rendezvous, hand-over in good order.
//!
//! `placement` says who should own what, `keeper` beats, claims, lets go and tells `ownership` what holds. Other parts
//! ask `ownership` alone and do not know whether there is one host or ten.
//!
//! ```text
//! keeper --beat--> ClusterStore --view--> placement: wanted
//!   wanted and free  -> claim   -> count what was cut off -> ownership.take -> timers, recovery of those shards
//!   held, not wanted -> flush   -> ownership.lose -> cells let go -> release
//!   no beat in time  -> the lease ends by this host's own clock: turns and requests are refused until it holds again
//! ```

mod keeper;
mod placement;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use relive_core::{
    Shard, Timestamp,
    ports::{ClusterStore, ClusterView, HostBeat, Signals, TaskQueue, WorkerStore},
};

pub(crate) use keeper::{Keeper, leave};

use crate::{feed::FeedParts, remote::Peers};

/// How long others leave a silent host its shards. Beats that fail for as long as this end its ownership.
pub const LEASE: Duration = Duration::from_secs(5);
/// How much earlier than the others a host stops believing in its lease: clocks may run at slightly different speeds,
/// and a thread may sleep between asking and doing; the fence on the row covers the rest.
pub(crate) const MARGIN: Duration = Duration::from_secs(1);
/// How often a host beats: several beats may fail before its lease does.
pub(crate) const BEAT_EVERY: Duration = Duration::from_millis(750);

/// What makes a host one of several.
#[derive(Clone)]
pub struct ClusterParts {
    pub store: Arc<dyn ClusterStore>,
    /// The workers of all hosts.
    pub workers: Arc<dyn WorkerStore>,
    /// The way to the other hosts; none: workers get tasks of the host that they ask, and no others.
    pub peers: Option<Arc<dyn Peers>>,
    /// Tells hosts of tasks at once; none: they ask each other.
    pub broker: Option<Arc<dyn TaskQueue>>,
    /// Nudges between hosts, so that what one lets go of is taken up at once; none: with the next beat.
    pub signals: Option<Arc<dyn Signals>>,
    /// Tells other systems of events; none: nobody is told.
    pub feed: Option<FeedParts>,
    /// The host's name: one live process has it.
    pub host_id: Arc<str>,
    /// Where other hosts reach this one: `http://host:port`.
    pub address: Arc<str>,
    pub version: Arc<str>,
    /// Drawn anew by each process.
    pub incarnation: u64,
}

impl ClusterParts {
    fn beat(&self, draining: bool) -> HostBeat {
        HostBeat {
            id: self.host_id.clone(),
            incarnation: self.incarnation,
            address: self.address.clone(),
            version: self.version.clone(),
            draining,
            lease: LEASE,
        }
    }
}

/// What this host knows of the others.
pub(crate) struct Cluster {
    pub parts: ClusterParts,
    view: Mutex<Arc<ClusterView>>,
    draining: AtomicBool,
    poked: Mutex<bool>,
    poke: Condvar,
}

/// Where a shard's owner is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// This host.
    Here,
    /// Another host, at this address.
    At(Arc<str>),
    /// Nobody right now, or nobody who is known: ask again in a moment.
    Nobody,
}

impl Cluster {
    pub fn new(parts: ClusterParts) -> Self {
        let view = ClusterView { hosts: Vec::new(), shards: Vec::new(), catalog_revision: 0, now: Timestamp(0) };
        Self {
            parts,
            view: Mutex::new(Arc::new(view)),
            draining: AtomicBool::new(false),
            poked: Mutex::new(false),
            poke: Condvar::new(),
        }
    }

    /// The newest view.
    pub fn view(&self) -> Arc<ClusterView> {
        self.view.lock().clone()
    }

    fn set_view(&self, view: ClusterView) -> Arc<ClusterView> {
        let view = Arc::new(view);
        *self.view.lock() = view.clone();
        view
    }

    /// Who owns the shard, if it is another host.
    pub fn other_owner(&self, shard: Shard) -> Place {
        let view = self.view();
        let owner = view.shards.get(shard.index()).and_then(|row| row.owner.as_ref());
        let host = owner.and_then(|(id, incarnation)| {
            view.hosts.iter().find(|h| h.id == *id && h.incarnation == *incarnation && h.alive)
        });
        match host {
            Some(host) if host.id != self.parts.host_id => Place::At(host.address.clone()),
            _ => Place::Nobody,
        }
    }

    /// The addresses of the other hosts that live.
    pub fn others(&self) -> Vec<Arc<str>> {
        let view = self.view();
        let others = view.hosts.iter().filter(|host| host.alive && host.id != self.parts.host_id);
        others.map(|host| host.address.clone()).collect()
    }

    /// Whether any other host lives.
    pub fn has_others(&self) -> bool {
        self.view().hosts.iter().any(|host| host.alive && host.id != self.parts.host_id)
    }

    /// Beats now: something may have changed.
    pub fn poke(&self) {
        *self.poked.lock() = true;
        self.poke.notify_one();
    }

    /// From the next beat on, nothing more comes to this host, and what it has goes.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        self.poke();
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    fn wait(&self, at_most: Duration) {
        let mut poked = self.poked.lock();
        if !*poked {
            self.poke.wait_for(&mut poked, at_most);
        }
        *poked = false;
    }
}
