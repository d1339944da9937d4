//! What numbers are kept in: counters, and histograms with fixed bounds. Recording is one or two relaxed additions to
//! atomics, without a lock and without an allocation; what is recorded takes no more memory, asked for or not.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Something that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    pub fn one(&self) {
        self.add(1);
    }

    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Bounds that a histogram may have; one more bucket is above the last.
const MAX_BOUNDS: usize = 19;
const BUCKETS: usize = MAX_BOUNDS + 1;

const fn us(n: u64) -> u64 {
    n * 1_000
}
const fn ms(n: u64) -> u64 {
    us(n * 1_000)
}
const fn s(n: u64) -> u64 {
    ms(n * 1_000)
}

/// What a host does itself: turns, commits, requests. From the time of a sync on a fast disk to what nobody waits for.
pub const FAST: &[u64] = &[
    us(50),
    us(100),
    us(250),
    us(500),
    ms(1),
    us(2_500),
    ms(5),
    ms(10),
    ms(25),
    ms(50),
    ms(100),
    ms(250),
    ms(500),
    s(1),
    us(2_500_000),
    s(5),
    s(10),
    s(60),
];
/// What waits for workers, or runs in them.
pub const WIDE: &[u64] = &[
    us(100),
    us(500),
    ms(1),
    ms(5),
    ms(10),
    ms(50),
    ms(100),
    ms(500),
    s(1),
    s(5),
    s(10),
    s(30),
    s(60),
    s(300),
    s(600),
    s(1_800),
    s(3_600),
];
/// Executions, which may take months.
pub const LONG: &[u64] = &[
    ms(1),
    ms(5),
    ms(10),
    ms(50),
    ms(100),
    ms(500),
    s(1),
    s(5),
    s(10),
    s(30),
    s(60),
    s(300),
    s(1_800),
    s(3_600),
    s(6 * 3_600),
    s(24 * 3_600),
    s(7 * 24 * 3_600),
    s(30 * 24 * 3_600),
];
/// Numbers of things.
pub const SIZES: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512];

/// How often something came to at most so much.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// What a value is divided by when it is shown: ns become seconds.
    scale: f64,
    buckets: [AtomicU64; BUCKETS],
    sum: AtomicU64,
}

/// A histogram at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Upper bounds, each with how many values were not above it.
    pub buckets: Vec<(f64, u64)>,
    pub sum: f64,
    pub count: u64,
}

impl Histogram {
    /// Of durations, between bounds in ns.
    #[must_use]
    pub fn seconds(bounds: &'static [u64]) -> Self {
        Self::new(bounds, 1e9)
    }

    /// Of numbers of things.
    #[must_use]
    pub fn sizes() -> Self {
        Self::new(SIZES, 1.0)
    }

    fn new(bounds: &'static [u64], scale: f64) -> Self {
        let bounds = &bounds[..bounds.len().min(MAX_BOUNDS)];
        Self { bounds, scale, buckets: [const { AtomicU64::new(0) }; BUCKETS], sum: AtomicU64::new(0) }
    }

    pub fn record(&self, value: u64) {
        let at = self.bounds.partition_point(|bound| *bound < value);
        self.buckets[at].fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
    }

    pub fn took(&self, time: Duration) {
        self.record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Values so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|n| n.load(Relaxed)).sum()
    }

    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut count = 0;
        let mut up_to = |n: &AtomicU64| {
            count += n.load(Relaxed);
            count
        };
        let buckets = self.bounds.iter().zip(&self.buckets).map(|(b, n)| (*b as f64 / self.scale, up_to(n))).collect();
        let count = up_to(&self.buckets[self.bounds.len()]);
        Snapshot { buckets, sum: self.sum.load(Relaxed) as f64 / self.scale, count }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_counted_in_every_bucket_from_its_own_on() {
        let histogram = Histogram::sizes();
        [1, 2, 3, 512, 513].into_iter().for_each(|n| histogram.record(n));
        let seen = histogram.snapshot();
        let of = |bound: f64| seen.buckets.iter().find(|(b, _)| *b == bound).expect("a bucket").1;
        assert_eq!((of(1.0), of(2.0), of(4.0), of(512.0), seen.count), (1, 2, 3, 4, 5));
        assert_eq!((seen.sum, histogram.count()), (1_031.0, 5));
    }

    #[test]
    fn bounds_ascend_and_fit() {
        for bounds in [FAST, WIDE, LONG, SIZES] {
            assert!(bounds.is_sorted() && bounds.len() <= MAX_BOUNDS);
        }
        let seen = Histogram::seconds(FAST);
        seen.took(Duration::from_micros(700));
        let seen = seen.snapshot();
        assert_eq!(seen.buckets.iter().find(|(_, n)| *n == 1).expect("a bucket").0, 0.001);
    }
}
