//! Many executions that wait: what they cost in memory, at the start, and when many timers are due.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};

use crate::{Figures, host::Host};

const EXECUTIONS: &str = "/v1/namespaces/default/executions";
const CLIENTS: u64 = 16;

/// Starts `count` executions over several connections; `body` makes the request of the n-th.
pub fn start_all(host: &Host, count: u64, body: impl Fn(u64) -> String + Sync) -> anyhow::Result<Duration> {
    let began = Instant::now();
    std::thread::scope(|scope| {
        let client = |client: u64| {
            let body = &body;
            scope.spawn(move || {
                let mut connection = host.connect()?;
                for n in (client..count).step_by(CLIENTS as usize) {
                    connection.call("POST", EXECUTIONS, body(n).as_bytes())?;
                }
                anyhow::Ok(())
            })
        };
        let clients: Vec<_> = (0..CLIENTS).map(client).collect();
        clients.into_iter().try_for_each(|t| t.join().map_err(|_| anyhow::anyhow!("a client failed"))?)
    })?;
    Ok(began.elapsed())
}

fn waiter(n: u64) -> String {
    format!(r#"{{"workflow":"waiter","workflow_id":"w{n}","input":null}}"#)
}

fn nap(n: u64, ms: u64) -> String {
    format!(r#"{{"workflow":"nap","workflow_id":"n{n}","input":{{"ms":{ms}}}}}"#)
}

/// 100,000 executions that wait for a message, in one host; 1,000 of them are woken.
pub fn waiting(data: &Path) -> anyhow::Result<Figures> {
    const WAITING: u64 = 100_000;
    const WOKEN: u64 = 1_000;
    let host = Host::with_steps(data, &[])?;
    let took = start_all(&host, WAITING, waiter)?;
    let resident = host.resident()? / 1024.0;
    let before = host.status()?;
    let mut connection = host.connect()?;
    let began = Instant::now();
    for n in 0..WOKEN {
        // A stride that visits cold and warm ones alike.
        let path = format!("{EXECUTIONS}/w{}/signals/go", (n * 7_919) % WAITING);
        connection.call("POST", &path, br#"{"input":{"stop":true}}"#)?;
    }
    let woken = began.elapsed();
    let after = host.status()?;
    let number = |status: &serde_json::Value, key: &str| status[key].as_u64().unwrap_or_default();
    let relived = number(&after, "relives") - number(&before, "relives");
    ensure!(relived == 0, "{relived} of {WOKEN} relived");
    Ok(Figures::from([
        ("waiting_100k_rss_mb", resident.max(host.resident()? / 1024.0)),
        ("starts_per_s", WAITING as f64 / took.as_secs_f64()),
        ("sequential_signals_per_s", WOKEN as f64 / woken.as_secs_f64()),
    ]))
}

/// 200,000 executions that sleep, and a host that is started over them.
pub fn sleepers(data: &Path) -> anyhow::Result<Figures> {
    const SLEEPERS: u64 = 200_000;
    let host = Host::with_steps(data, &[])?;
    start_all(&host, SLEEPERS, |n| nap(n, 3_600_000))?;
    host.connect()?.call("POST", "/v1/namespaces/default/workflows", &crate::host::guest("hello/hello.wasm")?)?;
    host.end()?;
    let (host, ready) = Host::start(data, &[])?;
    let began = Instant::now();
    let hello = br#"{"workflow":"hello","workflow_id":"h","input":{"name":"Ada"}}"#;
    let answer = host.connect()?.json("POST", &format!("{EXECUTIONS}?wait_ms=10000"), hello)?;
    ensure!(answer["status"] == "completed", "hello did not complete: {answer}");
    let start = ready + began.elapsed();
    let mut resident = host.resident()?;
    let settled = Instant::now() + Duration::from_secs(10);
    while Instant::now() < settled {
        std::thread::sleep(Duration::from_millis(200));
        resident = resident.max(host.resident()?);
    }
    Ok(Figures::from([
        ("start_ms_200k_sleepers", start.as_secs_f64() * 1e3),
        ("rss_mb_200k_sleepers", resident / 1024.0),
    ]))
}

/// 20,000 timers that are due at the same moment, and 200 executions that sleep again and again.
pub fn timers(data: &Path) -> anyhow::Result<Figures> {
    const DUE: u64 = 20_000;
    let host = Host::with_steps(data, &[])?;
    let rate = DUE as f64 / fire(&host, DUE, 30_000)?.as_secs_f64();
    Ok(Figures::from([("timers_per_s", rate), ("timer_late_ms_p99", lateness(&host)?)]))
}

/// From the moment at which so many timers are due, in `lead` ms from now, until all of them have fired.
pub fn fire(host: &Host, due: u64, lead: u64) -> anyhow::Result<Duration> {
    let origin = now_ms()?;
    start_all(host, due, |n| {
        let left = (origin + lead).saturating_sub(now_ms().unwrap_or(origin));
        nap(n, left)
    })?;
    ensure!(now_ms()? < origin + lead - 1_000, "the host is too slow to start {due} executions in time");
    std::thread::sleep(Duration::from_millis((origin + lead).saturating_sub(now_ms()?)));
    // Only now: the host closes connections that say nothing for long.
    let mut connection = host.connect()?;
    let began = Instant::now();
    let path = format!("{EXECUTIONS}?status=running&limit=1");
    while connection.json("GET", &path, b"")?["executions"].as_array().is_some_and(|e| !e.is_empty()) {
        ensure!(began.elapsed() < Duration::from_secs(120), "the timers do not come to an end");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(began.elapsed())
}

/// 200 executions that sleep for 100 ms, 50 times: 2,000 timers a second.
pub fn lateness(host: &Host) -> anyhow::Result<f64> {
    const NAPPERS: u64 = 200;
    start_all(host, NAPPERS, |n| {
        format!(r#"{{"workflow":"nap","workflow_id":"again{n}","input":{{"ms":100,"times":50}}}}"#)
    })?;
    let mut connection = host.connect()?;
    let mut late = Vec::new();
    for n in 0..NAPPERS {
        let result = format!("{EXECUTIONS}/again{n}/result?wait_ms=60000");
        ensure!(connection.json("GET", &result, b"")?["status"] == "completed", "a nap does not end");
        let path = format!("{EXECUTIONS}/again{n}/history?limit=1000");
        let page = connection.json("GET", &path, b"")?;
        let mut deadline = 0.0;
        for event in page["events"].as_array().context("events")? {
            match event["event_type"].as_str() {
                Some("TimerCreated") => deadline = event["attributes"]["deadline"].as_f64().context("a deadline")?,
                Some("TimerFired") => late.push((event["timestamp"].as_f64().context("a time")? - deadline) / 1e6),
                _ => {}
            }
        }
    }
    late.sort_by(f64::total_cmp);
    late.get(late.len() * 99 / 100).copied().context("timers")
}

fn now_ms() -> anyhow::Result<u64> {
    Ok(u64::try_from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis())?)
}

/// CPU of a host that has nothing to do but 1,000 executions that wait, over 60 s.
pub fn idle(data: &Path) -> anyhow::Result<Figures> {
    const SECONDS: u64 = 60;
    let host = Host::with_steps(data, &[])?;
    start_all(&host, 1_000, waiter)?;
    std::thread::sleep(Duration::from_secs(2));
    let before = host.cpu_seconds()?;
    std::thread::sleep(Duration::from_secs(SECONDS));
    Ok(Figures::from([("idle_cpu_percent", (host.cpu_seconds()? - before) * 100.0 / SECONDS as f64)]))
}

/// Messages to 200 executions from 16 clients, each answered once it is durable.
pub fn signals(data: &Path) -> anyhow::Result<Figures> {
    const EXECUTING: u64 = 200;
    const EACH: u64 = 2_000;
    let host = Host::with_steps(data, &[])?;
    start_all(&host, EXECUTING, waiter)?;
    let began = Instant::now();
    std::thread::scope(|scope| {
        let client = |client: u64| {
            let host = &host;
            scope.spawn(move || {
                let mut connection = host.connect()?;
                for n in 0..EACH {
                    let path = format!("{EXECUTIONS}/w{}/signals/go", (n * CLIENTS + client) % EXECUTING);
                    connection.call("POST", &path, b"{\"input\":{}}")?;
                }
                anyhow::Ok(())
            })
        };
        let clients: Vec<_> = (0..CLIENTS).map(client).collect();
        clients.into_iter().try_for_each(|t| t.join().map_err(|_| anyhow::anyhow!("a client failed"))?)
    })?;
    Ok(Figures::from([("signals_per_s", (CLIENTS * EACH) as f64 / began.elapsed().as_secs_f64())]))
}
