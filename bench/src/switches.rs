//! Starts at a steady rate while which version they take changes twice a second: none may fail, and none may take a version
//! that was not active at some moment between its request and its answer.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::{
    Figures, cluster,
    host::{Host, guest},
};

const WORKFLOWS: &str = "/v1/namespaces/default/workflows";
const EXECUTIONS: &str = "/v1/namespaces/default/executions";
const STARTS_PER_S: u64 = 500;
const STARTS: u64 = 5_000;
const CLIENTS: u64 = 16;
const EVERY: Duration = Duration::from_millis(500);
/// Hosts of a cluster hear of a change within this.
const HEARD: Duration = Duration::from_secs(1);

pub fn embedded(data: &Path) -> anyhow::Result<Figures> {
    let host = Host::with_steps(data, &[])?;
    let [rate, failed, wrong, p99] = measure(&[&host], Duration::ZERO)?;
    Ok(Figures::from([
        ("switch_starts_per_s", rate),
        ("switch_starts_failed", failed),
        ("switch_starts_on_a_wrong_version", wrong),
        ("switch_start_ms_p99", p99),
    ]))
}

pub fn shared(data: &Path) -> anyhow::Result<Figures> {
    let database = cluster::database()?;
    let (one, two) = (data.join("a"), data.join("b"));
    [&one, &two].into_iter().try_for_each(std::fs::create_dir_all)?;
    let hosts = [Host::member(&one, &database.url, "a", &[])?, Host::member(&two, &database.url, "b", &[])?];
    cluster::until("both hosts to have a share", || cluster::shares(&hosts[1], 2))?;
    hosts[0].deploy_steps()?;
    let [rate, failed, wrong, p99] = measure(&hosts.each_ref(), HEARD)?;
    Ok(Figures::from([
        ("pg_switch_starts_per_s", rate),
        ("pg_switch_starts_failed", failed),
        ("pg_switch_starts_on_a_wrong_version", wrong),
        ("pg_switch_start_ms_p99", p99),
    ]))
}

/// A version that new runs may take from `asked` on, and no other from `answered` on.
struct Change {
    asked: Duration,
    answered: Duration,
    version: u64,
}

struct Start {
    id: String,
    sent: Duration,
    answered: Duration,
}

fn measure(hosts: &[&Host], heard: Duration) -> anyhow::Result<[f64; 4]> {
    let other = [guest("steps/steps.wasm")?, vec![0, 2, 1, b'x']].concat();
    hosts[0].connect()?.call("POST", &format!("{WORKFLOWS}?activate=false"), &other)?;
    std::thread::sleep(heard);
    let began = Instant::now();
    let over = AtomicBool::new(false);
    let (next, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    let starts: Mutex<Vec<Start>> = Mutex::default();
    let changes = std::thread::scope(|scope| {
        let switcher = scope.spawn(|| switch(hosts[0], began, &over));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let host = hosts[client as usize % hosts.len()];
                scope.spawn(|| start(host, began, &next, &failed, &starts))
            })
            .collect();
        clients.into_iter().try_for_each(|t| t.join().map_err(|_| anyhow::anyhow!("a client failed"))?)?;
        over.store(true, Ordering::Release);
        switcher.join().map_err(|_| anyhow::anyhow!("the switcher failed"))?
    })?;
    let took = began.elapsed();
    ensure!(changes.len() > 10, "only {} changes were made", changes.len());
    let starts = starts.into_inner().map_err(|_| anyhow::anyhow!("a client failed"))?;
    let digests = digests(hosts[0])?;
    let mut connection = hosts[0].connect()?;
    let mut wrong = 0;
    for start in &starts {
        let row = connection.json("GET", &format!("{EXECUTIONS}/{}", start.id), b"")?;
        let version = row["digest"].as_str().and_then(|digest| digests.get(digest)).copied();
        wrong += u64::from(version.is_none_or(|version| !may_take(&changes, start, version, heard)));
    }
    let mut latencies: Vec<f64> = starts.iter().map(|s| (s.answered - s.sent).as_secs_f64() * 1e3).collect();
    latencies.sort_by(f64::total_cmp);
    let p99 = latencies.get(latencies.len() * 99 / 100).copied().unwrap_or_default();
    eprintln!("the slowest start took {:.0} ms", latencies.last().copied().unwrap_or_default());
    let rate = starts.len() as f64 / took.as_secs_f64();
    Ok([rate, failed.load(Ordering::Acquire) as f64, wrong as f64, p99])
}

/// Whether the version was one to take at some moment between the request and its answer.
fn may_take(changes: &[Change], start: &Start, version: u64, heard: Duration) -> bool {
    let begins = |n: usize| changes.get(n).map_or(Duration::MAX, |change| change.asked);
    let ends = |n: usize| changes.get(n + 1).map_or(Duration::MAX, |change| change.answered + heard);
    (0..changes.len()).any(|n| changes[n].version == version && begins(n) <= start.answered && start.sent <= ends(n))
}

fn switch(host: &Host, began: Instant, over: &AtomicBool) -> anyhow::Result<Vec<Change>> {
    let mut connection = host.connect()?;
    let mut changes = vec![Change { asked: Duration::ZERO, answered: Duration::ZERO, version: 1 }];
    while !over.load(Ordering::Acquire) {
        std::thread::sleep(EVERY);
        let asked = began.elapsed();
        // There, and back again without naming it.
        let (path, body, version) = match changes.len() % 2 {
            1 => ("activate", r#"{"version":2}"#, 2),
            _ => ("rollback", "{}", 1),
        };
        connection.call("POST", &format!("{WORKFLOWS}/steps/{path}"), body.as_bytes())?;
        changes.push(Change { asked, answered: began.elapsed(), version });
    }
    Ok(changes)
}

fn start(
    host: &Host,
    began: Instant,
    next: &AtomicU64,
    failed: &AtomicU64,
    starts: &Mutex<Vec<Start>>,
) -> anyhow::Result<()> {
    let mut connection = host.connect()?;
    loop {
        let n = next.fetch_add(1, Ordering::Relaxed);
        if n >= STARTS {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(1_000 * n / STARTS_PER_S).saturating_sub(began.elapsed()));
        let id = format!("s-{n}");
        let body = format!(
            r#"{{"workflow":"steps","workflow_id":"{id}","input":{{"steps":1,"payload_bytes":10,"activity":"echo"}}}}"#
        );
        let sent = began.elapsed();
        match connection.call("POST", EXECUTIONS, body.as_bytes()) {
            Ok(_) => {
                let start = Start { id, sent, answered: began.elapsed() };
                starts.lock().map_err(|_| anyhow::anyhow!("a client failed"))?.push(start);
            }
            Err(error) => {
                eprintln!("start {id}: {error:#}");
                failed.fetch_add(1, Ordering::Relaxed);
                connection = host.connect()?;
            }
        }
    }
}

/// The versions of `steps` by their digests.
fn digests(host: &Host) -> anyhow::Result<BTreeMap<String, u64>> {
    let report = host.connect()?.json("GET", &format!("{WORKFLOWS}/steps"), b"")?;
    let of = |row: &Value| Some((row["digest"].as_str()?.to_owned(), row["version"].as_u64()?));
    Ok(report["versions"].as_array().context("versions")?.iter().filter_map(of).collect())
}
