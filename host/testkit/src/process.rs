//! A host in a process of its own, to be killed.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

/// How long a host may take to start, or a condition to come true.
const PATIENCE: Duration = Duration::from_secs(60);

/// A `relive dev` process over a data directory.
pub struct Host {
    child: Child,
    pub address: String,
    pub data: PathBuf,
}

impl Host {
    /// Starts a host over `data` with environment variables `env`, and waits until it listens.
    /// `None`: it ended before (an abort point in recovery).
    ///
    /// # Panics
    /// If it neither listens nor ends in time.
    pub fn start(program: &Path, data: &Path, env: &[(&str, &str)]) -> Option<Self> {
        let _ = std::fs::remove_file(data.join("address"));
        let log = std::fs::OpenOptions::new().create(true).append(true).open(data.join("host.log")).expect("a log file");
        let mut command = Command::new(program);
        command.args(["dev", "--listen", "127.0.0.1:0", "--data"]).arg(data);
        command.envs(env.iter().copied()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut child = command.spawn().expect("the host's program");
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(text) = std::fs::read_to_string(data.join("address"))
                && !text.trim().is_empty()
            {
                let address = text.trim().trim_start_matches("http://").to_owned();
                return Some(Self { child, address, data: data.to_owned() });
            }
            if child.try_wait().expect("a child").is_some() {
                return None;
            }
            assert!(Instant::now() < deadline, "the host does not start; see {}", data.join("host.log").display());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits until the process has ended by itself, at most so long. False: it still runs.
    pub fn ends_within(&mut self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if self.child.try_wait().expect("a child").is_some() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        false
    }

    /// Asks it to end, and waits.
    pub fn stop(mut self) -> Option<i32> {
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _ = self.ends_within(PATIENCE);
        self.child.try_wait().ok().flatten().and_then(|s| s.code())
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Sends a request; status and body as JSON. `Err`: the host is gone, and whether it did it is unknown.
    pub fn call(&self, method: &str, path: &str, body: &[u8]) -> Result<(u16, Value), String> {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .build()
            .into();
        let url = self.url(path);
        let json = "application/json";
        let response = match method {
            "GET" => agent.get(&url).call(),
            _ => agent.post(&url).header("content-type", json).send(body),
        };
        let mut response = response.map_err(|e| e.to_string())?;
        let status = response.status().as_u16();
        let text = response.body_mut().read_to_string().map_err(|e| e.to_string())?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
