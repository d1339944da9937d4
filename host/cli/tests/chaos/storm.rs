//! Versions that come and go under the load: each second one of deploy, activate, canary, rollback, pre-flight and migrate, by
//! whichever host answers. All of them are the same code in other bytes, so that none may ever be found to differ.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use relive_testkit::guests;
use serde_json::{Value, json};

use crate::{
    common::{BASE, Rng},
    load::Orders,
};

const EVERY: Duration = Duration::from_secs(1);
/// A host that does not answer within this is not waited for.
const PATIENCE: Duration = Duration::from_secs(8);
/// Versions beside the first one.
const MOST: u64 = 12;
/// Orders that are moved at once.
const MOVED: usize = 6;
/// What is said of code that differs, and none does.
const NEVER: [&str; 3] = ["diverges", "traps", "other-export"];

/// What was done, and how often.
pub type Done = BTreeMap<&'static str, u64>;

pub struct Storm {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Done>,
}

struct Sky {
    addresses: Vec<String>,
    agent: ureq::Agent,
    orders: Orders,
    rng: Rng,
    /// Versions that were deployed beside the first one.
    versions: u64,
    turn: usize,
}

impl Storm {
    pub fn begin(addresses: Vec<String>, orders: Orders, rng: Rng) -> Self {
        let agent =
            ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE)).proxy(None);
        let sky = Sky { addresses, agent: agent.build().into(), orders, rng, versions: 0, turn: 0 };
        let over = Arc::new(AtomicBool::new(false));
        let ends = over.clone();
        Self { over, thread: std::thread::spawn(move || sky.rage(&ends)) }
    }

    pub fn end(self) -> Done {
        self.over.store(true, Ordering::Release);
        self.thread.join().expect("no change was refused for what it is")
    }
}

impl Sky {
    fn rage(mut self, over: &AtomicBool) -> Done {
        let mut done = Done::new();
        for kind in 0.. {
            if over.load(Ordering::Acquire) {
                break;
            }
            let (version, percent) = (self.any(), self.rng.between(1, 99));
            let whole = json!({"version": version});
            let share = json!({"version": version, "canary_percent": percent});
            // Each in its turn.
            let (what, times) = match kind % 7 {
                0 => ("deployed", u64::from(self.deploy())),
                1 => ("activated", u64::from(self.change("activate", &whole))),
                2 => ("canaries", u64::from(self.change("activate", &share))),
                3 => ("rolled back", u64::from(self.change("rollback", &json!({})))),
                4 => ("pre-flights", u64::from(self.preflight(version))),
                _ => ("migrated", self.migrate(version)),
            };
            *done.entry(what).or_default() += times;
            std::thread::sleep(EVERY);
        }
        done
    }

    /// A version that there is.
    fn any(&mut self) -> u64 {
        self.rng.between(1, 1 + self.versions)
    }

    /// Asks the next host. None: it is away or busy with a fault.
    fn ask(&mut self, path: &str, kind: &str, body: &[u8]) -> Option<(u16, Value)> {
        self.turn += 1;
        let url = format!("http://{}{BASE}{path}", self.addresses[self.turn % self.addresses.len()]);
        let mut answer = self.agent.post(&url).header("content-type", kind).send(body).ok()?;
        let status = answer.status().as_u16();
        let text = answer.body_mut().read_to_string().ok()?;
        Some((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    /// Whether it was done. What is refused must be for a reason that has nothing to do with the code.
    fn done(&mut self, path: &str, kind: &str, body: &[u8]) -> Option<Value> {
        let (status, answer) = self.ask(path, kind, body)?;
        if status < 300 {
            return Some(answer);
        }
        let code = answer["code"].as_str().unwrap_or_default();
        assert!(!NEVER.contains(&code), "{path}: {status} {answer}");
        None
    }

    fn deploy(&mut self) -> bool {
        if self.versions >= MOST {
            return false;
        }
        let mut bytes = guests::bytes("script/script.wasm");
        let label = u8::try_from(self.versions + 1).expect("few versions");
        bytes.extend([0, 3, 1, b'v', label]);
        let deployed = self.done("/workflows?activate=false", "application/wasm", &bytes);
        self.versions += u64::from(deployed.is_some());
        deployed.is_some()
    }

    fn change(&mut self, what: &str, body: &Value) -> bool {
        let body = body.to_string();
        self.done(&format!("/workflows/script/{what}"), "application/json", body.as_bytes()).is_some()
    }

    fn preflight(&mut self, version: u64) -> bool {
        let path = format!("/workflows/script/preflight?sample=20&version={version}");
        let Some(report) = self.done(&path, "application/wasm", b"") else { return false };
        assert_eq!((&report["diverges"], &report["traps"]), (&json!(0), &json!(0)), "{report:#}");
        true
    }

    fn migrate(&mut self, to: u64) -> u64 {
        let open = self.orders.open();
        let from = self.rng.between(0, open.len().max(1) as u64 - 1) as usize;
        let body = json!({"version": to, "reason": "the weather"}).to_string();
        let moved = open.iter().cycle().skip(from).take(MOVED.min(open.len())).filter(|id| {
            self.done(&format!("/executions/{id}/migrate"), "application/json", body.as_bytes()).is_some()
        });
        moved.count() as u64
    }
}
