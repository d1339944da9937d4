//! Traces from end to end: a client's trace goes on through the host, an activity by HTTP and a worker, and a collector
//! on this machine gets all of it as one trace.

mod common;

use std::collections::BTreeMap;

use common::Site;
use relive_testkit::receiver::{Answer, Receiver};
use serde_json::{Value, json};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CLIENT: &str = "00f067aa0ba902b7";

/// A span as the collector got it.
#[derive(Clone, Debug, Default)]
struct Span {
    trace: String,
    id: String,
    parent: String,
    name: String,
    start: u64,
    end: u64,
}

/// The fields of a protobuf message, as far as spans need them: bytes and 64-bit numbers.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut number = 0;
        for shift in (0..).step_by(7) {
            let (first, rest) = bytes.split_first().expect("a whole message");
            *bytes = rest;
            number |= u64::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                break;
            }
        }
        number
    }
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let length = match key & 7 {
            0 => {
                varint(&mut bytes);
                continue;
            }
            1 => 8,
            2 => usize::try_from(varint(&mut bytes)).expect("a length"),
            5 => 4,
            other => panic!("wire type {other}"),
        };
        let (value, rest) = bytes.split_at(length);
        fields.push((key >> 3, value.to_vec()));
        bytes = rest;
    }
    fields
}

/// The spans of an `ExportTraceServiceRequest`: resource_spans (1), scope_spans (2), spans (2).
fn spans(body: &[u8]) -> Vec<Span> {
    let below = |messages: Vec<Vec<u8>>, number: u64| -> Vec<Vec<u8>> {
        messages.iter().flat_map(|m| fields(m)).filter(|(n, _)| *n == number).map(|(_, value)| value).collect()
    };
    let spans = below(below(below(vec![body.to_vec()], 1), 2), 2);
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("64 bits"));
    let read = |message: &Vec<u8>| {
        fields(message).iter().fold(Span::default(), |mut span, (field, value)| {
            match field {
                1 => span.trace = hex(value),
                2 => span.id = hex(value),
                4 => span.parent = hex(value),
                5 => span.name = String::from_utf8_lossy(value).into_owned(),
                7 => span.start = number(value),
                8 => span.end = number(value),
                _ => {}
            }
            span
        })
    };
    spans.iter().map(read).collect()
}

fn deploy(site: &Site, url: &str) {
    let manifest = format!(
        "[package]\nname = \"hooks\"\n[[activity]]\nname = \"charge\"\nkind = \"http\"\nurl = \"{url}/\"\nallow_private = true\n"
    );
    let path = site.dir.path().join("relive.toml");
    std::fs::write(&path, manifest).expect("a manifest");
    assert_eq!(site.cli(&["deploy", &path.display().to_string()]).0, 0);
}

/// Starts `script` with a client's traceparent.
fn start(site: &Site, id: &str, program: &Value) {
    let body = json!({"workflow": "script", "workflow_id": id, "input": {"program": program}}).to_string();
    let request = ureq::Agent::config_builder().proxy(None).build().new_agent();
    let request = request.post(site.host.url("/v1/namespaces/default/executions"));
    let request = request.header("content-type", "application/json");
    request.header("traceparent", format!("00-{TRACE}-{CLIENT}-01")).send(body).expect("started");
}

/// Takes the one task of the queue as a worker, answers it, and returns it.
fn work(site: &Site) -> Value {
    let (_, worker) = site.post("/workers", &json!({"identity": "w", "task_queues": ["default"]}));
    let poll = json!({"worker_id": worker["worker_id"], "wait_ms": 60_000});
    let (_, polled) = site.post("/task-queues/default/poll", &poll);
    let task = polled["tasks"][0].clone();
    let token = task["token"].as_str().unwrap_or_else(|| panic!("a task: {polled}"));
    assert_eq!(site.post(&format!("/tasks/{token}/complete"), &json!({"result": 1})).0, 200);
    task
}

#[test]
fn a_trace_goes_on_through_host_worker_and_activities() {
    let collector = Receiver::start(|_| Answer::Whole(200, Vec::new(), Vec::new()));
    let shop = Receiver::start(|_| Answer::json(200, "1"));
    // The site's options have to live as long as the test's process.
    let endpoint: &'static str = Box::leak(collector.origin().into_boxed_str());
    let env: &'static [(&str, &str)] = Box::leak(Box::new([("RELIVE_OTLP_ENDPOINT", endpoint)]));
    let site = Site::with_options(&["script"], env);
    deploy(&site, &shop.origin());
    let steps = [json!({"activity": {"name": "charge"}}), json!({"activity": {"name": "remote"}})];
    start(&site, "w", &json!(steps));
    let task = work(&site);
    assert_eq!(site.ended("w")["status"], "completed");
    let received = shop.received();
    let outgoing = received[0].header("traceparent").to_owned();
    let incoming = task["traceparent"].as_str().expect("a traceparent").to_owned();
    let history = site.get("/executions/w/history").1;
    assert_eq!(history["events"][0]["trace_id"], TRACE, "{history}");
    // What the host sends when it ends is sent, too.
    let Site { host, dir, .. } = site;
    assert_eq!(host.stop(), Some(0));
    drop(dir);
    let requests = collector.received();
    assert!(requests.iter().all(|r| r.path == "/v1/traces" && r.header("content-type") == "application/x-protobuf"));
    let all = requests.iter().flat_map(|request| spans(&request.body));
    let of_trace: BTreeMap<String, Span> =
        all.filter(|span| span.trace == TRACE).map(|span| (span.name.clone(), span)).collect();
    let find = |name: &str| of_trace.get(name).unwrap_or_else(|| panic!("no span {name:?} in {of_trace:?}")).clone();
    let (request, workflow) = (find("POST /v1/namespaces/{namespace}/executions"), find("workflow script"));
    let (charge, remote) = (find("activity charge"), find("activity remote"));
    assert_eq!(request.parent, CLIENT);
    assert_eq!(workflow.parent, request.id);
    assert_eq!((&charge.parent, &remote.parent), (&workflow.id, &workflow.id));
    assert_eq!(outgoing, format!("00-{TRACE}-{}-01", charge.id));
    assert_eq!(incoming, format!("00-{TRACE}-{}-01", remote.id));
    for span in [&charge, &remote] {
        assert!(workflow.start <= span.start && span.start <= span.end, "{of_trace:?}");
    }
}

#[test]
fn what_nobody_traces_names_a_trace_that_nobody_keeps() {
    let shop = Receiver::start(|_| Answer::json(200, "1"));
    let site = Site::with(&["script"]);
    deploy(&site, &shop.origin());
    site.script("w", &json!([{"activity": {"name": "charge"}}]));
    assert_eq!(site.ended("w")["status"], "completed");
    let received = shop.received();
    let run = received[0].json()["run_id"].as_str().expect("a run").replace('-', "");
    let parent = received[0].header("traceparent");
    assert!(parent.starts_with(&format!("00-{run}-")) && parent.ends_with("-00"), "{parent}");
    let history = site.get("/executions/w/history").1;
    assert_eq!(history["events"][0]["trace_id"], Value::Null, "{history}");
    // A collector that is not there costs nothing but its spans.
    let env: &'static [(&str, &str)] = &[("RELIVE_OTLP_ENDPOINT", "http://127.0.0.1:9")];
    let deaf = Site::with_options(&["hello"], env);
    deaf.still_works();
    assert_eq!(deaf.host.stop(), Some(0));
}
