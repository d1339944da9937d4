//! What is measured, one function a subject. docs/benchmarks.md says how each figure is to be read.

use std::{
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};

use crate::{
    Figures, cluster, crowds,
    host::{Host, guest},
    raw, switches, turns, versions, wake, workers,
};

type Measure = fn(&Path) -> anyhow::Result<Figures>;

/// All subjects, in the order in which they are measured.
pub const ALL: &[(&str, Measure)] = &[
    ("raw", raw::measure),
    ("steps", steps),
    ("crowded", crowded),
    ("wasm-activity", wasm_activity),
    ("workers", workers::measure),
    ("http-activity", workers::http),
    ("python-worker", workers::python),
    ("pollers", workers::pollers),
    ("sequential", sequential),
    ("replay", replay),
    ("suspended", suspended),
    ("turns", turns::measure),
    ("wake", wake::measure),
    ("images", wake::sizes),
    ("signals", crowds::signals),
    ("waiting", crowds::waiting),
    ("sleepers", crowds::sleepers),
    ("timers", crowds::timers),
    ("idle", crowds::idle),
    ("start", start),
    ("cluster", cluster::steps),
    ("nats-workers", cluster::nats_workers),
    ("pg-timers", cluster::timers),
    ("failover", cluster::failover),
    ("versions", versions::embedded),
    ("pg-versions", versions::shared),
    ("switches", switches::embedded),
    ("pg-switches", switches::shared),
];

pub const RUNS: usize = 5;
pub const STEPS: u64 = 10;
pub const CONCURRENT: usize = 50;
pub const EXECUTIONS: u64 = 2_000;

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// 50 concurrent executions of 10 steps, 200 bytes in and out, native activities, start and result over HTTP.
fn steps(data: &Path) -> anyhow::Result<Figures> {
    let host = Host::with_steps(data, &[])?;
    burst(&host, CONCURRENT, 200, "echo")?;
    let (mut rates, mut cpu) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let before = host.cpu_seconds()?;
        let took = burst(&host, CONCURRENT, EXECUTIONS, "echo")?;
        let steps = (EXECUTIONS * STEPS) as f64;
        rates.push(steps / took.as_secs_f64());
        cpu.push((host.cpu_seconds()? - before) * 1e6 / steps);
    }
    let report = host.connect()?.json("POST", "/v1/namespaces/default/verify", b"")?;
    ensure!(report["findings"].as_array().is_some_and(Vec::is_empty), "verify found something: {report}");
    Ok(Figures::from([("sqlite_steps_per_s", median(rates)), ("cpu_us_per_step", median(cpu))]))
}

/// The same with more clients at once.
fn crowded(data: &Path) -> anyhow::Result<Figures> {
    let host = Host::with_steps(data, &[])?;
    let mut figures = Figures::new();
    for (name, concurrent) in [("sqlite_steps_per_s_c200", 200), ("sqlite_steps_per_s_c1000", 1_000)] {
        burst(&host, concurrent, 1_000, "echo")?;
        let mut rates = Vec::new();
        for _ in 0..RUNS {
            let took = burst(&host, concurrent, 2 * EXECUTIONS, "echo")?;
            rates.push((2 * EXECUTIONS * STEPS) as f64 / took.as_secs_f64());
        }
        figures.insert(name, median(rates));
    }
    Ok(figures)
}

/// The same with the activity in WebAssembly, a fresh instance a call.
fn wasm_activity(data: &Path) -> anyhow::Result<Figures> {
    let host = Host::with_steps(data, &[])?;
    let path = "/v1/namespaces/default/activities?name=wasm-echo";
    host.connect()?.call("POST", path, &guest("echo/echo_activities.wasm")?)?;
    burst(&host, CONCURRENT, 100, "wasm-echo")?;
    let took = burst(&host, CONCURRENT, EXECUTIONS, "wasm-echo")?;
    let rate = (EXECUTIONS * STEPS) as f64 / took.as_secs_f64();
    Ok(Figures::from([("sqlite_wasm_activity_steps_per_s", rate)]))
}

pub fn burst(host: &Host, concurrent: usize, executions: u64, activity: &str) -> anyhow::Result<Duration> {
    let next = AtomicU64::new(0);
    let mut connections = (0..concurrent).map(|_| host.connect()).collect::<anyhow::Result<Vec<_>>>()?;
    let began = Instant::now();
    std::thread::scope(|scope| {
        let threads: Vec<_> = connections
            .iter_mut()
            .map(|connection| {
                let next = &next;
                scope.spawn(move || {
                    while next.fetch_add(1, Ordering::Relaxed) < executions {
                        Host::run_activity(&mut *connection, None, STEPS, activity)?;
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        threads.into_iter().try_for_each(|t| t.join().map_err(|_| anyhow::anyhow!("a client failed"))?)
    })?;
    Ok(began.elapsed())
}

/// One execution of 2,000 steps: the time between two schedules in its history, and the database's commits.
fn sequential(data: &Path) -> anyhow::Result<Figures> {
    const STEPS: u64 = 2_000;
    let host = Host::with_steps(data, &[])?;
    Host::run_steps(&mut host.connect()?, Some("warm"), 200)?;
    let commits = |host: &Host| host.status().map(|s| s["commits"].as_f64().unwrap_or(0.0));
    let before = commits(&host)?;
    let gaps = gaps(&host, "echo", STEPS)?;
    let spent = commits(&host)? - before;
    Ok(Figures::from([
        ("sequential_step_us_p50", gaps[gaps.len() / 2]),
        ("sequential_step_us_p99", gaps[gaps.len() * 99 / 100]),
        ("commits_per_step", spent / STEPS as f64),
    ]))
}

/// Microseconds between the schedules of two steps of one execution, sorted.
pub fn gaps(host: &Host, activity: &str, steps: u64) -> anyhow::Result<Vec<f64>> {
    Host::run_activity(&mut host.connect()?, Some("measured"), steps, activity)?;
    let mut at = Vec::new();
    let mut cursor = String::new();
    let mut connection = host.connect()?;
    loop {
        let path = format!("/v1/namespaces/default/executions/measured/history?limit=1000{cursor}");
        let page = connection.json("GET", &path, b"")?;
        for event in page["events"].as_array().context("events")? {
            if event["event_type"] == "TaskScheduled" {
                at.push(event["timestamp"].as_f64().context("a timestamp")? / 1e3);
            }
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let mut gaps: Vec<f64> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    gaps.sort_by(f64::total_cmp);
    Ok(gaps)
}

/// Reliving from the store, reading, decoding and hash check included, on a host that was just started.
fn replay(data: &Path) -> anyhow::Result<Figures> {
    let mut figures = Figures::new();
    let sizes = [
        ("replay_us_per_event_at_1k", 500u64),
        ("replay_us_per_event_at_10k", 5_000),
        ("replay_us_per_event_at_50k", 25_000),
    ];
    let host = Host::with_steps(data, &[])?;
    for (name, steps) in sizes {
        Host::run_steps(&mut host.connect()?, Some(name), steps)?;
    }
    drop(host);
    let (host, _) = Host::start(data, &[])?;
    let mut connection = host.connect()?;
    for (name, _) in sizes {
        let mut per_event = Vec::new();
        for _ in 0..RUNS {
            let path = format!("/v1/namespaces/default/executions/{name}/replay");
            let report = connection.json("POST", &path, b"")?;
            ensure!(report["agrees"] == true, "replay does not agree: {report}");
            per_event.push(report["micros"].as_f64().context("micros")? / report["events"].as_f64().context("events")?);
        }
        figures.insert(name, median(per_event));
    }
    figures.insert("replay_events_per_s", 1e6 / figures["replay_us_per_event_at_10k"]);
    Ok(figures)
}

/// Resident memory of an execution that waits with its guest alive.
fn suspended(data: &Path) -> anyhow::Result<Figures> {
    const WAITING: u64 = 5_000;
    let host = Host::with_steps(data, &["--cache-mb", "4096"])?;
    let mut connection = host.connect()?;
    let mut start = |n: u64| {
        let body = format!(r#"{{"workflow":"waiter","workflow_id":"w{n}","input":null}}"#);
        connection.call("POST", "/v1/namespaces/default/executions", body.as_bytes())
    };
    for n in 0..100 {
        start(n)?;
    }
    let before = host.resident()?;
    for n in 100..100 + WAITING {
        start(n)?;
    }
    let each = (host.resident()? - before) / WAITING as f64;
    let live = host.status()?["live_guests"].as_u64().context("live guests")?;
    ensure!(live >= WAITING, "only {live} guests are alive");
    Ok(Figures::from([("suspended_kib_each", each)]))
}

/// From the process's start to its first answer, on a data directory that was used before.
fn start(data: &Path) -> anyhow::Result<Figures> {
    drop(Host::with_steps(data, &[])?);
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let (host, took) = Host::start(data, &[])?;
        times.push(took.as_secs_f64() * 1e3);
        drop(host);
    }
    Ok(Figures::from([("start_ms", median(times))]))
}
