//! A host that is asked to end: it says that it is not ready, refuses new work, lets what runs end, and exits well.

mod common;

use std::sync::{Arc, Condvar, Mutex};

use common::{PATIENCE, Site, until};
use relive_testkit::receiver::{Answer, Receiver};
use serde_json::json;

/// A gate that whoever waits at it passes once it is open.
#[derive(Default)]
struct Gate(Mutex<bool>, Condvar);

impl Gate {
    fn open(&self) {
        *self.0.lock().expect("no panic under the lock") = true;
        self.1.notify_all();
    }

    fn pass(&self) {
        let open = self.0.lock().expect("no panic under the lock");
        drop(self.1.wait_while(open, |open| !*open).expect("no panic under the lock"));
    }
}

#[test]
fn a_host_that_is_asked_to_end_drains() {
    let gate = Arc::new(Gate::default());
    let shut = gate.clone();
    let receiver = Receiver::start(move |_| {
        shut.pass();
        Answer::json(200, r#""done""#)
    });
    let site = Site::with(&["script"]);
    let manifest = format!(
        "[package]\nname = \"slow\"\n[[activity]]\nname = \"slow\"\nkind = \"http\"\nurl = \"{}/\"\nallow_private = true\n",
        receiver.origin()
    );
    let path = site.dir.path().join("relive.toml");
    std::fs::write(&path, manifest).expect("a manifest");
    assert_eq!(site.cli(&["deploy", &path.display().to_string()]).0, 0);
    until("it is ready", || site.host.call("GET", "/readyz", b"").expect("an answer").0 == 200);
    site.script("w", &json!([{"activity": {"name": "slow"}}]));
    until("the activity runs", || receiver.received().len() == 1);
    site.host.ask_to_end();
    let mut unready = json!(null);
    until("it is not ready", || {
        let (status, answer) = site.host.call("GET", "/readyz", b"").expect("it answers while the activity runs");
        unready = answer;
        status == 503
    });
    assert_eq!(unready["code"], "shutting-down");
    assert_eq!(site.host.call("GET", "/healthz", b"").expect("an answer").0, 200);
    let start = json!({"workflow": "script", "workflow_id": "x", "input": {"program": []}}).to_string();
    let refused = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().new_agent();
    let url = site.host.url("/v1/namespaces/default/executions");
    let refused = refused.post(&url).header("content-type", "application/json").send(start).expect("an answer");
    assert_eq!(refused.status().as_u16(), 503);
    assert_eq!(refused.headers().get("retry-after").and_then(|v| v.to_str().ok()), Some("1"));
    gate.open();
    let Site { mut host, dir, env } = site;
    let ended = host.status_within(PATIENCE).expect("it ends");
    assert_eq!(ended.code(), Some(0));
    let host = relive_testkit::process::Host::start(common::relive(), &dir.path().join("data"), env).expect("a host");
    let site = Site { host, dir, env };
    assert_eq!(site.ended("w")["result"]["seen"][0]["ok"], "done");
    assert_eq!(receiver.received().len(), 1, "the attempt that ran was let end");
    site.verified();
}
