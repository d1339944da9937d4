//! Http activities from end to end: a manifest is deployed, a workflow runs, a server on this machine gets the tasks,
//! verifies them with the key from the well-known path, and answers well, badly, or not at all.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Site, until};
use relive_testkit::receiver::{Answer, Received, Receiver};
use serde_json::{Value, json};

/// A host with `script`, and activities at these URLs, by name, with the rest of their entries.
fn site(activities: &[(&str, String, &str)]) -> Site {
    let site = Site::with(&["script"]);
    deploy(&site, activities);
    site
}

fn deploy(site: &Site, activities: &[(&str, String, &str)]) {
    let mut manifest = "[package]\nname = \"hooks\"\n".to_owned();
    for (name, url, more) in activities {
        manifest += &format!("[[activity]]\nname = \"{name}\"\nkind = \"http\"\nurl = \"{url}\"\n{more}\n");
    }
    let path = site.dir.path().join("relive.toml");
    std::fs::write(&path, manifest).expect("a manifest");
    let (code, out, err) = site.cli(&["deploy", &path.display().to_string()]);
    assert_eq!(code, 0, "{out}{err}");
}

const GRANTED: &str = "allow_private = true";

fn activity(name: &str, options: &Value) -> Value {
    json!([{"activity": {"name": name, "input": {"cents": 1299}, "options": options}}])
}

/// What a one-step program saw: its result, or its failure.
fn seen(site: &Site, id: &str, program: &Value) -> Value {
    site.script(id, program);
    let ended = site.ended(id);
    assert_eq!(ended["status"], "completed", "{ended}");
    ended["result"]["seen"][0].clone()
}

fn quick(attempts: u32) -> Value {
    json!({"max-attempts": attempts, "initial-interval-ms": 1, "backoff": 1.0, "jitter": 0.0})
}

fn keys(site: &Site) -> Value {
    let (status, keys) = site.host.call("GET", "/.well-known/relive/keys.json", b"").expect("an answer");
    assert_eq!(status, 200);
    keys
}

fn breaker(site: &Site, name: &str) -> Value {
    let (_, listed) = site.get("/activities");
    let rows = listed["activities"].as_array().expect("rows");
    rows.iter().find(|row| row["name"] == name).expect("the activity").clone()
}

#[test]
fn http_tasks_are_signed_and_keep_their_idempotency_key_over_attempts_and_hosts() {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = calls.clone();
    let receiver = Receiver::start(move |_: &Received| match count.fetch_add(1, Ordering::SeqCst) {
        0 => Answer::json(503, "not yet"),
        1 => Answer::HangUp,
        _ => Answer::json(200, r#"{"charged": 12.990}"#),
    });
    let site = site(&[("charge", format!("{}/charge?x=1", receiver.origin()), GRANTED)]);
    // An id that no header takes as it is, nor a path.
    site.script("o 1/ü%", &activity("charge", &quick(5)));
    let ended = site.ended("o%201%2F%C3%BC%25");
    assert_eq!(ended["result"]["seen"][0]["ok"], json!({"charged": 12.99}), "{ended}");
    let received = receiver.received();
    assert_eq!(received.len(), 3, "{received:?}");
    let keys = keys(&site);
    let run = received[0].json()["run_id"].as_str().expect("a run").to_owned();
    for (attempt, request) in received.iter().enumerate() {
        assert_eq!(request.header("idempotency-key"), format!("default:o%201/%C3%BC%25:{run}:1"));
        assert_eq!(request.json()["idempotency_key"], format!("default:o 1/ü%:{run}:1"));
        assert_eq!(request.json()["attempt"], attempt + 1);
        assert_eq!(request.json()["input"], json!({"cents": 1299}));
        request.verify(&receiver.origin(), &keys).unwrap_or_else(|e| panic!("{e}"));
    }
    // The key survives the host, and so does the deployment.
    let site = site.restart();
    assert_eq!(self::keys(&site), keys);
    seen_ok(&site, "again");
    receiver.received()[3].verify(&receiver.origin(), &keys).unwrap_or_else(|e| panic!("{e}"));
    site.verified();
}

fn seen_ok(site: &Site, id: &str) {
    let seen = seen(site, id, &activity("charge", &quick(1)));
    assert!(seen["ok"].is_object(), "{seen}");
}

#[test]
fn http_answers_that_are_no_results_fail_for_good() {
    let elsewhere = Receiver::start(|_| Answer::json(200, "1"));
    let location = elsewhere.origin();
    let receiver = Receiver::start(move |request| match request.path.as_str() {
        "/redirect" => Answer::Whole(302, vec![("location", location.clone())], Vec::new()),
        "/large" => Answer::Long { bytes: 100 << 20, announced: false },
        "/html" => Answer::json(200, "<html>hello</html>"),
        "/declined" => Answer::json(422, r#"{"code":"card-declined","message":"no funds"}"#),
        _ => Answer::json(404, ""),
    });
    let names = ["redirect", "large", "html", "declined", "nothing"];
    let activities: Vec<_> =
        names.iter().map(|name| (*name, format!("{}/{name}", receiver.origin()), GRANTED)).collect();
    let site = site(&activities);
    let codes = ["redirect-refused", "result-too-large", "invalid-result", "card-declined", "http-404"];
    for (name, code) in names.iter().zip(codes) {
        let seen = seen(&site, name, &activity(name, &quick(5)));
        assert_eq!(seen["err"]["code"], code, "{seen}");
    }
    assert_eq!((receiver.received().len(), elsewhere.connections()), (names.len(), 0));
    assert!(receiver.sent() < 50 << 20, "{} bytes were taken", receiver.sent());
    site.verified();
}

#[test]
fn http_reaches_no_private_address_without_a_grant() {
    let receiver = Receiver::start(|_| Answer::json(200, "1"));
    let named = format!("http://localhost:{}/", receiver.address.port());
    let site = site(&[("named", named.clone(), ""), ("granted", named, GRANTED)]);
    let seen = seen(&site, "n", &activity("named", &quick(5)));
    assert_eq!(seen["err"]["code"], "private-address", "{seen}");
    assert_eq!(receiver.connections(), 0);
    assert_eq!(self::seen(&site, "g", &activity("granted", &quick(1)))["ok"], 1);
    // An address is seen through at once, by whoever deploys it and whatever it is written like.
    for url in [receiver.origin(), format!("http://0x7f.1:{}/", receiver.address.port())] {
        let (status, problem) = site.post("/activities?name=a&kind=http", &json!({"url": url}));
        assert_eq!((status, &problem["code"]), (400, &json!("invalid-http-activity")), "{problem}");
    }
    let manifest = "[package]\nname = \"a\"\n[[activity]]\nname = \"a\"\nkind = \"http\"\nurl = \"http://10.0.0.1/\"\n";
    let path = site.dir.path().join("relive.toml");
    std::fs::write(&path, manifest).expect("a manifest");
    let (code, _, err) = site.cli(&["deploy", &path.display().to_string()]);
    assert!(code == 2 && err.contains("relive.toml:6:7") && err.contains("allow_private"), "{err}");
}

#[test]
fn http_calls_end_at_their_deadline() {
    let receiver = Receiver::start(|_| Answer::Silence);
    let site = site(&[("slow", receiver.origin(), GRANTED)]);
    let options = json!({"max-attempts": 2, "initial-interval-ms": 1, "start-to-close-ms": 50});
    let seen = seen(&site, "s", &activity("slow", &options));
    assert_eq!(seen["err"]["kind"], "timeout", "{seen}");
    assert_eq!(receiver.received().len(), 2);
    until("both calls were given up", || receiver.given_up() == 2);
    let row = breaker(&site, "slow");
    assert_eq!((&row["breaker"]["failures"], &row["breaker"]["calls"]), (&json!(2), &json!(2)), "{row}");
}

#[test]
fn http_calls_cut_off_by_a_crash_are_repeated_under_the_same_key() {
    let receiver = Receiver::start(|_| Answer::Silence);
    let site = site(&[("charge", receiver.origin(), GRANTED)]);
    site.script("k", &activity("charge", &json!({})));
    until("the call is on its way", || receiver.received().len() == 1);
    receiver.answer(|_| Answer::json(200, r#"{"ok": true}"#));
    let site = site.restart();
    assert_eq!(site.ended("k")["result"]["seen"][0]["ok"], json!({"ok": true}));
    let [before, after] = &receiver.received()[..] else { panic!("two calls: {:?}", receiver.received()) };
    assert_eq!(before.header("idempotency-key"), after.header("idempotency-key"));
    assert_eq!((&before.json()["attempt"], &after.json()["attempt"]), (&json!(1), &json!(2)));
    site.verified();
}

/// The token of the `n`th request, once it is taken on.
fn accepted(site: &Site, receiver: &Receiver, n: usize) -> String {
    until("the task is taken on", || {
        let (_, pending) = site.get("/activities/pending");
        receiver.received().len() == n && pending["activities"][0]["state"] == "running"
    });
    receiver.received()[n - 1].header("relive-task-token").to_owned()
}

#[test]
fn http_tasks_that_were_taken_on_are_answered_by_token_whatever_becomes_of_the_host() {
    let receiver = Receiver::start(|_| Answer::json(202, "{}"));
    let site = site(&[("review", receiver.origin(), GRANTED)]);
    site.script("r", &activity("review", &json!({"heartbeat-timeout-ms": 600_000})));
    let token = accepted(&site, &receiver, 1);
    receiver.received()[0].verify(&receiver.origin(), &keys(&site)).unwrap_or_else(|e| panic!("{e}"));
    let (_, shown, _) = site.cli(&["show", "r"]);
    assert!(shown.contains("whoever has its token answers for it"), "{shown}");
    let result = json!({"result": {"approved": true}});
    let complete = |site: &Site, token: &str| site.post(&format!("/tasks/{token}/complete"), &result);
    // Another's token, and another namespace.
    let flipped = if token.ends_with('0') { "1" } else { "0" };
    let forged = format!("{}{flipped}", &token[..token.len() - 1]);
    assert_eq!(complete(&site, &forged).0, 404);
    let elsewhere = format!("/v1/namespaces/other/tasks/{token}/complete");
    assert_eq!(site.host.call("POST", &elsewhere, result.to_string().as_bytes()).expect("an answer").0, 404);
    let (status, beat) = site.post(&format!("/tasks/{token}/heartbeat"), &json!({"details": {"asked": "Grace"}}));
    assert_eq!((status, &beat["gone"]), (200, &json!(false)), "{beat}");

    let site = site.restart();
    until("it is open still", || {
        let (_, pending) = site.get("/activities/pending");
        let row = &pending["activities"][0];
        row["state"] == "running" && row["attempt"] == 1 && row["heartbeat_details"]["asked"] == "Grace"
    });
    assert_eq!(complete(&site, &token).0, 200);
    assert_eq!(site.ended("r")["result"]["seen"][0]["ok"], json!({"approved": true}));
    // The same answer is accepted twice, another one is not.
    assert_eq!(complete(&site, &token).0, 200);
    let (status, problem) = site.post(&format!("/tasks/{token}/complete"), &json!({"result": 1}));
    assert_eq!((status, &problem["code"]), (409, &json!("superseded")), "{problem}");
    assert_eq!(receiver.received().len(), 1);
    site.verified();
}

#[test]
fn http_tasks_may_be_answered_by_token_before_they_are_taken_on() {
    let host = Arc::new(std::sync::OnceLock::<String>::new());
    let address = host.clone();
    let receiver = Receiver::start(move |request| {
        let address = address.get().expect("the host's address");
        let token = request.header("relive-task-token");
        let (code, out, err) = common::cli(address, &["activity", "complete", token, "--result", "\"early\""]);
        assert_eq!(code, 0, "{out}{err}");
        Answer::json(202, "")
    });
    let site = site(&[("early", receiver.origin(), GRANTED)]);
    host.set(site.host.address.clone()).expect("once");
    for id in ["1", "2", "3"] {
        assert_eq!(seen(&site, id, &activity("early", &quick(1)))["ok"], "early");
    }
    assert_eq!(receiver.received().len(), 3);
    let row = breaker(&site, "early");
    assert_eq!((&row["breaker"]["state"], &row["breaker"]["failures"]), (&json!("closed"), &json!(0)), "{row}");
    site.verified();
}

#[test]
fn http_tasks_that_were_taken_on_and_not_answered_are_tried_again() {
    let receiver = Receiver::start(|_| Answer::json(202, ""));
    let site = site(&[("silent", receiver.origin(), GRANTED)]);
    let options = json!({"max-attempts": 2, "initial-interval-ms": 1, "start-to-close-ms": 200});
    let seen = seen(&site, "s", &activity("silent", &options));
    assert_eq!(seen["err"]["kind"], "timeout", "{seen}");
    let received = receiver.received();
    assert_eq!(received.len(), 2, "{received:?}");
    assert_ne!(received[0].header("relive-task-token"), received[1].header("relive-task-token"));
    for request in &received {
        let path = format!("/tasks/{}/complete", request.header("relive-task-token"));
        let (status, problem) = site.post(&path, &json!({"result": 1}));
        assert_eq!((status, &problem["code"]), (409, &json!("superseded")), "{problem}");
    }
    site.verified();
}

#[test]
fn http_activities_are_deployed_again_elsewhere() {
    let old = Receiver::start(|_| Answer::json(200, "\"old\""));
    let new = Receiver::start(|_| Answer::json(200, "\"new\""));
    let site = site(&[("hook", old.origin(), GRANTED)]);
    assert_eq!(seen(&site, "1", &activity("hook", &quick(1)))["ok"], "old");
    deploy(&site, &[("hook", new.origin(), GRANTED)]);
    assert_eq!(seen(&site, "2", &activity("hook", &quick(1)))["ok"], "new");
    assert_eq!(breaker(&site, "hook")["target"], new.address.to_string());
    // Under a name that a component had, too, and back.
    site.deploy("echo");
    assert_eq!(breaker(&site, "wasm-echo")["kind"], "wasm");
    deploy(&site, &[("wasm-echo", new.origin(), GRANTED)]);
    assert_eq!(seen(&site, "3", &activity("wasm-echo", &quick(1)))["ok"], "new");
    site.deploy("echo");
    let echo = json!([{"activity": {"name": "wasm-echo", "input": "back"}}]);
    assert_eq!(seen(&site, "4", &echo)["ok"], "back");
    assert_eq!((old.received().len(), new.received().len()), (1, 2));
}

#[test]
fn http_targets_that_fail_are_left_alone_and_taken_back() {
    let receiver = Receiver::start(|_| Answer::json(500, "down"));
    let spared = format!("{GRANTED}\nconcurrency = 7\nbreaker = {{ min_calls = 10, open_ms = 500 }}");
    let site = site(&[("pay", receiver.origin(), &spared), ("well", receiver.origin(), GRANTED)]);
    let row = breaker(&site, "pay");
    assert_eq!((&row["kind"], &row["target"]), (&json!("http"), &json!(receiver.address.to_string())), "{row}");
    assert_eq!((&row["breaker"]["state"], &row["http"]["allow_private"]), (&json!("closed"), &json!(true)), "{row}");
    let policy = &row["breaker"]["policy"];
    assert_eq!((&row["concurrency"], &policy["min_calls"], &policy["open_ms"]), (&json!(7), &json!(10), &json!(500)));
    assert_eq!((&row["http"]["concurrency"], &policy["probes"]), (&json!(7), &json!(3)), "{row}");
    site.script("p", &activity("pay", &json!({"initial-interval-ms": 1, "maximum-interval-ms": 50, "jitter": 0.0})));
    until("the breaker opens", || breaker(&site, "pay")["breaker"]["state"] == "open");
    let row = breaker(&site, "pay");
    assert!(row["breaker"]["next_probe"].as_u64() > row["breaker"]["since"].as_u64(), "{row}");
    assert!(row["breaker"]["failures"].as_u64() >= Some(1), "{row}");
    let (_, out, _) = site.cli(&["workflows"]);
    let line = out.lines().find(|line| line.starts_with("pay")).expect("a row");
    assert!(line.contains("http") && line.contains(&receiver.address.to_string()) && line.contains("open ("), "{out}");
    assert!(line.contains("50% of 10 in 10s"), "{out}");
    // Whoever comes now is told when to come again, at once.
    let told = seen(&site, "q", &activity("pay", &quick(1)));
    assert_eq!(told["err"]["code"], "circuit-open", "{told}");
    assert!(told["err"]["message"].as_str().is_some_and(|text| text.contains("it is tried again")), "{told}");
    // The same host under another name has a breaker of its own.
    assert_eq!(breaker(&site, "well")["breaker"]["state"], "closed");
    receiver.answer(|_| Answer::json(200, "\"paid\""));
    let ended = site.ended("p");
    assert_eq!(ended["result"]["seen"][0]["ok"], "paid", "{ended}");
    let mut more = 0;
    until("the breaker closes", || {
        more += 1;
        seen(&site, &format!("more-{more}"), &activity("pay", &quick(1)));
        breaker(&site, "pay")["breaker"]["state"] == "closed"
    });
    site.verified();
}
