//! The figures of hosts that share a store: the same work as embedded, on PostgreSQL, and how long a death is felt.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use relive_store::contract::database::TestDatabase;

use crate::{
    Figures, crowds,
    figures::{CONCURRENT, EXECUTIONS, RUNS, STEPS, burst, gaps, median},
    host::Host,
    workers,
};

/// Deaths that are measured; the worst counts.
const DEATHS: usize = 10;
/// Executions that are open at each of them.
const OPEN: u64 = 200;

pub fn database() -> anyhow::Result<TestDatabase> {
    TestDatabase::migrated().context("RELIVE_TEST_PG names the server; scripts/servers run sets it")
}

/// 50 concurrent executions of 10 steps on one host; then one of 2,000 steps.
pub fn steps(data: &Path) -> anyhow::Result<Figures> {
    const SEQUENCE: u64 = 2_000;
    let database = database()?;
    let host = Host::member(data, &database.url, "a", &[])?;
    host.deploy_steps()?;
    burst(&host, CONCURRENT, 200, "echo")?;
    let round_trips = |host: &Host| host.status().map(|s| s["commits"].as_f64().unwrap_or(0.0));
    let (mut rates, mut trips) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let before = round_trips(&host)?;
        let took = burst(&host, CONCURRENT, EXECUTIONS, "echo")?;
        let steps = (EXECUTIONS * STEPS) as f64;
        rates.push(steps / took.as_secs_f64());
        trips.push((round_trips(&host)? - before) / steps);
    }
    let report = host.connect()?.json("POST", "/v1/namespaces/default/verify", b"")?;
    ensure!(report["findings"].as_array().is_some_and(Vec::is_empty), "verify found something: {report}");
    Host::run_steps(&mut host.connect()?, Some("warm"), 200)?;
    let before = round_trips(&host)?;
    let gaps = gaps(&host, "echo", SEQUENCE)?;
    let alone = (round_trips(&host)? - before) / SEQUENCE as f64;
    Ok(Figures::from([
        ("pg_steps_per_s", median(rates)),
        ("pg_round_trips_per_step", median(trips)),
        ("pg_sequential_step_us_p50", gaps[gaps.len() / 2]),
        ("pg_sequential_step_us_p99", gaps[gaps.len() * 99 / 100]),
        ("pg_sequential_round_trips_per_step", alone),
    ]))
}

/// The work of `steps` by a worker process over NATS, on one host.
pub fn nats_workers(data: &Path) -> anyhow::Result<Figures> {
    let database = database()?;
    let server = std::env::var("RELIVE_TEST_NATS").context("RELIVE_TEST_NATS names the broker")?;
    let queue = format!("{server}/bench-{}", std::process::id());
    let host = Host::member(data, &database.url, "a", &["--queue", &queue])?;
    host.deploy_steps()?;
    let _worker = workers::start_at(&queue)?;
    burst(&host, CONCURRENT, 100, "worker-echo")?;
    let mut rates = Vec::new();
    for _ in 0..RUNS {
        let took = burst(&host, CONCURRENT, EXECUTIONS / 2, "worker-echo")?;
        rates.push((EXECUTIONS / 2 * STEPS) as f64 / took.as_secs_f64());
    }
    workers::verified(&host)?;
    Ok(Figures::from([("pg_nats_worker_steps_per_s", median(rates))]))
}

/// 100,000 timers that are due within a second, and how late timers are that come all the time.
pub fn timers(data: &Path) -> anyhow::Result<Figures> {
    const DUE: u64 = 100_000;
    const LEAD_MS: u64 = 120_000;
    let database = database()?;
    let host = Host::member(data, &database.url, "a", &[])?;
    host.deploy_steps()?;
    let took = crowds::fire(&host, DUE, LEAD_MS)?;
    let late = crowds::lateness(&host)?;
    Ok(Figures::from([("pg_timers_100k_s", took.as_secs_f64()), ("pg_timer_late_ms_p99", late)]))
}

/// From `kill -9` of a host until every open execution has moved on the other one.
pub fn failover(data: &Path) -> anyhow::Result<Figures> {
    let database = database()?;
    let start = |id: &str| {
        let folder = data.join(id);
        std::fs::create_dir_all(&folder)?;
        Host::member(&folder, &database.url, id, &[])
    };
    let mut survivor = start("h0")?;
    survivor.deploy_steps()?;
    let mut worst = Duration::ZERO;
    for death in 0..DEATHS {
        let id = format!("h{}", death + 1);
        let other = start(&id)?;
        until("both hosts to have a share", || shares(&survivor, 2))?;
        let mut connection = survivor.connect()?;
        for n in 0..OPEN {
            let body = format!(r#"{{"workflow":"waiter","workflow_id":"w{death}-{n}","input":null}}"#);
            connection.call("POST", "/v1/namespaces/default/executions", body.as_bytes())?;
        }
        // The older one dies; the younger one takes over.
        let died = Instant::now();
        drop(survivor);
        let mut connection = other.connect()?;
        for n in 0..OPEN {
            let path = format!("/v1/namespaces/default/executions/w{death}-{n}/signals/go");
            connection.call("POST", &path, br#"{"input":{"stop":true}}"#)?;
        }
        for n in 0..OPEN {
            let path = format!("/v1/namespaces/default/executions/w{death}-{n}/result?wait_ms=60000");
            let answer = connection.call("GET", &path, b"")?;
            ensure!(answer.windows(11).any(|w| w == b"\"completed\""), "it did not complete");
        }
        worst = worst.max(died.elapsed());
        survivor = other;
    }
    Ok(Figures::from([("failover_ms", worst.as_secs_f64() * 1e3)]))
}

pub fn shares(host: &Host, hosts: usize) -> anyhow::Result<bool> {
    let answer = host.connect()?.json("GET", "/v1/hosts", b"")?;
    let all = answer["hosts"].as_array().context("hosts")?;
    let owned = |h: &&serde_json::Value| h["shards"].as_u64().is_some_and(|n| n > 0);
    let total: u64 = all.iter().filter_map(|h| h["shards"].as_u64()).sum();
    Ok(all.iter().filter(owned).count() == hosts && total == 256)
}

pub fn until(what: &str, condition: impl Fn() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let began = Instant::now();
    while !condition()? {
        ensure!(began.elapsed() < Duration::from_secs(60), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
