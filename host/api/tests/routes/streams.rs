//! Live streams: what comes, comes once and in order, also for clients that go away and come back; ends end them.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};

use crate::fixture::{Api, Event};

const EXECUTIONS: &str = "/v1/namespaces/default/executions";

async fn listening(id: &str) -> Api {
    let api = Api::new();
    api.deploy("listen").await;
    start(&api, id).await;
    api
}

async fn start(api: &Api, id: &str) {
    let body = format!(r#"{{"workflow":"listen","workflow_id":"{id}"}}"#);
    api.post(EXECUTIONS, &body).await.expect(201);
}

async fn go(api: &Api, id: &str) {
    api.post(
        &format!("{EXECUTIONS}/{id}/signals/go"),
        r#"{"input":{"a":
        [1]}}"#,
    )
    .await
    .expect(200);
}

fn event_id(event: &Event) -> u64 {
    assert_eq!(event.name, "event", "{event:?}");
    event.data["event_id"].as_u64().expect("an event id")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_history_is_followed_to_its_end() {
    let api = listening("h").await;
    let mut events = api.follow(&format!("{EXECUTIONS}/h/history"), None).await;
    assert_eq!(events.status, 200);
    assert_eq!(event_id(&events.next().await.expect("the start")), 1);
    go(&api, "h").await;
    let mut seen = vec![1];
    let end = loop {
        let event = events.next().await.expect("an event");
        if event.name == "end" {
            break event;
        }
        seen.push(event_id(&event));
    };
    assert_eq!(seen, (1..=seen.len() as u64).collect::<Vec<_>>());
    assert!(seen.len() >= 3);
    assert_eq!(end.data["status"], "completed");
    assert!(events.next().await.is_none(), "the stream ends");
    // Who comes late gets it all as well.
    let mut late = api.follow(&format!("{EXECUTIONS}/h/history?follow=true&from=2"), None).await;
    assert_eq!(event_id(&late.next().await.expect("an event")), 2);
    api.get(&format!("{EXECUTIONS}/none/history?follow=true")).await.problem(404, "unknown-execution");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_goes_on_after_the_last_event_in_the_same_run() {
    let api = listening("r").await;
    let path = format!("{EXECUTIONS}/r/history");
    let mut events = api.follow(&path, None).await;
    let mut last = events.next().await.expect("the start").id;
    drop(events);
    go(&api, "r").await;
    api.get(&format!("{EXECUTIONS}/r/result?wait_ms=10000")).await.expect(200);
    // Another run under the same id is not the one that was followed.
    start(&api, "r").await;
    for wanted in 2.. {
        let mut again = api.follow(&path, Some(&last)).await;
        if again.status == 204 {
            assert!(wanted > 3, "there was nothing after event {}", wanted - 1);
            break;
        }
        let event = again.next().await.expect("an event");
        assert_eq!(event_id(&event), wanted);
        last = event.id;
    }
    let refused = api.follow(&path, Some("1e0000000000000001")).await;
    assert_eq!(refused.status, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_are_followed_to_the_end_of_the_run() {
    let api = listening("l").await;
    let mut lines = api.follow(&format!("{EXECUTIONS}/l/logs"), None).await;
    let first = lines.next().await.expect("a line");
    assert_eq!((first.name.as_str(), &first.data["message"]), ("log", &"listening".into()));
    go(&api, "l").await;
    let second = lines.next().await.expect("a line");
    assert_eq!((&second.data["message"], &second.data["fields"]["n"]), (&"heard".into(), &1.into()));
    assert_eq!(lines.next().await.expect("the end").name, "end");
    assert!(lines.next().await.is_none());
    let mut again = api.follow(&format!("{EXECUTIONS}/l/logs"), Some(&first.id)).await;
    assert_eq!(again.next().await.expect("a line").data["message"], "heard");
    assert_eq!(api.follow(&format!("{EXECUTIONS}/l/logs"), Some(&second.id)).await.status, 204);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_list_is_followed_from_a_snapshot_on() {
    let api = listening("before").await;
    let path = format!("{EXECUTIONS}?follow=true&workflow=listen");
    let mut list = api.follow(&path, None).await;
    let snapshot = list.next().await.expect("a snapshot");
    assert_eq!(snapshot.name, "snapshot");
    assert_eq!(snapshot.data["executions"][0]["workflow_id"], "before");
    start(&api, "after").await;
    let begun = list.next().await.expect("a change");
    assert_eq!((begun.name.as_str(), &begun.data["workflow_id"]), ("execution", &"after".into()));
    // What no filter holds, and what happens within a run, is no change of this list.
    api.deploy("echo").await;
    api.post(&format!("{EXECUTIONS}?wait_ms=10000"), r#"{"workflow":"echo"}"#).await.expect(200);
    go(&api, "before").await;
    let ended = list.next().await.expect("a change");
    assert_eq!((&ended.data["workflow_id"], &ended.data["status"]), (&"before".into(), &"completed".into()));
    drop(list);
    // Away and back: from where it was, without a new snapshot.
    api.post(&format!("{EXECUTIONS}/after/terminate"), "").await.expect(200);
    let mut again = api.follow(&path, Some(&ended.id)).await;
    let missed = again.next().await.expect("a change");
    assert_eq!((&missed.data["workflow_id"], &missed.data["status"]), (&"after".into(), &"terminated".into()));
    // Of another life of the host: the list from its beginning.
    let mut stranger = api.follow(&path, Some("1c00000000000000630000000000000001")).await;
    assert_eq!(stranger.next().await.expect("a snapshot").name, "snapshot");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_at_the_end_waits_for_what_comes() {
    let api = listening("p").await;
    let history = format!("{EXECUTIONS}/p/history");
    let page: serde_json::Value = serde_json::from_str(&api.get(&history).await.body).expect("JSON");
    let next = page["events"].as_array().map_or(0, Vec::len) + 1;
    let at_end = format!("{history}?from={next}&wait_ms=");
    assert!(api.get(&format!("{at_end}0")).await.body.contains(r#""events":[]"#));
    let poll = format!("{at_end}60000");
    let (polled, ()) = tokio::join!(api.get(&poll), go(&api, "p"));
    polled.expect(200);
    assert!(polled.body.contains("SignalReceived"), "{}", polled.body);
    // Nothing comes after the end: no waiting.
    let past = format!("{history}?from=99&wait_ms=60000");
    tokio::time::timeout(Duration::from_secs(20), api.get(&past)).await.expect("at once").expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutting_down_ends_streams() {
    let api = listening("s").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(relive_api::serve(listener, api.router(), async move {
        let _ = stopped.await;
    }));
    let mut client = TcpStream::connect(address).await.expect("a connection");
    let request = format!("GET {EXECUTIONS}/s/history?follow=true HTTP/1.1\r\nhost: {address}\r\n\r\n");
    client.write_all(request.as_bytes()).await.expect("sent");
    let mut text = Vec::new();
    while !String::from_utf8_lossy(&text).contains("ExecutionStarted") {
        assert!(client.read_buf(&mut text).await.expect("read") > 0, "closed early");
    }
    let _ = stop.send(());
    let ended = async {
        client.read_to_end(&mut text).await.expect("the end of the stream");
        server.await.expect("the server").expect("served");
    };
    tokio::time::timeout(Duration::from_secs(4), ended).await.expect("sooner than connections are cut off");
    assert!(String::from_utf8_lossy(&text).ends_with("0\r\n\r\n"), "a whole answer");
}
