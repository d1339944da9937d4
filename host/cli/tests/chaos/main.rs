//! A cluster under everything that goes wrong at once: two hosts, two workers, PostgreSQL and NATS as processes, orders
//! without pause, versions that come and go under them, and one fault after the other by a plan that its seed makes
//! again. In the end nothing is lost, nothing is done twice, nothing is stuck, and the checker finds nothing. The same for one
//! host on its own database, with what can go wrong there.
//!
//! `RELIVE_CHAOS_SECONDS` is how long faults go on (`make chaos`: half an hour), `RELIVE_SEED` repeats a plan.

#[path = "../common/mod.rs"]
mod common;
mod load;
mod plan;
mod sink;
mod storm;
mod world;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use common::{BASE, Rng};
use load::Load;
use plan::{ALONE, Deck, FAULTS, Fault};
use serde_json::{Value, json};
use storm::Storm;
use world::World;

/// How long faults go on if nobody says otherwise: with the rest, three minutes.
const SECONDS: u64 = 150;
/// The same for one host on its own, which gets two thirds of what is said.
const SECONDS_ALONE: u64 = 120;
/// There an order takes next to no time: some are enough.
const PACE_ALONE: Duration = Duration::from_millis(150);
/// Orders that have to be begun and completed after a fault before the next one.
const PROGRESS: usize = 8;
/// How long that may take, from the moment of the fault.
const RECOVERY: Duration = Duration::from_secs(60);
/// After the last fault, everything ends within this.
const SETTLING: Duration = Duration::from_secs(120);
/// Orders that are checked at once in the end.
const CHECKERS: usize = 4;
/// Fewer would not be load.
const ORDERS_A_MINUTE: u64 = 60;

fn told() -> Option<u64> {
    std::env::var("RELIVE_CHAOS_SECONDS").ok()?.parse().ok()
}

/// All histories hold what was promised, each order does on the version that its events name what it did, and every event has
/// its order's correlation id.
fn check(world: &World, load: &Load) -> (u64, u64) {
    let report = world.ask_any("POST", &format!("{BASE}/verify"), &json!({}));
    assert_eq!(report["findings"], json!([]), "{report:#}");
    let orders = load.all();
    let counts = std::thread::scope(|scope| {
        let parts: Vec<_> = orders
            .chunks(orders.len().div_ceil(CHECKERS).max(1))
            .map(|part| scope.spawn(|| part.iter().map(|order| check_order(world, order)).collect::<Vec<_>>()))
            .collect();
        parts.into_iter().flat_map(|part| part.join().expect("every order holds")).collect::<Vec<_>>()
    });
    counts.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

/// Events, and those with the correlation id.
fn check_order(world: &World, order: &str) -> (u64, u64) {
    let path = format!("{BASE}/executions/{order}/verify?deep=true");
    let report = world.ask_any("POST", &path, &json!({}));
    assert_eq!((&report["findings"], &report["relived"]), (&json!([]), &json!(1)), "{order}: {report:#}");
    let history = world.ask_any("GET", &format!("{BASE}/executions/{order}/history?limit=1000"), &Value::Null);
    let events = history["events"].as_array().expect("events");
    // An event without one has that of the first.
    let id =
        |event: &Value| event["correlation_id"].as_str().or(events[0]["correlation_id"].as_str()).map(str::to_owned);
    let own = format!("of-{order}");
    let correlated = events.iter().filter(|event| id(event).as_ref() == Some(&own)).count();
    (events.len() as u64, correlated as u64)
}

#[test]
fn chaos_loses_nothing_and_does_nothing_twice() {
    let Some(mut world) = World::start() else {
        assert!(std::env::var_os("CI").is_none(), "there are no servers; run this by scripts/servers run ..");
        eprintln!("skipped: there are no servers (scripts/servers finds them)");
        return;
    };
    chaos(&mut world, &FAULTS, told().unwrap_or(SECONDS));
}

#[test]
fn chaos_on_one_machine_loses_nothing_and_does_nothing_twice() {
    chaos(&mut World::alone(), &ALONE, told().map_or(SECONDS_ALONE, |seconds| seconds * 2 / 3));
}

fn chaos(world: &mut World, faults: &'static [Fault], seconds: u64) {
    let mut deck = Deck::new(faults, Rng::from_environment());
    let load = Load::start(world.addresses(), if world.is_alone() { PACE_ALONE } else { Duration::ZERO });
    load.completes(PROGRESS, RECOVERY).expect("orders complete before anything goes wrong");
    let storm = Storm::begin(world.addresses(), load.orders(), Rng(deck.seed() ^ 0x5707));
    let (began, length) = (Instant::now(), Duration::from_secs(seconds));
    let mut done: BTreeMap<Fault, u64> = BTreeMap::new();
    let mut worst = (Duration::ZERO, Fault::KillHost);
    while began.elapsed() < length {
        let fault = deck.draw();
        let at = Instant::now();
        println!("[{:6.1} s] {fault:?}", began.elapsed().as_secs_f64());
        world.commit(fault, deck.rng());
        if let Err(what) = load.completes(PROGRESS, RECOVERY) {
            panic!("stuck after {fault:?}: {what}\n{}", world.said());
        }
        worst = worst.max((at.elapsed(), fault));
        *done.entry(fault).or_default() += 1;
    }
    world.heal();
    let changes = storm.end();
    let account = load.end(SETTLING);
    assert!(account.open.is_empty(), "stuck: {:?}\n{}{}", account.open, world.about(&account.open), world.said());
    let (events, correlated) = check(world, &load);
    let effects = sink::read(&world.sink());
    let (mut lost, doubled) = (effects.missing(&load.all()), effects.doubled());
    // Its first and its last step are the host's own.
    let ledger = sink::ledger(&world.ledger());
    lost.extend(load.all().into_iter().filter(|order| ledger.get(order).is_none_or(|steps| steps.len() != 2)));
    println!("seed and plan      {}", deck.seed());
    for fault in faults {
        println!("{:<18} {}", format!("{fault:?}"), done.get(fault).unwrap_or(&0));
    }
    println!("of these           {:?}", world.sights());
    println!("versions           {changes:?}");
    println!("orders             {} acknowledged, {} completed", account.acknowledged, account.completed);
    println!("lost               {}\ndoubled            {}\nstuck              0", lost.len(), doubled.len());
    println!("correlation ids    {correlated} of {events} events");
    println!("stale appends      {} refused", world.fenced());
    println!("worst recovery     {:.1} s after {:?}", worst.0.as_secs_f64(), worst.1);
    assert!(lost.is_empty(), "acknowledged, and their effects are missing: {lost:?}");
    assert!(doubled.is_empty(), "the same attempt twice: {doubled:?}");
    assert_eq!((events, account.acknowledged), (correlated, account.completed));
    assert!(account.completed >= ORDERS_A_MINUTE * seconds / 60, "{} orders are no load", account.completed);
    // Faults that count only if something came of them.
    let sights = world.sights();
    let deaths = sights.iter().filter(|(what, _)| !what.contains(' ')).map(|(_, times)| times).sum::<u64>();
    assert!(deaths >= 1, "no host died where it was told to: {sights:?}");
    let wanted = faults.contains(&Fault::LoseReplies).then_some(["lost replies", "hints again"]);
    assert!(wanted.iter().flatten().all(|what| sights.contains_key(what)), "{sights:?}");
    // Of each change some came through, whatever went wrong meanwhile.
    let few = seconds / 150;
    let kinds = ["deployed", "activated", "canaries", "rolled back", "pre-flights", "migrated"];
    assert!(kinds.iter().all(|kind| changes.get(kind).is_some_and(|n| *n >= few.min(6))), "{changes:?}");
    // Each fault has its turn before any has its next.
    let rounds = done.values().sum::<u64>() / faults.len() as u64;
    assert!(rounds >= seconds / 150, "{done:?}");
    assert!(faults.iter().all(|fault| done.get(fault).is_some_and(|n| *n >= rounds)), "{done:?}");
}
