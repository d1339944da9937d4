//! Other versions under many open executions: how long a pre-flight of all of them takes, what live work feels of it, and how
//! long it takes to move them.

use std::{
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};

use crate::{
    Figures, cluster, crowds,
    host::{Host, guest},
};

const OPEN: u64 = 10_000;
/// With the start and the wait, 50 events.
const STEPS: u64 = 24;
const WORKFLOWS: &str = "/v1/namespaces/default/workflows";
const EXECUTIONS: &str = "/v1/namespaces/default/executions";
/// Live executions of ten steps that begin each second: 1,000 steps.
const LIVE_PER_S: u64 = 100;
const CLIENTS: u64 = 16;

pub fn embedded(data: &Path) -> anyhow::Result<Figures> {
    let host = Host::with_steps(data, &[])?;
    let [checked, before, during, moved, each, deploy] = measure(&host)?;
    Ok(Figures::from([
        ("preflight_10k_s", checked),
        ("preflight_live_p99_ms_before", before),
        ("preflight_live_p99_ms_during", during),
        ("migrate_10k_s", moved),
        ("migrate_ms_p99", each),
        ("deploy_ms", deploy),
    ]))
}

pub fn shared(data: &Path) -> anyhow::Result<Figures> {
    let database = cluster::database()?;
    let host = Host::member(data, &database.url, "a", &[])?;
    host.deploy_steps()?;
    let [checked, before, during, moved, each, _] = measure(&host)?;
    Ok(Figures::from([
        ("pg_preflight_10k_s", checked),
        ("pg_preflight_live_p99_ms_before", before),
        ("pg_preflight_live_p99_ms_during", during),
        ("pg_migrate_10k_s", moved),
        ("pg_migrate_ms_p99", each),
    ]))
}

fn measure(host: &Host) -> anyhow::Result<[f64; 6]> {
    crowds::start_all(host, OPEN, |n| {
        let input = format!(r#"{{"steps":{STEPS},"payload_bytes":200}}"#);
        format!(r#"{{"workflow":"steps_then_wait","workflow_id":"open-{n}","input":{input}}}"#)
    })?;
    settled(host)?;
    let deploy = deploy(host)?;
    let live = Live::default();
    std::thread::scope(|scope| {
        let load = scope.spawn(|| live.run(host));
        std::thread::sleep(Duration::from_secs(5));
        let before = live.p99();
        let began = Instant::now();
        let path = format!("{WORKFLOWS}/steps_then_wait/preflight?version=2");
        let report = host.connect()?.json("POST", &path, b"")?;
        let checked = began.elapsed().as_secs_f64();
        let during = live.p99();
        ensure!(report["agrees"] == OPEN && report["diverges"] == 0, "the pre-flight found {report}");
        live.over.store(true, Ordering::Release);
        load.join().map_err(|_| anyhow::anyhow!("the live load failed"))??;
        let [moved, each] = migrate(host)?;
        Ok([checked, before, during, moved, each, deploy])
    })
}

/// Waits until every execution waits for its message.
fn settled(host: &Host) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut connection = host.connect()?;
    for n in (0..OPEN).rev() {
        loop {
            let row = connection.json("GET", &format!("{EXECUTIONS}/open-{n}"), b"")?;
            if row["events"].as_u64().or(row["last_event_id"].as_u64()).is_some_and(|events| events > 2 * STEPS) {
                break;
            }
            ensure!(began.elapsed() < Duration::from_secs(120), "open-{n} does not come to wait: {row}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    Ok(())
}

/// The same code in other bytes, and another component; how long the latter took from the upload until it was ready, in ms.
fn deploy(host: &Host) -> anyhow::Result<f64> {
    let bytes = [guest("steps/steps.wasm")?, vec![0, 2, 1, b'x']].concat();
    let path = format!("{WORKFLOWS}?activate=false");
    host.connect()?.call("POST", &path, &bytes)?;
    let smaller = guest("hello/hello.wasm")?;
    let began = Instant::now();
    host.connect()?.call("POST", &path, &smaller)?;
    Ok(began.elapsed().as_secs_f64() * 1e3)
}

/// Executions of ten steps, begun at a steady rate, and how long each took.
#[derive(Default)]
struct Live {
    over: AtomicBool,
    took_ms: Mutex<Vec<f64>>,
}

impl Live {
    fn run(&self, host: &Host) -> anyhow::Result<()> {
        let (begun, began) = (AtomicU64::new(0), Instant::now());
        std::thread::scope(|scope| {
            let client = || {
                let mut connection = host.connect()?;
                while !self.over.load(Ordering::Acquire) {
                    let at = Duration::from_millis(1_000 * begun.fetch_add(1, Ordering::Relaxed) / LIVE_PER_S);
                    std::thread::sleep(at.saturating_sub(began.elapsed()));
                    // Also what was late in beginning.
                    Host::run_steps(&mut connection, None, 10)?;
                    let took = began.elapsed().saturating_sub(at).as_secs_f64() * 1e3;
                    self.took_ms.lock().map_err(|_| anyhow::anyhow!("a client failed"))?.push(took);
                }
                anyhow::Ok(())
            };
            let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
            clients.into_iter().try_for_each(|t| t.join().map_err(|_| anyhow::anyhow!("a client failed"))?)
        })
    }

    /// Of those since it was asked last.
    fn p99(&self) -> f64 {
        let mut took = self.took_ms.lock().map(|mut all| std::mem::take(&mut *all)).unwrap_or_default();
        took.sort_by(f64::total_cmp);
        took.get(took.len() * 99 / 100).copied().unwrap_or(0.0)
    }
}

/// How long all took, in s, and of each request the 99th percentile, in ms.
fn migrate(host: &Host) -> anyhow::Result<[f64; 2]> {
    let (next, began) = (AtomicU64::new(0), Instant::now());
    let each: Mutex<Vec<f64>> = Mutex::default();
    std::thread::scope(|scope| {
        let client = || {
            let mut connection = host.connect()?;
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= OPEN {
                    return anyhow::Ok(());
                }
                let path = format!("{EXECUTIONS}/open-{n}/migrate");
                let asked = Instant::now();
                connection.call("POST", &path, br#"{"version":2}"#).with_context(|| format!("open-{n}"))?;
                let took = asked.elapsed().as_secs_f64() * 1e3;
                each.lock().map_err(|_| anyhow::anyhow!("a client failed"))?.push(took);
            }
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        clients.into_iter().try_for_each(|t| t.join().map_err(|_| anyhow::anyhow!("a client failed"))?)
    })?;
    let took = began.elapsed().as_secs_f64();
    let mut each = each.into_inner().map_err(|_| anyhow::anyhow!("a client failed"))?;
    each.sort_by(f64::total_cmp);
    Ok([took, each.get(each.len() * 99 / 100).copied().unwrap_or_default()])
}
