//! What goes wrong, and in which order: a deck that is shuffled anew when it is through.

use crate::common::Rng;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// `kill -9` of a host, and a new one in its place.
    KillHost,
    /// The new one dies at a named point of its own, in recovery or around a commit.
    KillHostAtPoint,
    /// A host is stopped for longer than its lease, and goes on.
    StopHost,
    /// A host ends in good order, and comes again.
    EndHost,
    KillPostgres,
    KillNats,
    /// NATS loses all that it had.
    WipeNats,
    /// All connections of a host to PostgreSQL break.
    Cut,
    /// Nothing gets through for a while.
    Stall,
    /// Everything is slow for a while.
    Delay,
    /// PostgreSQL did it, and its answers are lost: that to COMMIT among them.
    LoseReplies,
    KillWorker,
    /// A worker is stopped past its heartbeats, and goes on.
    StopWorker,
    /// Hints of tasks come twice, out of order and long after their time, or are taken by somebody who never answers.
    Redeliver,
}

pub const FAULTS: [Fault; 14] = [
    Fault::KillHost,
    Fault::KillHostAtPoint,
    Fault::StopHost,
    Fault::EndHost,
    Fault::KillPostgres,
    Fault::KillNats,
    Fault::WipeNats,
    Fault::Cut,
    Fault::Stall,
    Fault::Delay,
    Fault::LoseReplies,
    Fault::KillWorker,
    Fault::StopWorker,
    Fault::Redeliver,
];

/// What can go wrong with one host on its own.
pub const ALONE: [Fault; 5] =
    [Fault::KillHost, Fault::KillHostAtPoint, Fault::EndHost, Fault::KillWorker, Fault::StopWorker];

pub struct Deck {
    faults: &'static [Fault],
    rng: Rng,
    seed: u64,
    left: Vec<Fault>,
}

impl Deck {
    pub fn new(faults: &'static [Fault], rng: Rng) -> Self {
        let seed = rng.0;
        Self { faults, rng, seed, left: Vec::new() }
    }

    pub fn draw(&mut self) -> Fault {
        if self.left.is_empty() {
            self.left = self.faults.to_vec();
        }
        let at = self.rng.between(0, self.left.len() as u64 - 1) as usize;
        self.left.swap_remove(at)
    }

    pub fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    pub fn seed(&self) -> u64 {
        self.seed
    }
}
