//! A host in a process of its own, to be killed.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

/// How long a host may take to start, or a condition to come true.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A `relive dev` process over a data directory.
pub struct Host {
    child: Child,
    agent: ureq::Agent,
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
        let mut command = Command::new(program);
        command.args(Self::arguments(data)).envs(env.iter().copied());
        Self::launch(command, data)
    }

    /// The arguments that make `relive` a host over `data`, for commands that run it within another program.
    #[must_use]
    pub fn arguments(data: &Path) -> Vec<String> {
        let data = data.display().to_string();
        ["dev", "--bench-activities", "--listen", "127.0.0.1:0", "--data", &data].map(str::to_owned).to_vec()
    }

    /// As [`Self::start`], by a command of the caller's. What the host says goes to `host.log` in `data`.
    ///
    /// # Panics
    /// If it neither listens nor ends in time.
    pub fn launch(mut command: Command, data: &Path) -> Option<Self> {
        std::fs::create_dir_all(data).expect("a data directory");
        let _ = std::fs::remove_file(data.join("address"));
        let log =
            std::fs::OpenOptions::new().create(true).append(true).open(data.join("host.log")).expect("a log file");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut child = command.spawn().expect("the host's program");
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(text) = std::fs::read_to_string(data.join("address"))
                && !text.trim().is_empty()
            {
                let address = text.trim().trim_start_matches("http://").to_owned();
                return Some(Self { child, agent: agent(), address, data: data.to_owned() });
            }
            if child.try_wait().expect("a child").is_some() {
                return None;
            }
            if Instant::now() > deadline {
                let _ = child.kill();
                panic!("the host does not start; see {}", data.join("host.log").display());
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// `kill -9`, and waits for the end.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// `kill -9` while others may still be talking to it.
    pub fn strike(&self) {
        let _ = Command::new("kill").args(["-KILL", &self.pid().to_string()]).status();
    }

    /// Waits until the process has ended by itself, at most so long. False: it still runs.
    pub fn ends_within(&mut self, patience: Duration) -> bool {
        self.status_within(patience).is_some()
    }

    /// How the process ended by itself, if it did within that time.
    pub fn status_within(&mut self, patience: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return Some(status);
            }
            if Instant::now() >= deadline {
                return None;
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Asks it to end.
    pub fn ask_to_end(&self) {
        let _ = Command::new("kill").args(["-TERM", &self.pid().to_string()]).status();
    }

    /// Asks it to end, and waits.
    pub fn stop(mut self) -> Option<i32> {
        self.ask_to_end();
        self.status_within(PATIENCE).and_then(|status| status.code())
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
        let url = self.url(path);
        answer(match method {
            "GET" => self.agent.get(&url).call(),
            _ => self.agent.post(&url).header("content-type", "application/json").send(body),
        })
    }

    /// Sends a component.
    pub fn upload(&self, path: &str, component: &[u8]) -> Result<(u16, Value), String> {
        answer(self.agent.post(&self.url(path)).header("content-type", "application/wasm").send(component))
    }
}

fn answer(response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<(u16, Value), String> {
    let mut response = response.map_err(|e| e.to_string())?;
    let status = response.status().as_u16();
    let text = response.body_mut().with_config().limit(64 << 20).read_to_string().map_err(|e| e.to_string())?;
    Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(PATIENCE))
        // A proxy of the environment is for the outside.
        .proxy(None)
        .build()
        .into()
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
