//! A fuzz target for admission: `mutate SECONDS [SEED]`. Damages honest guests and checks what comes of it, admits what
//! passes, and ends at the first panic with the seed that made it. `docs/fuzzing.md` says more.

use std::time::{Duration, Instant};

use relive_sandbox::{Sandbox, SandboxConfig};
use relive_testkit::{
    guests,
    hostile::mutate::{Rng, mutate},
};

const GUESTS: [&str; 5] = [
    "hello/hello.wasm",
    "order/order_workflow.wasm",
    "order/order_activities.wasm",
    "steps/steps.wasm",
    "script/script.wasm",
];
/// A check that takes longer is a finding, too.
const SLOW: Duration = Duration::from_secs(5);
/// Every so many passed components, one is compiled: that takes a second.
const COMPILE_EVERY: u64 = 50;

fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u64>().expect("a number"));
    let seconds = arguments.next().unwrap_or(60);
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let first = arguments.next().unwrap_or(clock.as_nanos() as u64);
    let sandbox = Sandbox::new(SandboxConfig::in_process()).expect("a sandbox");
    let honest = GUESTS.map(guests::bytes);
    let (began, mut passed, mut seed) = (Instant::now(), 0_u64, first);
    while began.elapsed() < Duration::from_secs(seconds) {
        let mut rng = Rng(seed);
        let guest = rng.below(honest.len());
        let damaged = mutate(&honest[guest], &mut rng);
        // Said before it is tried: a crash leaves it behind.
        let _ = std::fs::write(std::env::temp_dir().join("relive-mutate-seed"), seed.to_string());
        let checked = Instant::now();
        if sandbox.check(&damaged).is_ok() {
            passed += 1;
            if passed.is_multiple_of(COMPILE_EVERY) {
                let _ = sandbox.admit(&damaged);
            }
        }
        if checked.elapsed() > SLOW {
            println!("seed {seed} of {}: {:?}", GUESTS[guest], checked.elapsed());
        }
        seed = seed.wrapping_add(1);
    }
    println!("{} components from seed {first}, {passed} passed the checks", seed.wrapping_sub(first));
}
