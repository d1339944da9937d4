//! A host to be measured: the `relive` beside this program, with the native `echo` activity.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

use crate::http::Connection;

pub struct Host {
    child: Child,
    pub address: String,
}

/// Where `scripts/guests` puts what it builds.
pub fn guest(name: &str) -> anyhow::Result<Vec<u8>> {
    let folder =
        std::env::var_os("RELIVE_GUESTS").map(PathBuf::from).context("RELIVE_GUESTS names the guests' folder")?;
    let path = folder.join(name);
    std::fs::read(&path).with_context(|| format!("read {}; build it with scripts/guests", path.display()))
}

impl Host {
    /// Starts a host over `data`; how long it took until it answered `/readyz`.
    pub fn start(data: &Path, extra: &[&str]) -> anyhow::Result<(Self, Duration)> {
        Self::launch(data, "dev", extra)
    }

    /// A host of a cluster on the database at `url`.
    pub fn member(data: &Path, url: &str, id: &str, extra: &[&str]) -> anyhow::Result<Self> {
        Self::launch(data, "serve", &[&["--store", url, "--host-id", id], extra].concat()).map(|(host, _)| host)
    }

    fn launch(data: &Path, verb: &str, extra: &[&str]) -> anyhow::Result<(Self, Duration)> {
        let program = std::env::current_exe()?.with_file_name("relive");
        let _ = std::fs::remove_file(data.join("address"));
        let began = Instant::now();
        let log = std::fs::File::create(data.join("host.log"))?;
        let child = Command::new(&program)
            .args([verb, "--bench-activities", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .args(extra)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let mut host = Self { child, address: String::new() };
        while began.elapsed() < Duration::from_secs(60) {
            if let Some(status) = host.child.try_wait()? {
                bail!("the host ended: {status}; see {}", data.join("host.log").display());
            }
            if let Ok(text) = std::fs::read_to_string(data.join("address"))
                && !text.trim().is_empty()
            {
                host.address = text.trim().trim_start_matches("http://").to_owned();
                if host.connect()?.call("GET", "/readyz", b"").is_ok() {
                    return Ok((host, began.elapsed()));
                }
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        bail!("the host does not start");
    }

    /// A host with the workflows of the benchmark.
    pub fn with_steps(data: &Path, extra: &[&str]) -> anyhow::Result<Self> {
        let (host, _) = Self::start(data, extra)?;
        host.deploy_steps()?;
        Ok(host)
    }

    pub fn deploy_steps(&self) -> anyhow::Result<()> {
        self.connect()?.call("POST", "/v1/namespaces/default/workflows", &guest("steps/steps.wasm")?).map(drop)
    }

    pub fn connect(&self) -> anyhow::Result<Connection> {
        Connection::open(&self.address)
    }

    /// Runs `steps` with that many steps to its end.
    pub fn run_steps(connection: &mut Connection, id: Option<&str>, steps: u64) -> anyhow::Result<()> {
        Self::run_activity(connection, id, steps, "echo")
    }

    /// The same with another activity than `echo`.
    pub fn run_activity(
        connection: &mut Connection,
        id: Option<&str>,
        steps: u64,
        activity: &str,
    ) -> anyhow::Result<()> {
        let id = id.map(|id| format!(r#""workflow_id":"{id}","#)).unwrap_or_default();
        let input = format!(r#"{{"steps":{steps},"payload_bytes":200,"activity":"{activity}"}}"#);
        let body = format!(r#"{{"workflow":"steps",{id}"input":{input}}}"#);
        let answer = connection.call("POST", "/v1/namespaces/default/executions?wait_ms=60000", body.as_bytes())?;
        if !answer.windows(11).any(|w| w == b"\"completed\"") {
            bail!("steps did not complete: {}", String::from_utf8_lossy(&answer));
        }
        Ok(())
    }

    /// Ends the host in good order.
    pub fn end(mut self) -> anyhow::Result<()> {
        let status = Command::new("kill").arg(self.child.id().to_string()).status()?;
        anyhow::ensure!(status.success(), "the host cannot be asked to end");
        let began = Instant::now();
        while self.child.try_wait()?.is_none() {
            anyhow::ensure!(began.elapsed() < Duration::from_secs(60), "the host does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    pub fn status(&self) -> anyhow::Result<serde_json::Value> {
        self.connect()?.json("GET", "/v1/status", b"")
    }

    /// VmRSS in KiB.
    pub fn resident(&self) -> anyhow::Result<f64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:")).context("VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    /// User and system time in seconds (at 100 ticks a second, as everywhere on Linux).
    pub fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields: Vec<&str> = text.rsplit(") ").next().context("stat")?.split(' ').collect();
        let ticks = |n: usize| fields.get(n).and_then(|f| f.parse::<f64>().ok()).context("ticks");
        Ok((ticks(11)? + ticks(12)?) / 100.0)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
