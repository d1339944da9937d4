//! Python processes that tests start: workers, and servers of examples.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use relive_testkit::guests;
use serde_json::Value;

use super::{Site, until};

/// A Python process; killed when it is dropped.
pub struct Python {
    child: Child,
    log: PathBuf,
}

impl Python {
    /// Runs a script of the repository. What it says goes to a file in `directory`.
    pub fn start(script: &str, arguments: &[&str], directory: &Path) -> Self {
        let count = std::fs::read_dir(directory).expect("a directory").count();
        let log = directory.join(format!("python-{count}.log"));
        let file = std::fs::File::create(&log).expect("a log file");
        let mut command = Command::new("python3");
        command.arg("-u").arg(guests::workspace().join(script)).args(arguments).env("PYTHONDONTWRITEBYTECODE", "1");
        command.stdin(Stdio::null()).stderr(file.try_clone().expect("a file")).stdout(file);
        let child = command.spawn().expect("python3 runs; scripts/check-machine says how to get it");
        Self { child, log }
    }

    /// A worker with the activities of `common/activities.py`, which leave their traces in `directory`.
    pub fn worker(site: &Site, directory: &Path, concurrency: usize) -> Self {
        Self::worker_of(&format!("http://{}", site.host.address), directory, concurrency)
    }

    /// The same, with the address that it is to reach the host by.
    pub fn worker_of(server: &str, directory: &Path, concurrency: usize) -> Self {
        let arguments = [server, directory.to_str().expect("a path"), &concurrency.to_string()];
        Self::start("host/cli/tests/common/activities.py", &arguments, directory)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has said so far.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// `STOP`, `CONT`, `TERM` ...
    pub fn signal(&self, name: &str) {
        let signal = format!("-{name}");
        let sent = Command::new("kill").args([&signal, &self.pid().to_string()]).status().expect("kill runs");
        assert!(sent.success());
    }

    /// `kill -9`, and waits for the end.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end, and waits.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.ended()
    }

    pub fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        until("the end of a Python process", || {
            status = self.child.try_wait().expect("a child");
            status.is_some()
        });
        status.expect("a status")
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("python {}:\n{}", self.pid(), self.said());
        }
    }
}

/// The lines of JSON in a file; none if it is not there. A line that is being written is left out.
pub fn rows(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}
