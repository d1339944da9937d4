//! `kill -9`, again and again, at named points and at random moments, under 200 executions of 20 steps with timers and
//! messages in flight. Afterwards nothing that was acknowledged is missing, nothing happened without its event, and
//! everything came to the same as in a run that nobody disturbed.

mod common;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use common::{BASE, PATIENCE, Rng, cli, relive, until};
use relive_testkit::{guests, process::Host};
use serde_json::{Value, json};

const EXECUTIONS: usize = 200;
/// Messages that each execution waits for.
const MESSAGES: usize = 5;
/// Commands of each execution: activities, timers and messages.
const STEPS: u64 = 20;
const CLIENTS: usize = 4;
/// Every named point, and how often the host is killed there.
const POINTS: [(&str, u64); 7] = [
    ("before-commit", 5),
    ("after-commit", 5),
    ("after-dispatch", 5),
    ("completion-before-commit", 5),
    ("inside-recovery", 5),
    ("saving-images", 5),
    ("image-laid", 5),
];
/// Little room: guests go cold and are laid all the time, and their images go through the store.
const IMAGES: [(&str, &str); 3] =
    [("RELIVE_IMAGE_EVERY", "4"), ("RELIVE_CACHE_MB", "1"), ("RELIVE_IMAGE_MEMORY_MB", "0")];
const RANDOM_KILLS: u64 = 35;
/// Executions whose recovery is cut short. Those that other threads relive while the process dies are through, so there
/// must be more of them than threads in all rounds together.
const IN_RECOVERY: usize = 60;
/// Starts and messages of one life of the host, so that there is work left for the last.
const SHARE: u64 = (EXECUTIONS * (1 + MESSAGES)) as u64 / (RANDOM_KILLS + 35 + 2);

fn channel(message: usize) -> &'static str {
    ["a", "b"][message % 2]
}

/// Twenty steps whose result depends on nothing but `n` and the messages: whatever runs side by side is recorded in
/// the order in which it is waited for.
fn program(n: usize) -> Value {
    let ledger = |step: &str| json!({"name": "ledger", "input": {"n": n, "step": step}});
    let activity = |step: &str| json!({"activity": ledger(step)});
    let started = |step: &str| {
        let mut activity = ledger(step);
        activity["as"] = json!(step);
        json!({"activity": activity})
    };
    let flaky = json!({"activity": {"name": "ledger", "input": {"n": n, "flaky": true},
        "options": {"initial-interval-ms": 5, "max-attempts": 50}}});
    let timer = |ms: usize| json!({"timer": {"ms": ms}});
    let alarm = |ms: usize, name: &str| json!({"timer": {"ms": ms, "as": name}});
    let message = |k: usize| json!({"message": {"channel": channel(k)}});
    json!([
        activity("first"), timer(1 + n % 3), alarm(3 + n % 7, "t"), started("x"), message(0), {"join": ["t", "x"]},
        flaky, started("p"), started("q"), message(1), {"join": ["p", "q"]}, {"publish": {"key": "half", "value": n}},
        timer(2 + n % 5), activity("middle"), message(2), alarm(8, "u"), activity("beside"), {"await": "u"},
        timer(1), message(3), {"compute": 1000 + n}, activity("late"), timer(1 + n % 4), message(4), activity("last"),
    ])
}

/// One execution as its client sees it.
struct Job {
    n: usize,
    /// Started, and then its messages: how many of these were acknowledged.
    done: usize,
    busy: bool,
}

/// The clients: each keeps trying what was not acknowledged, and never repeats what was.
struct Clients {
    jobs: Mutex<Vec<Job>>,
    rng: Mutex<Rng>,
    acknowledged: AtomicU64,
    /// Requests whose answer never came, and starts that turned out to have been done all the same.
    unknown: AtomicU64,
    found: AtomicU64,
}

impl Clients {
    fn new(seed: u64) -> Self {
        let jobs = (0..EXECUTIONS).map(|n| Job { n, done: 0, busy: false }).collect();
        Self {
            jobs: Mutex::new(jobs),
            rng: Mutex::new(Rng(seed)),
            acknowledged: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
            found: AtomicU64::new(0),
        }
    }

    /// Works on `host` until it is gone, everything is acknowledged, or `share` requests were made.
    fn work(&self, host: &Host, share: u64) {
        let made = AtomicU64::new(0);
        let gone = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    while !gone.load(Ordering::Relaxed) && made.fetch_add(1, Ordering::Relaxed) < share {
                        let Some((index, n, done)) = self.take() else { break };
                        let outcome = self.request(host, n, done);
                        self.put_back(index, outcome.is_some());
                        gone.fetch_or(outcome.is_none(), Ordering::Relaxed);
                    }
                });
            }
        });
    }

    /// A random execution that has something to be asked for.
    fn take(&self) -> Option<(usize, usize, usize)> {
        let mut jobs = self.jobs.lock().expect("jobs");
        let free: Vec<usize> = (0..jobs.len()).filter(|i| !jobs[*i].busy && jobs[*i].done <= MESSAGES).collect();
        let random = self.rng.lock().expect("rng").next() as usize;
        let index = *free.get(random % free.len().max(1))?;
        let job = &mut jobs[index];
        job.busy = true;
        Some((index, job.n, job.done))
    }

    fn put_back(&self, index: usize, acknowledged: bool) {
        let mut jobs = self.jobs.lock().expect("jobs");
        jobs[index].busy = false;
        jobs[index].done += usize::from(acknowledged);
    }

    fn left(&self) -> usize {
        self.jobs.lock().expect("jobs").iter().map(|job| MESSAGES + 1 - job.done).sum()
    }

    /// `None`: no answer, so nobody knows.
    fn request(&self, host: &Host, n: usize, done: usize) -> Option<()> {
        let (path, body) = match done {
            0 => (
                "executions".to_owned(),
                json!({"workflow": "script", "workflow_id": id(n), "input": {"program": program(n)}}),
            ),
            k => {
                let path = format!("executions/{}/signals/{}", id(n), channel(k - 1));
                (path, json!({"message_id": format!("m{k}"), "input": {"n": n, "message": k}}))
            }
        };
        match host.call("POST", &format!("{BASE}/{path}"), body.to_string().as_bytes()) {
            Ok((200..=299, _)) => {}
            // The try before went through, only its answer was lost.
            Ok((409, problem)) if problem["code"] == "already-started" || problem["code"] == "closed" => {
                self.found.fetch_add(1, Ordering::Relaxed);
            }
            Ok((503, _)) | Err(_) => {
                self.unknown.fetch_add(1, Ordering::Relaxed);
                return None;
            }
            Ok((status, answer)) => panic!("{path}: {status} {answer}"),
        }
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
        Some(())
    }
}

fn id(n: usize) -> String {
    format!("job-{n}")
}

fn ledger(dir: &Path) -> String {
    dir.join("ledger").display().to_string()
}

fn host(dir: &Path, env: &[(&str, &str)]) -> Option<Host> {
    let ledger = ledger(dir);
    let mut all = vec![("RELIVE_LEDGER", ledger.as_str())];
    all.extend_from_slice(env);
    Host::start(relive(), &dir.join("data"), &all)
}

fn get(host: &Host, path: &str) -> Value {
    let (status, answer) = host.call("GET", &format!("{BASE}/{path}"), b"").expect("an answer");
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}

fn deploy(host: &Host) {
    let folder = guests::folder().join("script").display().to_string();
    let (code, out, err) = cli(&host.address, &["deploy", &folder]);
    assert_eq!(code, 0, "{out}{err}");
}

/// Result and fingerprint of each execution, all of which complete.
fn outcomes(host: &Host) -> BTreeMap<String, (Value, Value)> {
    let outcome = |n: usize| {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let view = get(host, &format!("executions/{}/result?wait_ms=5000", id(n)));
            if view["status"] == "completed" {
                let detail = get(host, &format!("executions/{}", id(n)));
                return (id(n), (view["result"].clone(), detail["fingerprint"].clone()));
            }
            let detail = get(host, &format!("executions/{}", id(n)));
            if detail["blocked"] == "quarantined" {
                // It was on a thread at three kills in a row and never got through a turn between them: rare, and right.
                let (code, out, err) = cli(&host.address, &["unblock", &id(n), "--reason", "it was the test"]);
                assert_eq!(code, 0, "{out}{err}");
                println!("{} was quarantined", id(n));
                continue;
            }
            assert_eq!(view["status"], "running", "{detail:#}");
            assert!(Instant::now() < deadline, "{} does not go on: {detail:#}", id(n));
        }
    };
    (0..EXECUTIONS).map(outcome).collect()
}

/// What a host without trouble makes of the same programs.
fn undisturbed() -> BTreeMap<String, (Value, Value)> {
    let dir = tempfile::tempdir().expect("a directory");
    let host = host(dir.path(), &[]).expect("a host");
    deploy(&host);
    let clients = Clients::new(1);
    clients.work(&host, u64::MAX);
    assert_eq!(clients.left(), 0);
    outcomes(&host)
}

/// The faults, and what was seen of them.
struct Chaos<'a> {
    dir: &'a Path,
    clients: &'a Clients,
    rng: Rng,
    hits: BTreeMap<&'static str, u64>,
    kills: u64,
}

impl Chaos<'_> {
    /// A life that ends at a named point.
    fn abort_at(&mut self, point: &'static str) {
        let log = self.dir.join("aborted");
        let _ = std::fs::remove_file(&log);
        let most = if point == "inside-recovery" { 4 } else { 25 };
        let at = format!("{point}:{}", self.rng.between(1, most));
        let mut env = vec![("RELIVE_ABORT_AT", at.as_str()), ("RELIVE_ABORT_LOG", log.to_str().expect("a path"))];
        // Without images there is more to relive.
        env.extend(if point == "inside-recovery" { &IMAGES[..0] } else { &IMAGES[..] });
        env.extend((point == "inside-recovery").then_some(("RELIVE_IMAGE_EVERY", "0")));
        if let Some(mut host) = host(self.dir, &env) {
            self.clients.work(&host, SHARE);
            // If the point was not reached yet, it is by a few requests more.
            let deadline = Instant::now() + PATIENCE;
            while !host.ends_within(Duration::from_millis(100)) {
                assert!(Instant::now() < deadline, "{at} is not reached");
                self.clients.work(&host, 5);
            }
        }
        let written = std::fs::read_to_string(&log).unwrap_or_default();
        assert_eq!(written, point, "the host ended elsewhere than at {at}");
        *self.hits.entry(point).or_default() += 1;
    }

    /// A life that ends at any moment, also while it recovers.
    fn kill_any_time(&mut self) {
        let host = host(self.dir, &IMAGES).expect("a host");
        let pause = Duration::from_millis(self.rng.between(1, 250));
        std::thread::scope(|scope| {
            scope.spawn(|| self.clients.work(&host, SHARE));
            std::thread::sleep(pause);
            host.strike();
        });
        host.kill();
        self.kills += 1;
    }
}

#[test]
fn killed_at_any_moment_everything_comes_to_the_same() {
    let began = Instant::now();
    let mut rng = Rng::from_environment();
    let expected = undisturbed();
    println!("undisturbed: {:?}", began.elapsed());

    let dir = tempfile::tempdir().expect("a directory");
    deploy(&host(dir.path(), &[]).expect("a host"));
    let clients = Clients::new(rng.next());
    let mut faults: Vec<Option<&'static str>> = vec![None; RANDOM_KILLS as usize];
    for (point, times) in POINTS {
        faults.extend((0..times).map(|_| Some(point)));
    }
    for at in (1..faults.len()).rev() {
        faults.swap(at, rng.between(0, at as u64) as usize);
    }
    let mut chaos = Chaos { dir: dir.path(), clients: &clients, rng, hits: BTreeMap::new(), kills: 0 };
    // Something has to be there before recovery can be cut short.
    chaos.kill_any_time();
    for fault in faults {
        match fault {
            Some(point) => chaos.abort_at(point),
            None => chaos.kill_any_time(),
        }
    }
    let (hits, kills) = (chaos.hits, chaos.kills);
    println!("chaos over: {:?}, {} requests left", began.elapsed(), clients.left());
    assert!(clients.left() > 100, "the last host has work to take over");

    let host = host(dir.path(), &IMAGES).expect("a host");
    let (status, deep) = host.call("POST", &format!("{BASE}/verify?deep=true"), b"{}").expect("an answer");
    assert_eq!((status, &deep["findings"]), (200, &json!([])), "{deep:#}");
    assert!(deep["images"].as_u64() >= Some(20), "images of those that are open: {deep}");
    clients.work(&host, u64::MAX);
    assert_eq!(clients.left(), 0);
    let outcomes = outcomes(&host);
    for (id, outcome) in &expected {
        assert_eq!(outcomes.get(id), Some(outcome), "{id}");
    }
    let (status, report) = host.call("POST", &format!("{BASE}/verify"), b"{}").expect("an answer");
    assert_eq!((status, &report["findings"]), (200, &json!([])), "{report:#}");
    assert_eq!(report["executions"], EXECUTIONS, "{report}");

    for n in 0..EXECUTIONS {
        let replay = host.call("POST", &format!("{BASE}/executions/{}/replay", id(n)), b"").expect("an answer");
        assert!(replay.0 == 200 && replay.1["agrees"] == true, "{}: {replay:?}", id(n));
    }
    let twice = effects_match_histories(&host, dir.path());
    let (unknown, found) = (clients.unknown.load(Ordering::Relaxed), clients.found.load(Ordering::Relaxed));
    println!(
        "{hits:?}, {kills} random kills, {unknown} answers lost, {found} of them done all the same, \
         {twice} effects made again, {} events, {:?}",
        report["events"],
        began.elapsed()
    );
    // A run in which nothing happened shows nothing.
    for (point, times) in POINTS {
        assert_eq!(hits.get(point), Some(&times), "{point}");
    }
    assert!(kills > RANDOM_KILLS && unknown >= 30 && twice + found as usize >= 5, "too little happened");
}

/// Each history holds each message once, and each scheduled activity was run; nothing was run that no history holds.
/// Gives the number of effects that were made again after a crash.
fn effects_match_histories(host: &Host, dir: &Path) -> usize {
    let text = std::fs::read_to_string(ledger(dir)).expect("the ledger");
    let mut made: HashMap<&str, Vec<&str>> = HashMap::new();
    for line in text.lines() {
        let (key, attempt) = line.split_once(' ').expect("a key and an attempt");
        made.entry(key).or_default().push(attempt);
    }
    let mut known = BTreeSet::new();
    for n in 0..EXECUTIONS {
        let page = get(host, &format!("executions/{}/history?limit=1000", id(n)));
        let run = page["run_id"].as_str().expect("a run");
        let events = page["events"].as_array().expect("events");
        let of = |kind: &str| events.iter().filter(|e| e["event_type"] == kind).collect::<Vec<_>>();
        let ids: Vec<&str> =
            of("SignalReceived").iter().map(|e| e["attributes"]["message_id"].as_str().expect("an id")).collect();
        assert_eq!(ids, ["m1", "m2", "m3", "m4", "m5"], "the messages of {}", id(n));
        let detail = get(host, &format!("executions/{}", id(n)));
        assert_eq!(detail["commands"], STEPS, "{}", id(n));
        for scheduled in of("TaskScheduled") {
            let key = format!("default:{}:{run}:{}", id(n), scheduled["command_no"]);
            assert!(made.contains_key(key.as_str()), "{key} was never run");
            known.insert(key);
        }
    }
    for key in made.keys() {
        assert!(known.contains(*key), "{key} was run, and no history holds it");
    }
    // A flaky step is made twice in any case.
    let again = |attempts: &[&str]| attempts.len() > 1 && attempts.contains(&"2");
    made.values().filter(|attempts| again(attempts)).count().saturating_sub(EXECUTIONS)
}

/// A host that is killed each time it begins to recover gets through once it is left alone, and nobody else is kept
/// waiting for ever by it.
#[test]
fn cut_short_in_recovery_again_and_again_it_still_gets_through() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = host(dir.path(), &[]).expect("a host");
    deploy(&first);
    let program = json!([{"timer": {"ms": 2000}}, {"message": {"channel": "a"}}]);
    for n in 0..IN_RECOVERY {
        let body = json!({"workflow": "script", "workflow_id": id(n), "input": {"program": program}});
        let (status, answer) =
            first.call("POST", &format!("{BASE}/executions"), body.to_string().as_bytes()).expect("an answer");
        assert_eq!(status, 201, "{answer}");
    }
    first.kill();
    let log = dir.path().join("aborted");
    for round in 1..=4 {
        let _ = std::fs::remove_file(&log);
        let env = [("RELIVE_ABORT_AT", "inside-recovery:1"), ("RELIVE_ABORT_LOG", log.to_str().expect("a path"))];
        if let Some(mut host) = host(dir.path(), &env) {
            // The timers are due by now, or soon: somebody has to be relived.
            assert!(host.ends_within(PATIENCE), "round {round}: nobody was relived");
        }
        assert_eq!(std::fs::read_to_string(&log).unwrap_or_default(), "inside-recovery", "round {round}");
    }
    let last = host(dir.path(), &[]).expect("a host");
    for n in 0..IN_RECOVERY {
        let path = format!("{BASE}/executions/{}/signals/a", id(n));
        let (status, answer) = last.call("POST", &path, b"{}").expect("an answer");
        assert_eq!(status, 200, "{answer}");
    }
    let mut open = Vec::new();
    until("all executions to complete or to be shown as blocked", || {
        open = (0..IN_RECOVERY).map(|n| get(&last, &format!("executions/{}/result", id(n)))).collect();
        open.iter().all(|view| view["status"] != "running")
    });
    // An execution that was on a thread at three crashes in a row is under suspicion, and is left to a person.
    let blocked = open.iter().filter(|view| view["status"] == "blocked").count();
    println!("{blocked} of {IN_RECOVERY} are quarantined");
    for (n, _) in open.iter().enumerate().filter(|(_, view)| view["status"] == "blocked") {
        let (code, out, err) = cli(&last.address, &["unblock", &id(n), "--reason", "it was the test"]);
        assert_eq!(code, 0, "{out}{err}");
    }
    until("all executions to complete", || {
        (0..IN_RECOVERY).all(|n| get(&last, &format!("executions/{}/result", id(n)))["status"] == "completed")
    });
    let (status, report) = last.call("POST", &format!("{BASE}/verify"), b"{}").expect("an answer");
    assert_eq!((status, &report["findings"]), (200, &json!([])), "{report:#}");
}
