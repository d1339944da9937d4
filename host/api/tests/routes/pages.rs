//! Lists a page at a time: each item once, whatever is added meanwhile, and nothing but a list's own cursor is taken.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::fixture::{Api, Reply};

const EXECUTIONS: &str = "/v1/namespaces/default/executions";

fn parsed(reply: &Reply) -> Value {
    reply.expect(200);
    serde_json::from_str(&reply.body).expect("JSON")
}

/// All pages of a list, and how many there were. `between` runs after each page.
async fn walk(api: &Api, path: &str, field: &str, between: impl AsyncFn()) -> (Vec<Value>, usize) {
    let (mut items, mut pages, mut cursor) = (Vec::new(), 0, String::new());
    loop {
        let page = parsed(&api.get(&format!("{path}{cursor}")).await);
        items.extend(page[field].as_array().expect("a list").iter().cloned());
        pages += 1;
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return (items, pages),
        }
        between().await;
    }
}

async fn start(api: &Api, id: &str, workflow: &str) {
    let body = format!(r#"{{"workflow":"{workflow}","workflow_id":"{id}"}}"#);
    api.post(&format!("{EXECUTIONS}?wait_ms=10000"), &body).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn executions_come_once_each_while_others_are_started() {
    let api = Api::new();
    api.deploy("echo").await;
    for n in 0..7 {
        start(&api, &format!("e{n}"), "echo").await;
    }
    let late = std::sync::atomic::AtomicUsize::new(0);
    let between = async || {
        let n = late.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        start(&api, &format!("late{n}"), "echo").await;
    };
    let (items, pages) = walk(&api, &format!("{EXECUTIONS}?limit=3&workflow=echo"), "executions", between).await;
    let ids: Vec<&str> = items.iter().map(|item| item["workflow_id"].as_str().expect("an id")).collect();
    assert_eq!(ids, ["e6", "e5", "e4", "e3", "e2", "e1", "e0"]);
    assert_eq!(pages, 3);
    // A page that is just full is the last one.
    let (items, pages) = walk(&api, &format!("{EXECUTIONS}?limit=9"), "executions", async || {}).await;
    assert_eq!((items.len(), pages), (9, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_a_history_stay_with_their_run() {
    let api = Api::new();
    api.deploy("echo").await;
    start(&api, "h", "echo").await;
    let between = async || start(&api, "h", "echo").await;
    let (events, pages) = walk(&api, &format!("{EXECUTIONS}/h/history?limit=1"), "events", between).await;
    assert_eq!(pages, events.len());
    let ids: Vec<u64> = events.iter().map(|event| event["event_id"].as_u64().expect("an id")).collect();
    assert_eq!(ids, (1..=events.len() as u64).collect::<Vec<_>>());
    let first = &events[0]["attributes"]["execution"]["run_id"];
    let listed = parsed(&api.get(EXECUTIONS).await);
    let runs: BTreeSet<&str> =
        listed["executions"].as_array().expect("a list").iter().filter_map(|e| e["run_id"].as_str()).collect();
    assert!(runs.len() > 1 && runs.contains(first.as_str().expect("a run")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deployments_have_pages_too() {
    let api = Api::new();
    for script in ["listen", "echo", "again"] {
        api.deploy(script).await;
    }
    let (items, pages) = walk(&api, "/v1/namespaces/default/workflows?limit=2", "workflows", async || {}).await;
    let names: Vec<&str> = items.iter().filter_map(|item| item["workflow"].as_str()).collect();
    assert_eq!((names, pages), (vec!["again", "echo", "listen"], 2));
    let (activities, _) = walk(&api, "/v1/namespaces/default/activities?limit=2", "activities", async || {}).await;
    assert!(activities.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_cursor_of_the_list_is_refused() {
    let api = Api::new();
    api.deploy("echo").await;
    for n in 0..2 {
        start(&api, &format!("e{n}"), "echo").await;
    }
    let page = parsed(&api.get(&format!("{EXECUTIONS}?limit=1")).await);
    let cursor = page["next_cursor"].as_str().expect("a cursor");
    api.get(&format!("{EXECUTIONS}?cursor={cursor}")).await.expect(200);
    for list in ["executions/e0/history", "executions/e0/logs", "executions/e0/queries", "workflows", "activities"] {
        api.get(&format!("/v1/namespaces/default/{list}?cursor={cursor}")).await.problem(400, "invalid-cursor");
    }
    for bad in ["", "x", "1e", "0e0000000000000001", "1e%00", &format!("{cursor}00")] {
        api.get(&format!("{EXECUTIONS}?cursor={bad}")).await.problem(400, "invalid-cursor");
    }
    api.get(&format!("{EXECUTIONS}?limit=-1")).await.problem(400, "invalid-query");
    let many = parsed(&api.get(&format!("{EXECUTIONS}?limit=99999999")).await);
    assert_eq!(many["executions"].as_array().map(Vec::len), Some(2));
}
