//! The processes of the chaos test, and what is done to them. All of it in one thread: servers die with who started them.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use relive_core::{
    Namespace, RunKey, Shard,
    ports::{QueueName, TaskMessage, TaskQueue},
};
use relive_queue::{NatsOptions, NatsQueue};
use relive_store::PostgresStore;
use relive_testkit::{
    process::Host,
    proxy::Proxy,
    servers::{Nats, Postgres, free_port},
};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::{
    common::{
        BASE, Rng,
        cluster::{command, deploy, fenced, shared},
        python::Python,
        relive, until,
    },
    plan::Fault,
};

const HOSTS: [&str; 2] = ["a", "b"];
/// Longer than the lease and what others need to take over.
const PAST_THE_LEASE: Duration = Duration::from_secs(7);
/// Longer than a worker may be silent about an attempt.
const PAST_THE_HEARTBEAT: Duration = Duration::from_secs(4);
const A_WHILE: Duration = Duration::from_secs(2);
/// One after the other.
const POSTGRES_KILLS: usize = 2;
/// For a host to do what it was at.
const A_MOMENT: Duration = Duration::from_millis(300);
/// Where a host dies: around commits, with a claim, between dispatch and answer, in the middle of a recovery or of a migration.
const POINTS: [&str; 7] = [
    "before-commit",
    "after-commit",
    "after-dispatch",
    "completion-before-commit",
    "claim-committed",
    "inside-recovery",
    "migrating",
];
/// Runs that old hints are about, and how many of them come at once.
const OLD_RUNS: u64 = 200;
const HINTS: usize = 60;

struct Site {
    id: &'static str,
    port: u16,
    /// Its way to PostgreSQL, if it has one.
    proxy: Option<Proxy>,
    host: Option<Host>,
}

/// What hosts share.
struct Servers {
    nats: Nats,
    postgres: Postgres,
    broker: NatsQueue,
    runtime: Runtime,
}

pub struct World {
    // In the order in which they are to end.
    workers: Vec<Option<Python>>,
    sites: Vec<Site>,
    /// None: one host on its own database.
    servers: Option<Servers>,
    /// Appends that were refused because their epoch was over.
    fenced: u64,
    /// Draws of abort points so far.
    points: usize,
    /// What faults came to.
    seen: BTreeMap<&'static str, u64>,
    dir: tempfile::TempDir,
}

impl World {
    /// One host on this machine alone, and its workers.
    pub fn alone() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let site = Site { id: HOSTS[0], port: free_port().expect("a port"), proxy: None, host: None };
        let world = Self {
            workers: vec![None, None],
            sites: vec![site],
            servers: None,
            fenced: 0,
            points: 0,
            seen: BTreeMap::new(),
            dir,
        };
        world.begun()
    }

    /// None: the programs of the servers are not known.
    pub fn start() -> Option<Self> {
        let dir = tempfile::tempdir().expect("a directory");
        // PostgreSQL's user goes through it.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(dir.path(), open).expect("permissions");
        let postgres = Postgres::start(dir.path()).expect("PostgreSQL")?;
        let nats = Nats::start(dir.path()).expect("NATS")?;
        PostgresStore::migrate(&postgres.url(postgres.address())).expect("a schema");
        let runtime = Runtime::new().expect("a runtime");
        let options = NatsOptions { wait_for_server: true, ..NatsOptions::new(&nats.url()) };
        let broker = runtime.block_on(NatsQueue::connect(options)).expect("a connection");
        let sites = HOSTS.map(|id| Site {
            id,
            port: free_port().expect("a port"),
            proxy: Some(Proxy::start(postgres.address()).expect("a proxy")),
            host: None,
        });
        let servers = Some(Servers { nats, postgres, broker, runtime });
        let world = Self {
            workers: vec![None, None],
            sites: sites.into(),
            servers,
            fenced: 0,
            points: 0,
            seen: BTreeMap::new(),
            dir,
        };
        Some(world.begun())
    }

    fn begun(mut self) -> Self {
        for n in 0..self.sites.len() {
            assert!(self.launch(n, None), "the host starts");
        }
        let hosts: Vec<&Host> = self.sites.iter().filter_map(|site| site.host.as_ref()).collect();
        if self.servers.is_some() {
            until("both hosts to have shards", || hosts.iter().all(|host| shared(host)));
        }
        deploy(hosts[0]);
        (0..self.workers.len()).for_each(|n| self.hire(n));
        self
    }

    pub fn is_alone(&self) -> bool {
        self.servers.is_none()
    }

    pub fn addresses(&self) -> Vec<String> {
        self.sites.iter().map(|site| format!("127.0.0.1:{}", site.port)).collect()
    }

    pub fn sink(&self) -> PathBuf {
        self.dir.path().join("sink")
    }

    /// Starts a host, which may be to die at a point. False: it did before it listened.
    fn launch(&mut self, n: usize, abort_at: Option<&str>) -> bool {
        let site = &mut self.sites[n];
        let data = self.dir.path().join(site.id);
        let ledger = self.dir.path().join("ledger").display().to_string();
        let listen = format!("127.0.0.1:{}", site.port);
        let mut env = vec![("RELIVE_LEDGER", &*ledger), ("RELIVE_IMAGE_EVERY", "10"), ("RELIVE_LISTEN", &*listen)];
        env.extend(abort_at.map(|point| ("RELIVE_ABORT_AT", point)));
        let command = match (&self.servers, &site.proxy) {
            (Some(servers), Some(proxy)) => {
                let (store, queue) = (servers.postgres.url(proxy.address), servers.nats.url());
                env.push(("RELIVE_QUEUE", &*queue));
                command(&store, &env, &data, site.id)
            }
            _ => {
                let mut command = Command::new(relive());
                let data = data.display().to_string();
                command.args(["dev", "--bench-activities", "--listen", &listen, "--data", &data]);
                command.env("RELIVE_LOG", "info").envs(env);
                command
            }
        };
        site.host = Host::launch(command, &data);
        site.host.is_some()
    }

    /// One worker over HTTP, from one host alone; one over NATS, from all of them, if there is a broker.
    fn hire(&mut self, n: usize) {
        let broker = self.servers.as_ref().filter(|_| n > 0).map(|servers| servers.nats.url());
        let server = broker.unwrap_or_else(|| format!("http://127.0.0.1:{}", self.sites[0].port));
        let arguments = [server, self.sink().display().to_string()];
        let arguments = arguments.each_ref().map(String::as_str);
        self.workers[n] = Some(Python::start("host/cli/tests/chaos/worker.py", &arguments, self.dir.path()));
    }

    /// Does it, and mends what does not mend itself.
    pub fn commit(&mut self, fault: Fault, rng: &mut Rng) {
        let n = rng.between(0, self.sites.len() as u64 - 1) as usize;
        match fault {
            Fault::KillHost => {
                self.kill(n);
                assert!(self.launch(n, None), "the host starts");
            }
            Fault::KillHostAtPoint => {
                // One after the other, recovery first.
                let point = POINTS[self.points % POINTS.len()];
                self.points += 1;
                self.kill(n);
                if self.launch(n, Some(&format!("{point}:{}", rng.between(1, 20)))) {
                    // It gets there, or is killed elsewhere.
                    let host = self.sites[n].host.as_mut().expect("a host");
                    let died = host.ends_within(PAST_THE_LEASE);
                    self.seen(if died { point } else { "did not come there" });
                    println!("           {point}: {}", if died { "died there" } else { "did not come there" });
                }
                self.kill(n);
                assert!(self.launch(n, None), "the host starts");
            }
            Fault::StopHost => {
                self.signal_host(n, "STOP");
                std::thread::sleep(PAST_THE_LEASE);
                self.signal_host(n, "CONT");
                std::thread::sleep(A_MOMENT);
                // What a host has seen since it started: the most of any.
                self.fenced = self.fenced.max(fenced(self.sites[n].host.as_ref().expect("a host")));
            }
            Fault::EndHost => {
                let host = self.sites[n].host.take().expect("a host");
                assert_eq!(host.stop(), Some(0), "{}", self.said());
                assert!(self.launch(n, None), "the host starts");
            }
            Fault::KillPostgres => {
                for kill in 0..POSTGRES_KILLS {
                    if kill > 0 {
                        std::thread::sleep(A_WHILE);
                    }
                    let postgres = &mut self.servers().postgres;
                    postgres.kill();
                    postgres.start_again().expect("PostgreSQL");
                }
            }
            Fault::KillNats => {
                let nats = &mut self.servers().nats;
                nats.kill();
                std::thread::sleep(A_WHILE);
                nats.start_again().expect("NATS");
            }
            Fault::WipeNats => {
                let nats = &mut self.servers().nats;
                nats.kill();
                nats.wipe().expect("wiped");
                nats.start_again().expect("NATS");
            }
            Fault::Cut => self.proxy(n).cut(),
            Fault::Stall => self.for_a_while(n, Proxy::stall),
            Fault::Delay => self.for_a_while(n, |proxy| proxy.delay(Duration::from_millis(30))),
            Fault::LoseReplies => self.lose_replies(n, rng.between(1, 5) as usize),
            Fault::KillWorker => {
                drop(self.workers[n].take());
                self.hire(n);
            }
            Fault::StopWorker => {
                let worker = self.workers[n].as_ref().expect("a worker");
                worker.signal("STOP");
                std::thread::sleep(PAST_THE_HEARTBEAT);
                worker.signal("CONT");
            }
            Fault::Redeliver => self.redeliver(rng),
        }
    }

    fn servers(&mut self) -> &mut Servers {
        self.servers.as_mut().expect("hosts share something")
    }

    fn proxy(&self, n: usize) -> &Proxy {
        self.sites[n].proxy.as_ref().expect("the host has a way to PostgreSQL")
    }

    fn kill(&mut self, n: usize) {
        if let Some(host) = self.sites[n].host.take() {
            host.kill();
        }
    }

    fn signal_host(&self, n: usize, signal: &str) {
        let pid = self.sites[n].host.as_ref().expect("a host").pid().to_string();
        let sent = Command::new("kill").args([&format!("-{signal}"), &pid]).status().expect("kill runs");
        assert!(sent.success());
    }

    fn for_a_while(&self, n: usize, what: impl Fn(&Proxy)) {
        what(self.proxy(n));
        std::thread::sleep(A_WHILE);
        self.proxy(n).pass();
    }

    /// Answers get lost for as long as it takes until so many were.
    fn lose_replies(&mut self, n: usize, count: usize) {
        let proxy = self.proxy(n);
        let goal = proxy.lost() + count;
        proxy.lose_replies(count);
        let until = Instant::now() + PAST_THE_LEASE;
        while proxy.lost() < goal && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        let all = proxy.lost() >= goal;
        self.seen(if all { "lost replies" } else { "kept replies" });
    }

    /// What a broker may do to hints: old ones again, in any order, and some that somebody else took and never answers.
    fn redeliver(&mut self, rng: &mut Rng) {
        let queue = QueueName { namespace: Namespace::default(), queue: "default".into() };
        let hints: Vec<TaskMessage> = (0..HINTS)
            .map(|_| TaskMessage {
                queue: queue.clone(),
                run: RunKey::in_shard(rng.between(1, OLD_RUNS), Shard(rng.between(0, 255) as u8)),
                command_no: rng.between(1, 5),
                attempt: rng.between(1, 3) as u32,
                republish: rng.next() as u32,
                activity: "pay".into(),
                correlation_id: None,
                trace_id: None,
            })
            .collect();
        let Servers { broker, runtime, .. } = self.servers();
        let done = runtime.block_on(async {
            broker.publish(&hints).await?;
            // Nobody hears of these for as long as the broker waits for an answer.
            broker.fetch(&queue, HINTS / 2, Duration::from_millis(200)).await
        });
        match done {
            Ok(_) => self.seen("hints again"),
            Err(error) => println!("           the broker is away: {error}"),
        }
    }

    /// Everything is up again, if it was not.
    pub fn heal(&mut self) {
        for n in 0..self.sites.len() {
            self.sites[n].proxy.iter().for_each(Proxy::pass);
            if self.sites[n].host.is_none() {
                assert!(self.launch(n, None), "the host starts");
            }
        }
    }

    /// What any host answers.
    pub fn ask_any(&self, method: &str, path: &str, body: &Value) -> Value {
        let mut answer = Value::Null;
        until(&format!("an answer to {path}"), || {
            self.sites.iter().filter_map(|site| site.host.as_ref()).any(|host| {
                match host.call(method, path, body.to_string().as_bytes()) {
                    Ok((200, told)) => {
                        answer = told;
                        true
                    }
                    _ => false,
                }
            })
        });
        answer
    }

    fn seen(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    /// What faults came to, and how often.
    pub fn sights(&self) -> &BTreeMap<&'static str, u64> {
        &self.seen
    }

    /// What the hosts' own activities wrote down.
    pub fn ledger(&self) -> PathBuf {
        self.dir.path().join("ledger")
    }

    /// What is known of orders that do not end, and of what could keep them.
    pub fn about(&self, orders: &[String]) -> String {
        let of = |order: &String| {
            let of = format!("{BASE}/executions/{order}");
            [format!("{of}/history?limit=1000"), of]
        };
        let common = ["activities/pending", "task-queues", "workers"].map(|what| format!("{BASE}/{what}"));
        let mut about = String::new();
        for path in orders.iter().flat_map(of).chain(common).chain(["/v1/status".to_owned()]) {
            for host in self.sites.iter().filter_map(|site| site.host.as_ref()) {
                let answer = host.call("GET", &path, b"null").map_or_else(|error| error, |(_, told)| told.to_string());
                about.push_str(&format!("--- {path}\n{answer}\n"));
            }
        }
        about
    }

    /// Appends of an epoch that was over, as far as they were seen.
    pub fn fenced(&self) -> u64 {
        self.fenced
    }

    fn logs(&self) -> Vec<(String, String)> {
        let log = |name: &str, file: &str| {
            let text = std::fs::read_to_string(self.dir.path().join(name).join(file)).unwrap_or_default();
            (name.to_owned(), text)
        };
        HOSTS.iter().map(|id| log(id, "host.log")).collect()
    }

    /// The last words of the processes.
    pub fn said(&self) -> String {
        let mut said = String::new();
        for (name, log) in self.logs() {
            let lines: Vec<&str> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(60)..].join("\n");
            said.push_str(&format!("--- host {name}\n{last}\n"));
        }
        for worker in self.workers.iter().flatten() {
            let text = worker.said();
            let lines: Vec<&str> = text.lines().collect();
            let last = lines[lines.len().saturating_sub(20)..].join("\n");
            said.push_str(&format!("--- worker\n{last}\n"));
        }
        said
    }
}
