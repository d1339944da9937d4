//! Queues with limits: setting them, permits, and serving polls that wait although something is ready.

use std::{collections::HashMap, sync::Arc};

use relive_core::{
    Timestamp,
    ports::{QueueLimits, QueueRow},
};

use super::{Inner, Poller, Queue, QueueName, Queues};
use crate::remote::{
    ClaimRequest, TaskRef,
    gate::{Gate, Shut},
    permit::{Pass, Permit, Recovery},
};

/// What a queue does for those who wait, once its lock is free.
#[derive(Default)]
pub(super) struct Served {
    pairs: Vec<(TaskRef, Poller)>,
    look: Option<Timestamp>,
}

impl Queues {
    /// The host has yet to find claims: of before its start, or of shards that came to it.
    pub fn recovery(self: &Arc<Self>) -> Arc<Recovery> {
        self.inner.lock().recovering += 1;
        Arc::new(Recovery(self.clone()))
    }

    /// All claims of before the start are known.
    pub(in crate::remote) fn recovered(self: &Arc<Self>) {
        let mut inner = self.inner.lock();
        inner.recovering = inner.recovering.saturating_sub(1);
        let all = inner.recovering == 0;
        drop(inner);
        if all {
            self.serve_all();
        }
    }

    /// How often limits have changed: who reads them from the store asks before, and says so with what was read.
    pub fn limits_changed(&self) -> u64 {
        self.inner.lock().limits_changed
    }

    /// What the store holds, all of it, unless limits have changed since `as_of`.
    pub fn set_all_limits(self: &Arc<Self>, rows: Vec<QueueRow>, as_of: u64, now: Timestamp) {
        let mut rows: HashMap<QueueName, QueueLimits> =
            rows.into_iter().map(|row| ((row.namespace, row.name), row.limits)).collect();
        let mut inner = self.inner.lock();
        if inner.limits_changed != as_of {
            return;
        }
        for (name, queue) in inner.queues.iter_mut().filter(|(_, queue)| queue.gate.is_some()) {
            queue.set_limits(rows.remove(name).unwrap_or_default(), now);
        }
        for (name, limits) in rows {
            inner.queues.entry(name).or_default().set_limits(limits, now);
        }
        drop(inner);
        self.serve_all();
    }

    /// Other limits for one queue; they stand in the store already.
    pub fn set_limits(self: &Arc<Self>, name: &QueueName, limits: QueueLimits, now: Timestamp) {
        let mut inner = self.inner.lock();
        inner.limits_changed += 1;
        inner.queues.entry(name.clone()).or_default().set_limits(limits, now);
        drop(inner);
        self.serve(name);
    }

    fn serve_all(self: &Arc<Self>) {
        let gated = |(name, queue): (&QueueName, &Queue)| queue.gate.is_some().then(|| name.clone());
        let names: Vec<QueueName> = self.inner.lock().queues.iter().filter_map(gated).collect();
        names.iter().for_each(|name| self.serve(name));
    }

    /// Asks for a permit for an attempt that a worker learnt of elsewhere.
    pub fn permit(self: &Arc<Self>, name: &QueueName, now: Timestamp) -> Result<Pass, Shut> {
        let mut inner = self.inner.lock();
        let claims = inner.claims(name);
        let Some(gate) = inner.queues.get_mut(name).and_then(|queue| queue.gate.as_mut()) else {
            return Ok(Pass::Free);
        };
        gate.admit(claims, now)?;
        drop(inner);
        Ok(self.pass(name, true))
    }

    pub(super) fn pass(self: &Arc<Self>, name: &QueueName, gated: bool) -> Pass {
        if gated { Pass::Permit(Permit::new(self, name)) } else { Pass::Free }
    }

    /// A permit is back.
    pub(in crate::remote) fn give_back(self: &Arc<Self>, name: &QueueName) {
        if let Some(gate) = self.inner.lock().queues.get_mut(name).and_then(|queue| queue.gate.as_mut()) {
            gate.give_back();
        }
        self.serve(name);
    }

    /// Looks whether polls that wait can be served.
    pub fn serve(self: &Arc<Self>, name: &QueueName) {
        // Without a way out nothing could be handed to anybody.
        let Some(outlet) = self.outlet.get() else { return };
        let now = outlet.now();
        let mut inner = self.inner.lock();
        if let Some(queue) = inner.queues.get_mut(name) {
            queue.look_at = queue.look_at.filter(|at| *at > now);
        }
        let served = inner.serve(name, now);
        drop(inner);
        for (task, Poller { worker, reply, .. }) in served.pairs {
            let (command_no, attempt, pass) = (task.command_no, task.attempt, self.pass(name, true));
            outlet.hand(task, ClaimRequest { command_no, attempt, worker, pass, reply });
        }
        if let Some(at) = served.look {
            outlet.look(at, name);
        }
    }
}

impl Inner {
    /// Finds attempts for polls that wait, as far as the gate lets them out. Without a gate none waits for what is ready.
    /// A scan that finds no pair is not made again before something comes.
    pub(super) fn serve(&mut self, name: &QueueName, now: Timestamp) -> Served {
        let mut served = Served::default();
        let (recovering, claims) = (self.recovering > 0, self.claims(name));
        let Some(queue) = self.queues.get_mut(name) else { return served };
        while let Some(gate) = queue.gate.as_ref().filter(|_| queue.unmatched) {
            if queue.pollers.is_empty() || queue.ready.is_empty() {
                break;
            }
            if let Some(shut) = gate.shut(claims, now) {
                if let Shut::Rate(at) = shut
                    && queue.look_at.is_none_or(|before| before > at)
                {
                    (queue.look_at, served.look) = (Some(at), Some(at));
                }
                break;
            }
            let Some((at, number, activity)) = queue.pair() else {
                queue.unmatched = false;
                break;
            };
            if queue.admit(recovering, now).is_err() {
                break;
            }
            if let (Some((_, poller)), Some((task, _))) = (queue.pollers.remove(at), queue.remove(&activity, number)) {
                queue.dispatched += 1;
                self.places.remove(&(task.run, task.command_no));
                served.pairs.push((task, poller));
            }
        }
        served
    }
}

impl Queue {
    fn set_limits(&mut self, limits: QueueLimits, now: Timestamp) {
        match &mut self.gate {
            Some(gate) => gate.change(limits, now),
            None if limits.is_none() => {}
            None => self.gate = Some(Gate::new(limits)),
        }
    }

    /// The first poll that takes something that is ready: its place, and that.
    fn pair(&mut self) -> Option<(usize, u64, Arc<str>)> {
        self.pollers.retain(|(_, poller)| !poller.reply.is_closed());
        let mut polls = self.pollers.iter().enumerate();
        polls.find_map(|(at, (_, poller))| {
            let (number, activity) = self.oldest(poller.activities.as_deref())?;
            Some((at, number, activity))
        })
    }
}
