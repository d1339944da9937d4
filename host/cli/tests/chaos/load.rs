//! Orders without pause: clients that start them, send each a message, and wait for its end, by whichever host answers.
//! What a host acknowledged is written down, for it must survive.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::common::BASE;

const CLIENTS: u64 = 4;
/// Orders that are open at most.
const MOST_OPEN: usize = 40;
/// A host that does not answer within this is not waited for.
const PATIENCE: Duration = Duration::from_secs(8);
const PAUSE: Duration = Duration::from_millis(50);

#[derive(Default)]
struct Book {
    /// Acknowledged and not known to have ended, with when they were begun.
    open: BTreeMap<String, Instant>,
    completed: BTreeSet<String>,
    /// When the completed ones were begun.
    begun: Vec<Instant>,
}

struct Shared {
    addresses: Vec<String>,
    agent: ureq::Agent,
    next: AtomicU64,
    book: Mutex<Book>,
    changed: Condvar,
    stop: AtomicBool,
}

pub struct Load {
    shared: Arc<Shared>,
    clients: Mutex<Vec<JoinHandle<()>>>,
}

/// The orders, for others to look at.
pub struct Orders(Arc<Shared>);

impl Orders {
    /// Those that were acknowledged and are not known to have ended.
    pub fn open(&self) -> Vec<String> {
        self.0.book.lock().expect("a book").open.keys().cloned().collect()
    }
}

/// What became of the orders.
pub struct Account {
    pub acknowledged: u64,
    pub completed: u64,
    pub open: Vec<String>,
}

/// An activity of the host, one of a worker, a message, a timer, and an activity again.
fn program(n: u64) -> Value {
    let ledger =
        |step: &str| json!({"activity": {"name": "ledger", "input": {"n": n, "step": step}, "options": quick()}});
    let pay = json!({"activity": {"name": "pay", "input": n, "options": quick()}});
    json!([ledger("first"), pay, {"message": {"channel": "a"}}, {"timer": {"ms": 1 + n % 40}}, ledger("last")])
}

/// Retries for as long as it takes, and a worker that is silent for three seconds has lost its attempt.
fn quick() -> Value {
    json!({"initial-interval-ms": 5, "maximum-interval-ms": 500, "max-attempts": 10_000, "heartbeat-timeout-ms": 3_000})
}

impl Shared {
    /// Asks one host after the other until one answers; its status and what it said. None: told to stop.
    fn insist(&self, method: &str, path: &str, body: &Value, first: u64) -> Option<(u16, Value)> {
        for n in first.. {
            let at = n as usize % self.addresses.len();
            if let Some((status, answer)) = self.ask(at, method, path, body)
                && status < 500
                && status != 429
            {
                return Some((status, answer));
            }
            if self.stop.load(Ordering::Acquire) {
                return None;
            }
            std::thread::sleep(PAUSE);
        }
        None
    }

    fn ask(&self, at: usize, method: &str, path: &str, body: &Value) -> Option<(u16, Value)> {
        let url = format!("http://{}{path}", self.addresses[at]);
        let answer = match method {
            "GET" => self.agent.get(&url).call(),
            _ => self.agent.post(&url).header("content-type", "application/json").send(body.to_string()),
        };
        let mut answer = answer.ok()?;
        let status = answer.status().as_u16();
        let text = answer.body_mut().read_to_string().ok()?;
        Some((status, serde_json::from_str(&text).ok()?))
    }

    fn order(&self, n: u64) {
        let id = format!("order-{n}");
        let body = json!({"workflow": "script", "workflow_id": id, "request_id": format!("start-{n}"),
            "correlation_id": format!("of-{id}"), "input": {"program": program(n)}});
        let began = Instant::now();
        let Some((status, answer)) = self.insist("POST", &format!("{BASE}/executions"), &body, n) else { return };
        assert!(matches!(status, 200 | 201), "{id}: {status} {answer}");
        self.book.lock().expect("a book").open.insert(id.clone(), began);
        let signal = json!({"message_id": format!("message-{n}"), "input": n});
        let path = format!("{BASE}/executions/{id}/signals/a");
        if let Some((status, answer)) = self.insist("POST", &path, &signal, n + 1) {
            assert_eq!(status, 200, "{id}: {answer}");
        } else {
            // It is to end all the same: the end of the load sends what is missing.
        }
    }

    /// Looks whether the order has ended.
    fn settle(&self, id: &str, first: u64) {
        let path = format!("{BASE}/executions/{id}/result?wait_ms=500");
        let Some((200, answer)) = self.ask(first as usize % self.addresses.len(), "GET", &path, &Value::Null) else {
            return;
        };
        match answer["status"].as_str() {
            Some("completed") => {
                let mut book = self.book.lock().expect("a book");
                if let Some(began) = book.open.remove(id) {
                    book.completed.insert(id.to_owned());
                    book.begun.push(began);
                    self.changed.notify_all();
                }
            }
            Some("running") => {}
            _ => panic!("{id}: {answer}"),
        }
    }

    fn oldest(&self, n: u64) -> Option<(String, usize)> {
        let book = self.book.lock().expect("a book");
        let open = book.open.len();
        // Each client looks at others.
        book.open.keys().nth((n as usize) % open.max(1)).map(|id| (id.clone(), open))
    }

    fn client(&self, number: u64, pace: Duration) {
        let mut looks = number;
        while !self.stop.load(Ordering::Acquire) {
            let open = self.book.lock().expect("a book").open.len();
            if open < MOST_OPEN {
                self.order(self.next.fetch_add(1, Ordering::AcqRel));
                std::thread::sleep(pace);
            }
            looks += 1;
            if let Some((id, _)) = self.oldest(looks) {
                self.settle(&id, looks);
            }
        }
    }
}

impl Load {
    /// Each client rests for `pace` after an order.
    pub fn start(addresses: Vec<String>, pace: Duration) -> Self {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .proxy(None)
            .build()
            .into();
        let shared = Arc::new(Shared {
            addresses,
            agent,
            next: AtomicU64::new(0),
            book: Mutex::default(),
            changed: Condvar::new(),
            stop: AtomicBool::new(false),
        });
        let clients = (0..CLIENTS).map(|number| {
            let shared = shared.clone();
            std::thread::spawn(move || shared.client(number, pace))
        });
        let clients = Mutex::new(clients.collect());
        Self { shared, clients }
    }

    /// Waits until so many orders that were begun from now on have completed.
    pub fn completes(&self, count: usize, patience: Duration) -> Result<(), String> {
        let from = Instant::now();
        let mut book = self.shared.book.lock().expect("no client has failed");
        while book.begun.iter().rev().filter(|began| **began >= from).count() < count {
            if from.elapsed() > patience {
                let open: Vec<&String> = book.open.keys().collect();
                return Err(format!("{} have completed, open are {open:?}", book.completed.len()));
            }
            book = self.shared.changed.wait_timeout(book, Duration::from_millis(200)).expect("no client has failed").0;
        }
        Ok(())
    }

    pub fn orders(&self) -> Orders {
        Orders(self.shared.clone())
    }

    /// All orders that were acknowledged.
    pub fn all(&self) -> Vec<String> {
        let book = self.shared.book.lock().expect("a book");
        book.completed.iter().chain(book.open.keys()).cloned().collect()
    }

    /// No more orders; waits for the end of those there are.
    pub fn end(&self, patience: Duration) -> Account {
        self.shared.stop.store(true, Ordering::Release);
        for client in self.clients.lock().expect("clients").drain(..) {
            client.join().expect("no client has failed");
        }
        self.shared.stop.store(false, Ordering::Release);
        let until = Instant::now() + patience;
        let open = || self.shared.book.lock().expect("a book").open.keys().cloned().collect::<Vec<_>>();
        for id in open() {
            let n = &id["order-".len()..];
            let signal = json!({"message_id": format!("message-{n}"), "input": n.parse::<u64>().unwrap_or(0)});
            let path = format!("{BASE}/executions/{id}/signals/a");
            // One that has ended meanwhile refuses it.
            let _ = self.shared.insist("POST", &path, &signal, 0);
        }
        let mut looks = 0;
        while !open().is_empty() && Instant::now() < until {
            for id in open() {
                looks += 1;
                self.shared.settle(&id, looks);
            }
        }
        let open = open();
        let book = self.shared.book.lock().expect("a book");
        let completed = book.completed.len() as u64;
        Account { acknowledged: completed + open.len() as u64, completed, open }
    }
}
