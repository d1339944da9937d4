//! Servers of a test's own, to be killed, wiped and started again: a PostgreSQL and a nats-server, whose programs
//! `scripts/servers` finds. PostgreSQL refuses root, so root gives its rights up for it.

use std::{
    io::{self, Read},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// The folder of PostgreSQL's programs, and the program of NATS.
const PG_BIN: &str = "RELIVE_TEST_PG_BIN";
const NATS_SERVER: &str = "RELIVE_TEST_NATS_SERVER";
/// How long a server may take to come up: after `kill -9` PostgreSQL reads its log again.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Who runs PostgreSQL if this process is root.
const NOBODY: &str = "nobody";

/// A port that is free right now.
///
/// # Errors
/// If none is to be had.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn is_root() -> bool {
    Path::new("/proc/self").metadata().is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

/// The number of a user's group, whose name differs between systems.
fn group_of(user: &str) -> String {
    let output = Command::new("id").args(["-g", user]).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

/// The program as its own user, who cannot be root; it dies with this process.
fn command(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    if is_root() {
        command.args(["--reuid", NOBODY, "--regid", &group_of(NOBODY), "--clear-groups"]);
    }
    command.args(["--pdeathsig", "KILL"]).arg(program).stdin(Stdio::null());
    command
}

fn run(command: &mut Command) -> io::Result<()> {
    let output = command.output()?;
    let said = || io::Error::other(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)));
    if output.status.success() { Ok(()) } else { Err(said()) }
}

fn wait_for(what: &str, child: &mut Child, mut ready: impl FnMut(u32) -> bool) -> io::Result<bool> {
    let until = Instant::now() + PATIENCE;
    while !ready(child.id()) {
        if child.try_wait()?.is_some() {
            return Ok(false);
        }
        if Instant::now() > until {
            return Err(io::Error::other(format!("{what} does not start")));
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(true)
}

fn end(child: &mut Option<Child>) {
    if let Some(mut child) = child.take() {
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// A PostgreSQL server with all its safety on.
pub struct Postgres {
    bin: PathBuf,
    dir: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Postgres {
    /// Makes and starts one, with its data below `dir`. None: nobody says where the programs are.
    ///
    /// # Errors
    /// What went wrong.
    pub fn start(dir: &Path) -> io::Result<Option<Self>> {
        let Some(bin) = std::env::var_os(PG_BIN).map(PathBuf::from) else { return Ok(None) };
        let dir = dir.join("postgres");
        std::fs::create_dir_all(&dir)?;
        if is_root() {
            run(Command::new("chown").arg(format!("{NOBODY}:")).arg(&dir))?;
        }
        let data = dir.join("data");
        run(command(&bin.join("initdb"))
            .args(["-U", "relive", "--auth=trust", "--encoding=UTF8", "--locale=C", "-D"])
            .arg(&data)
            .current_dir(&dir))?;
        let mut server = Self { bin, dir, port: free_port()?, child: None };
        server.start_again()?;
        Ok(Some(server))
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// The URL of a database, over `address`, which may be a proxy's.
    #[must_use]
    pub fn url(&self, address: SocketAddr) -> String {
        format!("postgres://relive@{address}/postgres")
    }

    fn spawn(&self) -> io::Result<Child> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.dir.join("log"))?;
        let mut command = command(&self.bin.join("postgres"));
        command.arg("-D").arg(self.dir.join("data")).args(["-p", &self.port.to_string()]);
        for setting in ["listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=200", "fsync=on"] {
            command.args(["-c", setting]);
        }
        command.current_dir(&self.dir).stdout(log.try_clone()?).stderr(log).spawn()
    }

    /// Starts it again over its data. What is left of the one before may hold on to its memory for a moment.
    ///
    /// # Errors
    /// What went wrong.
    pub fn start_again(&mut self) -> io::Result<()> {
        let lock = self.dir.join("data/postmaster.pid");
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let mut child = self.spawn()?;
            let ready = |pid: u32| {
                let text = std::fs::read_to_string(&lock).unwrap_or_default();
                let mut lines = text.lines();
                lines.next() == Some(&*pid.to_string()) && lines.nth(6).map(str::trim) == Some("ready")
            };
            if wait_for("PostgreSQL", &mut child, ready)? {
                self.child = Some(child);
                return Ok(());
            }
        }
        Err(io::Error::other(format!("PostgreSQL does not start; see {}", self.dir.join("log").display())))
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        end(&mut self.child);
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A nats-server.
pub struct Nats {
    program: PathBuf,
    dir: PathBuf,
    port: u16,
    arguments: Vec<String>,
    child: Option<Child>,
}

impl Nats {
    /// Starts one with JetStream, with its data below `dir`. None: nobody says where the program is.
    ///
    /// # Errors
    /// What went wrong.
    pub fn start(dir: &Path) -> io::Result<Option<Self>> {
        Self::with(dir, &["--jetstream"])
    }

    /// One with these arguments.
    ///
    /// # Errors
    /// What went wrong.
    pub fn with(dir: &Path, arguments: &[&str]) -> io::Result<Option<Self>> {
        let Some(program) = std::env::var_os(NATS_SERVER).map(PathBuf::from) else { return Ok(None) };
        let dir = dir.join("nats");
        std::fs::create_dir_all(&dir)?;
        let mut server = Self { program, dir, port: free_port()?, arguments: Vec::new(), child: None };
        server.arguments = arguments.iter().map(|text| (*text).to_owned()).collect();
        server.start_again()?;
        Ok(Some(server))
    }

    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Starts it again over what it kept.
    ///
    /// # Errors
    /// What went wrong.
    pub fn start_again(&mut self) -> io::Result<()> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.dir.join("log"))?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(&self.program);
        command.args(["--addr", "127.0.0.1", "--port", &self.port.to_string()]);
        command
            .args(&self.arguments)
            .arg("--store_dir")
            .arg(self.dir.join("data"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let mut child = command.spawn()?;
        let port = self.port;
        // It greets who comes.
        let ready = |_| {
            let greeted = TcpStream::connect(("127.0.0.1", port)).and_then(|mut link| link.read(&mut [0; 64]));
            greeted.is_ok_and(|bytes| bytes > 0)
        };
        if wait_for("nats-server", &mut child, ready)? {
            self.child = Some(child);
            return Ok(());
        }
        Err(io::Error::other(format!("nats-server does not start; see {}", self.dir.join("log").display())))
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        end(&mut self.child);
    }

    /// Deletes all that it kept, of one that does not run.
    ///
    /// # Errors
    /// What could not be deleted.
    pub fn wipe(&mut self) -> io::Result<()> {
        assert!(self.child.is_none(), "it runs");
        match std::fs::remove_dir_all(self.dir.join("data")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.kill();
    }
}
