//! A nats-server of a test's own, to be killed, wiped, and started again on the same port.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use super::until;

pub struct Server {
    folder: TempDir,
    arguments: Vec<String>,
    port: String,
    process: Option<Child>,
}

impl Server {
    /// With JetStream, on a port of its own choice.
    pub async fn start() -> Self {
        Self::with(&["--jetstream"]).await
    }

    pub async fn with(arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let folder = tempfile::tempdir().expect("a folder");
        let mut server = Self { folder, arguments, port: "-1".to_owned(), process: None };
        server.run().await;
        server
    }

    /// A server that is not there; its port is free as far as anybody knows.
    pub fn absent() -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
        let folder = tempfile::tempdir().expect("a folder");
        Self { folder, arguments: vec!["--jetstream".to_owned()], port: port.to_string(), process: None }
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Starts it, or starts it again where it was.
    pub async fn run(&mut self) {
        let program = std::env::var("RELIVE_TEST_NATS_SERVER").expect(
            "RELIVE_TEST_NATS_SERVER names no program. Type: scripts/servers run cargo nextest run -p relive-queue",
        );
        let data = self.data().display().to_string();
        let ports = self.folder.path().display().to_string();
        let mut command = Command::new(program);
        command.args(["--addr", "127.0.0.1", "--port", &self.port, "--store_dir", &data, "--ports_file_dir", &ports]);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().expect("the server's program");
        let file = self.folder.path().join(format!("nats-server_{}.ports", process.id()));
        self.process = Some(process);
        // Written once it listens: {"nats":["nats://127.0.0.1:4222"],..
        let url = until("the server starts", || async {
            let text = std::fs::read_to_string(&file).ok()?;
            text.split('"').find(|part| part.starts_with("nats://")).map(str::to_owned)
        });
        let url = url.await;
        self.port = url.rsplit(':').next().expect("a port").to_owned();
    }

    /// Kills it, as `kill -9` does.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("it can be killed");
            process.wait().expect("it ends");
        }
    }

    /// Everything that it kept is gone. It must not run.
    pub fn wipe(&self) {
        assert!(self.process.is_none(), "a server that runs is not wiped");
        std::fs::remove_dir_all(self.data()).expect("it kept something");
    }

    /// Stops its process where it is, or lets it go on: `STOP`, `CONT`.
    pub fn signal(&self, name: &str) {
        let process = self.process.as_ref().expect("it runs").id().to_string();
        let status = Command::new("kill").args([format!("-{name}"), process]).status().expect("kill");
        assert!(status.success(), "kill -{name}");
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
