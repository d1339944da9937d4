//! Activities outside of the host: workers in a process of their own, URLs, and pollers that wait for nothing.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use relive_testkit::receiver::{Answer, Receiver};
use relive_worker::{Failure, Worker};

use crate::{
    Figures,
    figures::{CONCURRENT, EXECUTIONS, RUNS, STEPS, burst, gaps, median},
    host::Host,
    http::Connection,
};

/// The first argument of this program's own worker process.
pub const WORKER: &str = "--worker";
const POLLERS: usize = 1_000;
const IDLE: Duration = Duration::from_secs(20);

/// A worker process, ended with its owner.
pub struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs until it is killed: an activity that gives its input back.
pub fn work(server: &str) -> anyhow::Result<()> {
    let worker = Worker::builder(server)
        .raw("worker-echo", |task| async move { Ok::<_, Failure>(task.input().to_owned()) })
        .build()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(worker.run(std::future::pending()))?)
}

fn start(host: &Host) -> anyhow::Result<Process> {
    start_at(&format!("http://{}", host.address))
}

/// A worker that reaches its hosts there.
pub fn start_at(server: &str) -> anyhow::Result<Process> {
    let child = Command::new(std::env::current_exe()?)
        .args([WORKER, server])
        .stdin(Stdio::null())
        .spawn()
        .context("start a worker")?;
    Ok(Process(child))
}

/// Ten steps an execution, 50 at once, by one worker process; then 2,000 steps alone.
pub fn measure(data: &Path) -> anyhow::Result<Figures> {
    let host = Host::with_steps(data, &[])?;
    let _worker = start(&host)?;
    burst(&host, CONCURRENT, 100, "worker-echo")?;
    let mut rates = Vec::new();
    for _ in 0..RUNS {
        let took = burst(&host, CONCURRENT, EXECUTIONS, "worker-echo")?;
        rates.push((EXECUTIONS * STEPS) as f64 / took.as_secs_f64());
    }
    let gaps = gaps(&host, "worker-echo", 2_000)?;
    verified(&host)?;
    Ok(Figures::from([
        ("sqlite_worker_steps_per_s", median(rates)),
        ("worker_sequential_step_us_p50", gaps[gaps.len() / 2]),
        ("worker_sequential_step_us_p99", gaps[gaps.len() * 99 / 100]),
    ]))
}

/// The same with the activity behind a URL; who answers runs in this process.
pub fn http(data: &Path) -> anyhow::Result<Figures> {
    let receiver = Receiver::start(|task| Answer::json(200, &task.json()["input"].to_string()));
    let host = Host::with_steps(data, &[])?;
    let config = format!(r#"{{"url":"{}/echo","allow_private":true}}"#, receiver.origin());
    let path = "/v1/namespaces/default/activities?name=http-echo&kind=http";
    host.connect()?.call("POST", path, config.as_bytes())?;
    burst(&host, CONCURRENT, 100, "http-echo")?;
    let took = burst(&host, CONCURRENT, EXECUTIONS, "http-echo")?;
    verified(&host)?;
    Ok(Figures::from([("http_activity_steps_per_s", (EXECUTIONS * STEPS) as f64 / took.as_secs_f64())]))
}

/// What a thousand workers cost that wait for nothing.
pub fn pollers(data: &Path) -> anyhow::Result<Figures> {
    let (host, _) = Host::start(data, &[])?;
    let mut waiting: Vec<Connection> = Vec::new();
    for n in 0..POLLERS {
        let mut connection = host.connect()?;
        let register = format!(r#"{{"identity":"poller-{n}"}}"#);
        let registered = connection.json("POST", "/v1/namespaces/default/workers", register.as_bytes())?;
        let id = registered["worker_id"].as_str().context("an id")?;
        let poll = format!(r#"{{"worker_id":"{id}","wait_ms":60000}}"#);
        connection.send("POST", "/v1/namespaces/default/task-queues/default/poll", poll.as_bytes())?;
        waiting.push(connection);
    }
    let (before, began) = (host.cpu_seconds()?, Instant::now());
    std::thread::sleep(IDLE);
    let percent = (host.cpu_seconds()? - before) / began.elapsed().as_secs_f64() * 100.0;
    let queue = host.connect()?.json("GET", "/v1/namespaces/default/task-queues/default", b"")?;
    ensure!(queue["pollers"] == POLLERS, "not all of them wait: {queue}");
    Ok(Figures::from([("idle_pollers_1k_cpu_percent", percent)]))
}

/// The worker of the Python library, as the folder that it is called in has it.
const PYTHON: &str = r#"
import sys
sys.path.insert(0, "guest-sdk/python")
from relive_worker import Worker
worker = Worker(sys.argv[1], concurrency=50)
worker.activity("python-echo")(lambda task, input: input)
worker.run()
"#;

/// The same with the worker in Python.
pub fn python(data: &Path) -> anyhow::Result<Figures> {
    let host = Host::with_steps(data, &[])?;
    let child = Command::new("python3")
        .args(["-c", PYTHON, &format!("http://{}", host.address)])
        .stdin(Stdio::null())
        .spawn()
        .context("start python3")?;
    let _worker = Process(child);
    burst(&host, CONCURRENT, 100, "python-echo")?;
    let took = burst(&host, CONCURRENT, EXECUTIONS / 4, "python-echo")?;
    verified(&host)?;
    Ok(Figures::from([("python_worker_steps_per_s", (EXECUTIONS / 4 * STEPS) as f64 / took.as_secs_f64())]))
}

pub fn verified(host: &Host) -> anyhow::Result<()> {
    let report = host.connect()?.json("POST", "/v1/namespaces/default/verify", b"")?;
    ensure!(report["findings"].as_array().is_some_and(Vec::is_empty), "verify found something: {report}");
    Ok(())
}
