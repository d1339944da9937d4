//! Versions of a workflow through the command line: deploying beside what runs, activating, trying on a share, rolling back.

mod common;

use std::{io::Write, net::TcpStream, path::PathBuf};

use common::{BASE, Site, cli, cluster::Cluster, relive, until};
use relive_testkit::{guests, process::Host};
use ring::{rand::SystemRandom, signature::Ed25519KeyPair};
use serde_json::{Value, json};

const OK: i32 = 0;
/// Something does not agree.
const FINDINGS: i32 = 6;

/// The same workflow as another component: bytes that mean nothing are added to it.
fn variant(site: &Site, label: &str) -> PathBuf {
    let mut bytes = guests::bytes("hello/hello.wasm");
    let content = [&[5][..], b"label", label.as_bytes()].concat();
    bytes.extend([0, u8::try_from(content.len()).expect("a short label")]);
    bytes.extend(content);
    let path = site.dir.path().join(format!("{label}.wasm"));
    std::fs::write(&path, bytes).expect("a file");
    path
}

fn deploy(site: &Site, label: &str, more: &[&str]) -> (i32, String, String) {
    let path = variant(site, label).display().to_string();
    site.cli(&[&["deploy", &path, "--author", "ada"], more].concat())
}

/// The versions that runs of these ids take.
fn taken(site: &Site, prefix: &str, count: usize) -> Vec<u64> {
    let versions = site.json(&["versions", "hello"]);
    let number = |digest: &Value| {
        let all = versions["versions"].as_array().expect("versions");
        all.iter().find(|v| v["digest"] == *digest).and_then(|v| v["version"].as_u64()).expect("a version")
    };
    let start = |n| {
        let id = format!("{prefix}-{n}");
        let (code, _, err) = site.cli(&["start", "hello", "--id", &id, "--input", r#"{"name": "Ada"}"#]);
        assert_eq!(code, OK, "{err}");
        site.ended(&id);
        number(&site.get(&format!("/executions/{id}")).1["digest"])
    };
    (0..count).map(start).collect()
}

#[test]
fn versions_are_added_tried_activated_and_rolled_back() {
    let site = Site::with(&[]);
    let (code, out, err) = deploy(&site, "one", &["--no-activate", "--note", "the first"]);
    assert!(code == OK && out.contains("version 1") && out.contains("relive activate hello --to 1"), "{out}{err}");
    let start = ["start", "hello", "--input", r#"{"name": "Ada"}"#];
    let (code, _, err) = site.cli(&start);
    assert!(code != OK && err.contains("no version of hello is active"), "{err}");
    assert!(deploy(&site, "two", &["--canary", "10%"]).2.contains("nothing to try"), "there is no version beside it");

    assert_eq!(site.cli(&["activate", "hello", "--to", "1"]).0, OK);
    assert_eq!(taken(&site, "a", 2), [1, 1]);
    let (code, out, err) = deploy(&site, "two", &["--canary", "40%"]);
    assert!(code == OK && out.contains("40 % of them version 2"), "{out}{err}");
    let shared = taken(&site, "b", 30);
    let tried = shared.iter().filter(|v| **v == 2).count();
    assert!((3..27).contains(&tried) && shared.iter().all(|v| [1, 2].contains(v)), "{shared:?}");
    // A larger share keeps those that had it.
    assert_eq!(site.cli(&["activate", "hello", "--to", "2", "--canary", "90"]).0, OK);
    let (_, out, _) = site.cli(&["versions", "hello"]);
    assert!(out.contains("canary") && out.contains("90 %") && out.contains("the first"), "{out}");

    let (code, out, err) = site.cli(&["rollback", "hello", "--reason", "too many failures"]);
    assert!(code == OK && out.trim() == "new runs of hello take version 1", "{out}{err}");
    assert_eq!(taken(&site, "c", 10), [1; 10]);
    assert_eq!(site.cli(&["activate", "hello", "--to", "2"]).0, OK);
    assert_eq!(deploy(&site, "three", &[]).0, OK);
    assert_eq!(taken(&site, "d", 1), [3]);
    assert_eq!(site.cli(&["rollback", "hello"]).0, OK);
    assert_eq!(taken(&site, "e", 1), [2]);
    assert_eq!(site.cli(&["rollback", "hello"]).0, OK);
    let (code, _, err) = site.cli(&["rollback", "hello"]);
    assert!(code != OK && err.contains("none before"), "{err}");
    assert_eq!(taken(&site, "f", 1), [1]);

    let past = site.json(&["versions", "hello", "--past"]);
    let kinds: Vec<&str> =
        past["activations"].as_array().expect("changes").iter().filter_map(|a| a["kind"].as_str()).collect();
    let back = ["rolled-back", "rolled-back", "activated", "activated", "rolled-back"];
    assert_eq!(kinds, [&back[..], &["canary-started", "canary-started", "activated"]].concat());
    assert_eq!(past["activations"][4]["reason"], "too many failures");
    let report = site.json(&["versions", "hello"]);
    let closed: u64 =
        report["versions"].as_array().expect("versions").iter().filter_map(|v| v["closed"].as_u64()).sum();
    assert_eq!((closed, &report["versions"][0]["author"]), (45, &json!("ada")));
    site.verified();
}

#[test]
fn wrong_uploads_and_requests_say_what_is_wrong() {
    let site = Site::with(&[]);
    assert_eq!(deploy(&site, "one", &[]).0, OK);
    let (code, _, err) = site.cli(&["activate", "hello", "--to", "7"]);
    assert!(code != OK && err.contains("no version 7; it has 1"), "{err}");
    let (code, _, err) = site.cli(&["activate", "helo", "--to", "1"]);
    assert!(code != OK && err.contains("no workflow \"helo\""), "{err}");
    let (code, _, err) = site.cli(&["activate", "hello", "--to", "1", "--canary", "10%"]);
    assert!(code != OK && err.contains("is the active one"), "{err}");
    for share in ["0%", "100%", "-3%"] {
        let (code, _, err) = site.cli(&["activate", "hello", "--to", "1", &format!("--canary={share}")]);
        assert!(code != OK && err.contains("less than 100"), "{share}: {err}");
    }
    let (code, _, err) = site.cli(&["versions", "helo"]);
    assert!(code != OK && err.contains("no workflow"), "{err}");
    // Bytes that changed on their way are noticed.
    let wasm = guests::bytes("hello/hello.wasm");
    let path = format!("{BASE}/workflows?digest={}", "0".repeat(64));
    let (status, answer) = site.host.upload(&path, &wasm).expect("an answer");
    assert_eq!((status, &answer["code"]), (422, &json!("wrong-digest")), "{answer}");
    // The same bytes again are the same version, and nothing changes.
    assert_eq!(deploy(&site, "one", &[]).0, OK);
    assert_eq!(site.json(&["versions", "hello"])["activation"]["number"], 1);
}

#[test]
fn all_hosts_of_a_cluster_take_the_same() {
    let Some(cluster) = Cluster::new() else { return };
    let (a, b) = (cluster.host("a"), cluster.host("b"));
    until("both hosts to have shards", || common::cluster::shared(&a) && common::cluster::shared(&b));
    let wasm = guests::bytes("hello/hello.wasm");
    let other = [&wasm[..], &[0, 2, 1, b'x']].concat();
    for bytes in [&wasm, &other] {
        let (status, answer) = a.upload(&format!("{BASE}/workflows"), bytes).expect("an answer");
        assert_eq!(status, 201, "{answer}");
    }
    let digest_of = |version: u64| {
        common::cluster::get(&a, &format!("{BASE}/workflows/hello"))["versions"][version as usize - 1]["digest"].clone()
    };
    let mut starts = 0;
    let mut takes = |host: &relive_testkit::process::Host| {
        starts += 1;
        let body = json!({"workflow": "hello", "workflow_id": format!("w{starts}"), "input": {"name": "Ada"}});
        let (status, answer) = common::cluster::ask(host, "POST", &format!("{BASE}/executions"), &body);
        assert_eq!(status, 201, "{answer}");
        common::cluster::get(host, &format!("{BASE}/executions/w{starts}"))["digest"].clone()
    };
    let (one, two) = (digest_of(1), digest_of(2));
    for (version, digest) in [(1, &one), (2, &two), (1, &one)] {
        let path = format!("{BASE}/workflows/hello/activate");
        assert_eq!(common::cluster::ask(&a, "POST", &path, &json!({"version": version})).0, 200);
        let since = std::time::Instant::now();
        until("the other host to follow", || takes(&b) == *digest && takes(&a) == *digest);
        println!("followed after {:?}", since.elapsed());
    }
    assert_eq!(common::cluster::ask(&b, "POST", &format!("{BASE}/workflows/hello/rollback"), &json!({})).0, 200);
    until("the other host to follow", || takes(&a) == two);
}

/// The approval workflow with other words in it.
fn reworded(site: &Site, from: &str, to: &str) -> PathBuf {
    assert_eq!(from.len(), to.len(), "the rest of the component stays where it is");
    let mut bytes = guests::bytes("approval/approval_workflow.wasm");
    let places: Vec<usize> =
        (0..bytes.len() - from.len()).filter(|at| bytes[*at..].starts_with(from.as_bytes())).collect();
    assert!(!places.is_empty(), "{from:?} is not in the component");
    for at in places {
        bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
    }
    let path = site.dir.path().join(format!("{}.wasm", to.trim_matches([' ', ':'])));
    std::fs::write(&path, bytes).expect("a file");
    path
}

#[test]
fn executions_are_relived_before_they_are_moved_and_only_those_that_agree_are() {
    const WAITING: usize = 12;
    let site = Site::with(&["approval"]);
    let ids: Vec<String> = (0..WAITING).map(|n| format!("ask-{n}")).collect();
    let request = json!({"subject": "a", "requested_by": "b", "approver": "c"}).to_string();
    for id in &ids {
        assert_eq!(site.cli(&["start", "approval", "--id", id, "--input", &request]).0, OK);
        until("it waits", || site.get(&format!("/executions/{id}/queries/approval")).1["value"]["phase"] == "waiting");
    }
    // What is said in the end is still to come; what was asked at the beginning is in every history.
    let later = reworded(&site, "approved: ", "Accepted: ").display().to_string();
    let earlier = reworded(&site, "please approve: ", "kindly approve: ").display().to_string();
    let (code, out, err) = site.cli(&["preflight", "approval", "--wasm", &later]);
    assert!(code == OK && out.contains(&format!("{WAITING} agree")), "{out}{err}");
    for path in [&later, &earlier] {
        let (code, _, err) = site.cli(&["deploy", path, "--no-activate"]);
        assert_eq!(code, OK, "{err}");
    }
    let (code, out, err) = site.cli(&["preflight", "approval", "--to", "2", "--verdicts"]);
    assert!(code == OK && out.contains("ask-3: agrees, then waits for"), "{out}{err}");
    let (code, out, _) = site.cli(&["preflight", "approval", "--to", "3"]);
    assert_eq!(code, FINDINGS, "{out}");
    assert!(
        out.contains("12 diverge") && out.contains("agreed up to command 0") && out.contains("kindly approve"),
        "{out}"
    );
    let sample = site.json_with(&["preflight", "approval", "--to", "3", "--sample", "5"], FINDINGS);
    assert_eq!((&sample["checked"], &sample["groups"][0]["executions"]), (&json!(5), &json!(5)));
    let (_, kept) = site.get("/workflows/approval/preflights?version=3");
    assert_eq!(kept["preflights"].as_array().expect("reports").len(), 2);

    let (code, out, _) = site.cli(&["migrate", "approval", "--from", "1", "--to", "3"]);
    assert!(code == FINDINGS && out.contains("0 executions go on") && out.contains("12 stay"), "{out}");
    let (code, out, err) = site.cli(&["migrate", &ids[0], "--to", "2", "--reason", "clearer words"]);
    assert!(code == OK && out.contains("goes on on version 2"), "{out}{err}");
    let (code, out, err) = site.cli(&["migrate", "approval", "--from", "1", "--to", "2"]);
    assert!(code == OK && out.contains("11 executions go on on version 2"), "{out}{err}");
    // There and back again.
    assert_eq!(site.cli(&["migrate", &ids[1], "--to", "1"]).0, OK);
    let versions = site.json(&["versions", "approval"]);
    let open: Vec<&Value> = versions["versions"].as_array().expect("versions").iter().map(|v| &v["open"]).collect();
    assert_eq!(open, [&json!(1), &json!(11), &json!(0)]);

    // The host dies, and the runs are where they were.
    let site = site.restart();
    for id in &ids {
        let (code, _, err) = site.cli(&["signal", id, "decision", "--input", r#"{"approved": true}"#]);
        assert_eq!(code, OK, "{err}");
        assert_eq!(site.ended(id)["status"], "completed");
    }
    let said = |id: &str| site.cli(&["history", id]).1;
    assert!(said(&ids[0]).contains("Accepted: a") && said(&ids[0]).contains("VersionChanged"), "{}", said(&ids[0]));
    assert!(said(&ids[1]).contains("approved: a"), "{}", said(&ids[1]));
    site.verified();
}

#[test]
fn a_canary_that_fails_too_often_is_stopped() {
    let site = Site::with(&["script"]);
    let wasm = guests::bytes("script/script.wasm");
    let other = site.dir.path().join("other.wasm");
    std::fs::write(&other, [&wasm[..], &[0, 2, 1, b'x']].concat()).expect("a file");
    let path = other.display().to_string();
    let (code, out, err) =
        site.cli(&["deploy", &path, "--name", "script", "--canary", "50%", "--max-bad", "20%", "--min-runs", "5"]);
    assert!(code == OK && out.contains("50 % of them version 2"), "{out}{err}");
    for n in 0..40 {
        let body = json!({"workflow": "script", "workflow_id": format!("bad-{n}"), "input": {"program": [{"fail": {"code": "no", "message": "as told"}}]}});
        let (status, answer) = site.post("/executions", &body);
        assert_eq!(status, 201, "{answer}");
    }
    until("the canary to stop", || site.json(&["versions", "script"])["activation"]["kind"] == "canary-stopped");
    let activation = site.json(&["versions", "script"])["activation"].clone();
    assert_eq!((&activation["version"], activation.get("canary")), (&json!(1), None));
    assert!(activation["reason"].as_str().is_some_and(|why| why.contains("failed")), "{activation}");
}

const ASK: &str = r#"{"subject": "a", "requested_by": "b", "approver": "c"}"#;

/// Executions of the approval workflow that wait for their decisions.
fn waiting(site: &Site, ids: &[&str]) {
    for id in ids {
        assert_eq!(site.cli(&["start", "approval", "--id", id, "--input", ASK]).0, OK);
        until("it waits", || site.get(&format!("/executions/{id}/queries/approval")).1["value"]["phase"] == "waiting");
    }
}

#[test]
fn histories_are_relived_without_a_host() {
    let site = Site::with(&["approval"]);
    waiting(&site, &["one", "two", "three"]);
    let directory = site.dir.path().join("histories");
    let out = directory.display().to_string();
    let (code, told, err) = site.cli(&["export", "approval", "--out", &out]);
    assert!(code == OK && told.starts_with("3 histories in"), "{told}{err}");
    let later = reworded(&site, "approved: ", "Accepted: ").display().to_string();
    let earlier = reworded(&site, "please approve: ", "kindly approve: ").display().to_string();
    let own = site.example("approval").join("approval_workflow.wasm").display().to_string();
    let address = site.host.address.clone();
    site.host.kill();
    let preflight = |wasm: &str, more: &[&str]| {
        cli(&address, &[&["preflight", "--wasm", wasm, "--histories", &out], more].concat())
    };
    let (code, told, err) = preflight(&later, &["--verdicts"]);
    assert!(code == OK && told.contains("3 agree") && told.contains("two: agrees, then waits for"), "{told}{err}");
    let (code, told, _) = preflight(&own, &[]);
    assert!(code == OK && told.contains("3 run on this code already"), "{told}");
    let (code, told, _) = preflight(&earlier, &["--json"]);
    assert!(code == FINDINGS && told.contains(r#""diverges":3"#), "{told}");
    let (code, _, err) = cli(&address, &["preflight", "bill", "--wasm", &own, "--histories", &out]);
    assert!(code != OK && err.contains("no histories of bill"), "{err}");
    // One that was edited says so, and where it is.
    let file = std::fs::read_dir(&directory).expect("a directory").next().expect("a file").expect("a file").path();
    let text = std::fs::read_to_string(&file).expect("readable");
    let (rest, _) = text.trim_end().rsplit_once('\n').expect("lines");
    std::fs::write(&file, rest).expect("written");
    let (code, _, err) = preflight(&own, &[]);
    assert!(code != OK && err.contains("it was cut off") && err.contains(".history.jsonl"), "{err}");
}

#[test]
fn a_deployment_takes_open_executions_along_if_it_is_asked_to() {
    let site = Site::with(&["approval"]);
    waiting(&site, &["one", "two"]);
    let later = reworded(&site, "approved: ", "Accepted: ").display().to_string();
    let (code, told, err) = site.cli(&["deploy", &later, "--migrate"]);
    assert!(code == OK && told.contains("2 executions go on on version 2"), "{told}{err}");
    let earlier = reworded(&site, "please approve: ", "kindly approve: ").display().to_string();
    let (code, told, err) = site.cli(&["deploy", &earlier, "--migrate"]);
    assert!(code == FINDINGS && told.contains("2 stay on their version (diverges)"), "{told}{err}");
    let versions = site.json(&["versions", "approval"]);
    let open: Vec<&Value> = versions["versions"].as_array().expect("versions").iter().map(|v| &v["open"]).collect();
    assert_eq!(open, [&json!(0), &json!(2), &json!(0)]);
}

#[test]
fn versions_that_nothing_runs_on_can_be_deleted() {
    let site = Site::with(&["approval"]);
    waiting(&site, &["one"]);
    let refused = |why: &str| {
        let (code, _, err) = site.cli(&["versions", "approval", "--delete", "1"]);
        assert!(code != OK && err.contains(why), "{err}");
    };
    refused("new runs of approval take version 1");
    let later = reworded(&site, "approved: ", "Accepted: ").display().to_string();
    assert_eq!(site.cli(&["deploy", &later]).0, OK);
    refused("1 open executions are on version 1");
    assert_eq!(site.cli(&["signal", "one", "decision", "--input", r#"{"approved": true}"#]).0, OK);
    site.ended("one");
    let (code, out, err) = site.cli(&["versions", "approval", "--delete", "1"]);
    assert!(code == OK && out.contains("version 1 of approval is deleted"), "{out}{err}");
    refused("has no version 1");
    let (code, _, err) = site.cli(&["activate", "approval", "--to", "1"]);
    assert!(code != OK && err.contains("no version 1; it has 2"), "{err}");
    let (code, _, err) = site.cli(&["rollback", "approval"]);
    assert!(code != OK && err.contains("none before"), "{err}");
    // What ran on it can be relived still.
    assert_eq!(site.cli(&["replay", "one"]).0, OK);
    let own = site.example("approval").join("approval_workflow.wasm").display().to_string();
    let (code, out, err) = site.cli(&["deploy", &own, "--no-activate"]);
    assert!(code == OK && out.contains("version 1"), "{out}{err}");
    site.verified();
}

#[test]
fn uploads_that_are_no_components_or_break_off_leave_nothing() {
    let site = Site::with(&[]);
    let wasm = guests::bytes("hello/hello.wasm");
    let path = format!("{BASE}/workflows?name=hello");
    for (bytes, code) in
        [(&b"no wasm at all"[..], "not-wasm"), (&wasm[..wasm.len() / 2], "truncated"), (&[], "not-wasm")]
    {
        let (status, answer) = site.host.upload(&path, bytes).expect("an answer");
        assert_eq!((status, &answer["code"]), (422, &json!(code)), "{answer}");
    }
    for half in [0, 1, wasm.len() / 2, wasm.len() - 1] {
        let mut stream = TcpStream::connect(&site.host.address).expect("a connection");
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/wasm\r\ncontent-length: {}\r\n\r\n",
            site.host.address,
            wasm.len()
        );
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&wasm[..half])).expect("sent");
        drop(stream);
    }
    let (code, _, err) = site.cli(&["versions", "hello"]);
    assert!(code != OK && err.contains("no workflow"), "{err}");
    assert_eq!(deploy(&site, "one", &[]).0, OK);
    assert_eq!(taken(&site, "a", 1), [1]);
}

#[test]
fn only_what_its_signers_signed_is_deployed() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = |name: &str| dir.path().join(name).display().to_string();
    let made = |name: &str| {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("randomness");
        let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, document.as_ref());
        let key = file(name);
        std::fs::write(&key, format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n"))
            .expect("a file");
        let (code, public, err) = cli("127.0.0.1:1", &["sign", "--key", &key, "--public"]);
        assert_eq!(code, OK, "{err}");
        (key, public.trim().to_owned())
    };
    let ((ada, ada_public), (bob, bob_public), (eve, _)) = (made("ada.pem"), made("bob.pem"), made("eve.pem"));
    let policy = format!("[[signers]]\nnamespace = \"default\"\nkeys = [\"{ada_public}\", \"{bob_public}\"]\n");
    let signers = file("signers.toml");
    std::fs::write(&signers, policy).expect("a file");
    let host = Host::start(relive(), &dir.path().join("data"), &[("RELIVE_SIGNERS", &signers)]).expect("a host");
    let wasm = file("hello.wasm");
    std::fs::write(&wasm, guests::bytes("hello/hello.wasm")).expect("a file");
    let run = |args: &[&str]| cli(&host.address, args);
    let deploy = |name: &str| run(&["deploy", &wasm, "--name", name]);
    let sign = |key: &str, more: &[&str]| {
        let (code, _, err) = run(&[&["sign", &wasm, "--key", key], more].concat());
        assert_eq!(code, OK, "{err}");
    };
    assert!(deploy("hello").2.contains("takes what 2 of 2 signers have signed; 0 have"), "{}", deploy("hello").2);
    sign(&ada, &["--name", "hello"]);
    sign(&eve, &["--name", "hello"]);
    assert!(deploy("hello").2.contains("2 of 2 signers have signed; 1 have"));
    // For another namespace, or another name, it is not signed.
    sign(&bob, &["--name", "hello", "--namespace", "other"]);
    assert!(deploy("hello").2.contains("is over another deployment"));
    sign(&bob, &["--name", "hello"]);
    assert_eq!(deploy("hello").0, OK);
    assert!(deploy("greet").2.contains("is over another deployment"));
    // Where nobody is required to sign, nobody has to.
    assert_eq!(run(&["deploy", &wasm, "--name", "greet", "--namespace", "other"]).0, OK);
    // Other bytes are another deployment.
    std::fs::write(&wasm, [&guests::bytes("hello/hello.wasm")[..], &[0, 2, 1, b'x']].concat()).expect("a file");
    assert!(deploy("hello").2.contains("is over another deployment"));
    let (code, _, err) = run(&["deploy", &wasm, "--name", "greet"]);
    assert_ne!(code, OK, "{err}");
}

/// Another program finds executions that do not come through on it, and leaves them alone unless it is told otherwise.
#[test]
fn a_program_that_differs_from_the_one_before_says_so_before_it_takes_anything_up() {
    let site = Site::with(&["approval"]);
    waiting(&site, &["one", "two"]);
    let earlier = reworded(&site, "please approve: ", "kindly approve: ").display().to_string();
    assert_eq!(site.cli(&["deploy", &earlier, "--no-activate"]).0, OK);
    let data = site.data();
    let said = || std::fs::read_to_string(data.join("host.log")).expect("a log");
    let Site { host, dir, .. } = site;
    assert_eq!(host.stop(), Some(0));
    std::fs::write(data.join("engine"), "another program").expect("written");
    let host = Host::start(relive(), &data, &[("RELIVE_LOG", "info")]).expect("what is open comes through");
    assert!(said().contains("open executions come through on it"), "{}", said());
    assert_eq!(host.stop(), Some(0));
    // As if the component that they are on did other things than it did.
    let database = rusqlite::Connection::open(data.join("relive.db")).expect("a database");
    let other =
        "UPDATE executions SET digest = (SELECT digest FROM versions WHERE workflow = 'approval' AND version = 2)";
    assert!(database.execute(other, []).expect("changed") >= 2);
    drop(database);
    std::fs::write(data.join("engine"), "another program").expect("written");
    assert!(Host::start(relive(), &data, &[]).is_none(), "it does not start");
    assert!(said().contains("2 of 2 open executions") && said().contains("--accept-upgrade"), "{}", said());
    let host = Host::start(relive(), &data, &[("RELIVE_ACCEPT_UPGRADE", "true")]).expect("as it was told");
    assert_eq!(host.stop(), Some(0));
    assert!(Host::start(relive(), &data, &[]).is_some_and(|host| host.stop() == Some(0)), "it has been asked");
    drop(dir);
}

#[test]
fn a_deployment_tells_how_far_it_is() {
    let site = Site::with(&[]);
    let deploy = |bytes: &[u8]| {
        let url = format!("http://{}{BASE}/workflows", site.host.address);
        let request = ureq::post(url).header("accept", "text/event-stream").content_type("application/wasm");
        request.send(bytes).expect("an answer").body_mut().read_to_string().expect("text")
    };
    let told = deploy(&guests::bytes("hello/hello.wasm"));
    let at = |what: &str| told.find(what).unwrap_or_else(|| panic!("no {what} in {told}"));
    let order = ["received", "checked", "compiled", "described", "event: deployed", "event: end"].map(at);
    assert!(order.is_sorted(), "{told}");
    let told = deploy(b"no wasm");
    assert!(told.contains("event: failed") && told.contains(r#""status":422"#) && told.contains("not-wasm"), "{told}");
}
