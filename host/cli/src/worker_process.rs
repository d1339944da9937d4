//! A worker whose activities are commands: the input on stdin, the result on stdout, both JSON. Each attempt is a
//! process of its own, in a process group of its own, so that what it starts ends with it.

use std::{os::unix::process::ExitStatusExt, path::PathBuf, process::Stdio, time::Duration};

use relive_worker::{Failure, Task, Worker, WorkerError};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::value::RawValue;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
};

/// A result larger than a payload may be is cut off here; the host's own limit has the better message.
const MAX_STDOUT: u64 = 4 << 20;
/// What is kept of stderr for the failure's message.
const MAX_STDERR: usize = 4_000;
/// How long a command has to end after it was asked to.
const GRACE: Duration = Duration::from_secs(5);

/// What the worker is told.
pub struct Options {
    pub server: String,
    pub namespace: String,
    pub task_queue: String,
    pub concurrency: usize,
    /// Authorities to trust beside the well-known ones, in a PEM file.
    pub ca: Option<PathBuf>,
    /// Names of activities with their commands, for `sh -c`.
    pub commands: Vec<(String, String)>,
}

/// Works until SIGINT or SIGTERM.
pub fn run(options: &Options) -> Result<(), WorkerError> {
    let mut worker = Worker::builder(&options.server)
        .namespace(&options.namespace)
        .task_queue(&options.task_queue)
        .concurrency(options.concurrency);
    if let Some(file) = &options.ca {
        worker = worker.ca(file);
    }
    for (activity, command) in &options.commands {
        let (command, server, namespace) = (command.clone(), options.server.clone(), options.namespace.clone());
        worker = worker.raw(activity, move |task| {
            let mut process = Command::new("sh");
            process.arg("-c").arg(&command).env("RELIVE_SERVER", &server).env("RELIVE_NAMESPACE", &namespace);
            attempt(process, task)
        });
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| WorkerError::Connection(e.to_string()))?;
    runtime.block_on(worker.build()?.run(asked_to_stop()))
}

async fn asked_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// A process group that does not outlive its attempt.
struct Group(Option<Pid>);

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            // It may have ended.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

async fn attempt(mut command: Command, task: Task) -> Result<Box<RawValue>, Failure> {
    let broken = |what: &str, e: std::io::Error| Failure::new("exec-failed", format!("failed to {what}: {e}"));
    let details = task.heartbeat_details::<Box<RawValue>>();
    let mut child = command
        .env("RELIVE_ACTIVITY", task.activity())
        .env("RELIVE_TOKEN", task.token())
        .env("RELIVE_ATTEMPT", task.attempt().to_string())
        .env("RELIVE_IDEMPOTENCY_KEY", task.idempotency_key())
        .env("RELIVE_WORKFLOW_ID", task.workflow_id())
        .env("RELIVE_RUN_ID", task.run_id())
        .env("RELIVE_CORRELATION_ID", task.correlation_id().unwrap_or_default())
        .env("RELIVE_HEARTBEAT_DETAILS", details.as_ref().map_or("", |d| d.get()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| broken("start the command", e))?;
    let group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
    let (mut stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let input = task.input().get().to_owned();
    let write = async {
        if let Some(stdin) = &mut stdin {
            // A command that does not read its input closes it; that is its own affair.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        drop(stdin.take());
    };
    let read_out = async {
        let mut text = Vec::new();
        if let Some(stdout) = stdout {
            let _ = stdout.take(MAX_STDOUT).read_to_end(&mut text).await;
        }
        text
    };
    let read_err = async {
        let mut tail = Vec::new();
        if let Some(mut stderr) = stderr {
            let mut chunk = [0; 4_096];
            while let Ok(n @ 1..) = stderr.read(&mut chunk).await {
                tail.extend_from_slice(&chunk[..n]);
                tail.drain(..tail.len().saturating_sub(MAX_STDERR));
            }
        }
        tail
    };
    let ended = async { tokio::join!(write, read_out, read_err, ending(&mut child, &task, &group)) };
    let ((), out, err, status) = ended.await;
    let status = status.map_err(|e| broken("wait for the command", e))?;
    if task.is_canceled() {
        return Err(Failure::canceled());
    }
    if !status.success() {
        let code = match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit-{code}"),
            (None, signal) => format!("signal-{}", signal.unwrap_or(0)),
        };
        return Err(Failure::new(code, String::from_utf8_lossy(&err).trim().to_owned()));
    }
    result(&out)
}

/// The command's stdout as JSON; nothing is `null`.
fn result(out: &[u8]) -> Result<Box<RawValue>, Failure> {
    let not_json =
        |e: String| Failure::new("not-json", format!("what the command printed is no JSON: {e}")).permanent();
    let text = std::str::from_utf8(out).map_err(|e| not_json(e.to_string()))?.trim();
    let text = if text.is_empty() { "null" } else { text };
    RawValue::from_string(text.to_owned()).map_err(|e| not_json(e.to_string()))
}

/// Waits for the command, beats meanwhile, and ends it if the attempt should stop.
async fn ending(child: &mut Child, task: &Task, group: &Group) -> std::io::Result<std::process::ExitStatus> {
    let beating = async {
        loop {
            tokio::time::sleep(task.beat_every()).await;
            if task.alive().is_err() {
                return;
            }
        }
    };
    let asked = async {
        tokio::select! {
            () = beating => {}
            () = task.canceled() => {}
        }
    };
    tokio::select! {
        status = child.wait() => return status,
        () = asked => group.signal(Signal::TERM),
    }
    match tokio::time::timeout(GRACE, child.wait()).await {
        Ok(status) => status,
        Err(_) => {
            group.signal(Signal::KILL);
            child.wait().await
        }
    }
}
