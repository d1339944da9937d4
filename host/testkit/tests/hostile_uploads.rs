//! Uploads that mean harm: each is refused by its code, in bounded time and memory, and damaged copies of honest
//! components neither panic nor hang the host.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use relive_sandbox::{Sandbox, SandboxConfig};
use relive_testkit::{
    guests,
    hostile::{
        mutate::{Rng, mutate},
        uploads,
        usage::Usage,
    },
};

/// Time that a refusal may take, on a busy machine and hardly optimised.
const REFUSED_WITHIN: Duration = Duration::from_secs(2);
const MUTATIONS: u64 = 100_000;
/// Damaged components that pass the checks are compiled and asked what they are, up to this many.
const COMPILED: u64 = 12;
const THREADS: u64 = 2;
/// An honest component is checked in 20 ms; a damaged one may not take long either.
const CHECKED_WITHIN: Duration = Duration::from_secs(5);

fn sandbox() -> Sandbox {
    Sandbox::new(SandboxConfig::in_process()).expect("a sandbox")
}

/// Waits until the process holds what it held: threads that were joined take a moment to go.
fn held_again(before: &Usage) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while let Some(beyond) = Usage::now().beyond(before) {
        assert!(Instant::now() < deadline, "{beyond}");
        std::thread::yield_now();
    }
}

#[test]
fn too_much_of_anything_is_refused_by_its_code() {
    let (sandbox, uploads) = (sandbox(), uploads::all());
    let before = Usage::now();
    for upload in &uploads {
        let began = Instant::now();
        let error = sandbox.admit(&upload.bytes).expect_err(upload.name);
        let (code, took) = (error.code(), began.elapsed());
        assert_eq!(code, upload.code, "{}: {error}", upload.name);
        assert!(error.is_uploads_fault() && error.to_string().len() < 1_000, "{}: {error}", upload.name);
        assert!(took < REFUSED_WITHIN, "{} took {took:?}", upload.name);
    }
    held_again(&before);
}

#[test]
fn a_guest_that_is_cut_off_anywhere_is_refused() {
    let (sandbox, honest) = (sandbox(), guests::bytes("hello/hello.wasm"));
    let mut codes: BTreeMap<&str, u32> = BTreeMap::new();
    for cut in (0..honest.len()).step_by(397) {
        let code = sandbox.check(&honest[..cut]).map_or_else(|error| error.code(), |_| "passed");
        *codes.entry(code).or_default() += 1;
    }
    println!("{codes:?}");
    let known = ["not-wasm", "truncated", "invalid", "no-workflow", "no-metadata", "passed"];
    assert!(codes.keys().all(|code| known.contains(code)), "{codes:?}");
    // A cut through the names at the very end leaves nothing out that matters.
    let passed = codes.get("passed").copied().unwrap_or_default();
    assert!(passed * 10 < codes.values().sum::<u32>(), "{codes:?}");
}

/// What became of damaged copies.
#[derive(Default)]
struct Tally {
    codes: Mutex<BTreeMap<&'static str, u64>>,
    compiled: AtomicU64,
    slowest: Mutex<Duration>,
}

impl Tally {
    fn count(&self, code: &'static str, took: Duration) {
        *self.codes.lock().expect("no panic").entry(code).or_default() += 1;
        let mut slowest = self.slowest.lock().expect("no panic");
        *slowest = took.max(*slowest);
    }
}

/// Checks one damaged copy; a few of those that pass are compiled and asked what they are.
fn try_one(sandbox: &Sandbox, damaged: &[u8], seed: u64, tally: &Tally) {
    let began = Instant::now();
    let checked = catch_unwind(AssertUnwindSafe(|| sandbox.check(damaged)));
    let took = began.elapsed();
    let code = match checked {
        Ok(Ok(_)) => "passed",
        Ok(Err(error)) => error.code(),
        Err(_) => panic!("the check panics; seed {seed}"),
    };
    tally.count(code, took);
    assert!(took < CHECKED_WITHIN, "the check took {took:?}; seed {seed}");
    if code == "passed" && tally.compiled.fetch_add(1, Ordering::Relaxed) < COMPILED {
        let admitted = catch_unwind(AssertUnwindSafe(|| sandbox.admit(damaged)));
        let code = admitted.unwrap_or_else(|_| panic!("admission panics; seed {seed}"));
        let _ = code.map_err(|error| tally.count(error.code(), Duration::ZERO));
    }
}

#[test]
fn measured_a_hundred_thousand_damaged_components_harm_nobody() {
    let sandbox = sandbox();
    let honest: Vec<Vec<u8>> =
        ["hello/hello.wasm", "order/order_activities.wasm", "steps/steps.wasm"].map(guests::bytes).into();
    let tally = Tally::default();
    // The first ones, and an honest one, warm up what is made once: the compiler's threads among it.
    sandbox.admit(&honest[0]).expect("admitted");
    (0..20).for_each(|seed| try_one(&sandbox, &mutate(&honest[0], &mut Rng(seed)), seed, &tally));
    let (before, began) = (Usage::now(), Instant::now());
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (sandbox, honest, tally) = (&sandbox, &honest, &tally);
            scope.spawn(move || {
                for seed in (thread..MUTATIONS).step_by(THREADS as usize) {
                    let mut rng = Rng(seed);
                    let guest = &honest[rng.below(honest.len())];
                    try_one(sandbox, &mutate(guest, &mut rng), seed, tally);
                }
            });
        }
    });
    let codes = tally.codes.lock().expect("no panic");
    let slowest = tally.slowest.lock().expect("no panic");
    println!("{codes:?}, the slowest check {slowest:?}, all in {:?}", began.elapsed());
    assert!(codes.values().sum::<u64>() >= MUTATIONS && codes.len() > 5, "{codes:?}");
    held_again(&before);
}
