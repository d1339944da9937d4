//! The account of live guests: who was used last, and how much they hold. Correctness never depends on it.

use lru::LruCache;
use parking_lot::Mutex;
use relive_core::RunKey;

use crate::config::CacheLimits;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub bytes: usize,
    pub maps: usize,
}

struct Account {
    guests: LruCache<RunKey, Held>,
    total: Held,
}

pub(crate) struct Cache {
    limits: CacheLimits,
    account: Mutex<Account>,
}

impl Cache {
    pub fn new(limits: CacheLimits) -> Self {
        Self { limits, account: Mutex::new(Account { guests: LruCache::unbounded(), total: Held::default() }) }
    }

    /// A guest was used and holds this much. Returns those that must go cold to make room.
    pub fn used(&self, run: RunKey, held: Held) -> Vec<RunKey> {
        let mut account = self.account.lock();
        let before = account.guests.put(run, held).unwrap_or_default();
        account.total.bytes = account.total.bytes + held.bytes - before.bytes;
        account.total.maps = account.total.maps + held.maps - before.maps;
        let mut cold = Vec::new();
        while (account.total.bytes > self.limits.memory_bytes || account.total.maps > self.limits.maps)
            && account.guests.len() > 1
        {
            let Some((run, held)) = account.guests.pop_lru() else {
                break;
            };
            account.total.bytes -= held.bytes;
            account.total.maps -= held.maps;
            cold.push(run);
        }
        cold
    }

    /// A guest is gone.
    pub fn dropped(&self, run: RunKey) {
        let mut account = self.account.lock();
        if let Some(held) = account.guests.pop(&run) {
            account.total.bytes -= held.bytes;
            account.total.maps -= held.maps;
        }
    }

    /// Guests and what they hold.
    pub fn totals(&self) -> (usize, Held) {
        let account = self.account.lock();
        (account.guests.len(), account.total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_go_first() {
        let cache = Cache::new(CacheLimits { memory_bytes: 30, maps: 100 });
        let held = Held { bytes: 10, maps: 1 };
        for key in 1..=3 {
            assert!(cache.used(RunKey(key), held).is_empty());
        }
        assert!(cache.used(RunKey(1), held).is_empty());
        assert_eq!(cache.used(RunKey(4), held), [RunKey(2)]);
        assert_eq!(cache.used(RunKey(4), Held { bytes: 25, maps: 1 }), [RunKey(3), RunKey(1)]);
        cache.dropped(RunKey(4));
        assert_eq!(cache.totals(), (0, Held::default()));
        let maps = Cache::new(CacheLimits { memory_bytes: 1000, maps: 1 });
        assert!(maps.used(RunKey(1), held).is_empty());
        assert_eq!(maps.used(RunKey(2), held), [RunKey(1)]);
    }
}
