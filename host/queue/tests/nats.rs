//! What only NATS has: a server that is away, wiped, stalled or set up otherwise, and what others see on it.

mod common;

use std::time::{Duration, Instant};

use async_nats::jetstream;
use common::{
    PATIENCE, connect, fresh_prefix, in_time, limits, options, queue, raw, server::Server, shared_server, take, task,
    tasks, until, wait,
};
use futures_util::StreamExt;
use relive_core::{
    Json, Namespace, RunId, Shard, WorkflowId,
    ports::{EventFeed, FeedEvent, QueueErrorKind, Signal, Signals, TaskMessage, TaskQueue},
};
use relive_queue::{NatsOptions, NatsQueue, QueueLimits};

/// As a host waits for its next task.
const LONG: Duration = Duration::from_secs(600);

async fn refused(options: NatsOptions) -> relive_core::ports::QueueError {
    in_time("a refusal", NatsQueue::connect(options)).await.err().expect("it must be refused")
}

/// Publishes until the broker takes it; every refusal on the way must be transient, and at once.
async fn publish_in_the_end(to: &NatsQueue, batch: &[TaskMessage]) {
    until("publishing", || async {
        let began = Instant::now();
        match to.publish(batch).await {
            Ok(_) => Some(()),
            Err(error) => {
                assert!(error.kind.is_transient(), "{error:?}");
                assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
                None
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_server_is_made_again_and_nothing_hangs() {
    let mut server = Server::start().await;
    let prefix = fresh_prefix();
    let (a, b) = (connect(&server.url(), &prefix).await, connect(&server.url(), &prefix).await);
    let (mail, empty) = (queue("mail"), queue("empty"));
    a.publish(&tasks(&mail, 0..3)).await.unwrap();
    let before = wait(&b, &mail, 1).await;
    let mut signals = b.subscribe().await.unwrap();
    let ((), waited) = tokio::join!(
        async {
            // The fetch below is under way.
            b.ensure_consumer(&empty).await.unwrap();
            server.kill();
            server.wipe();
        },
        in_time("a fetch from a server that dies", b.fetch(&empty, 1, LONG)),
    );
    assert_eq!(waited.unwrap_err().kind, QueueErrorKind::Unavailable);
    let error = in_time("a publish without a server", a.publish(&tasks(&mail, 0..3))).await.unwrap_err();
    assert_eq!(error.kind, QueueErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("nats://127.0.0.1:"), "{error}");

    server.run().await;
    // As the sweep does with what nobody took.
    let again: Vec<_> = tasks(&mail, 0..3).into_iter().map(|task| TaskMessage { republish: 1, ..task }).collect();
    publish_in_the_end(&a, &again).await;
    let fetched = until("a fetch after the wipe", || async { b.fetch(&mail, 10, PATIENCE).await.ok() }).await;
    assert_eq!(fetched.ready.iter().map(|delivery| delivery.task.clone()).collect::<Vec<_>>(), again);
    assert!(fetched.ready.iter().all(|delivery| delivery.number == 1), "{fetched:?}");
    // A receipt of the server's former life may name a message of this one: whoever has it looks at the store.
    b.ack(&before.ready[0].receipt).await.unwrap();
    // Who listened knows that it missed something, and hears again.
    assert_eq!(in_time("a signal", signals.next()).await, Some(Signal::Missed));
    a.notify(Shard(9)).await.unwrap();
    assert_eq!(in_time("a signal", signals.next()).await, Some(Signal::Happened(Shard(9))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_server_has_its_messages() {
    let mut server = Server::start().await;
    let a = connect(&server.url(), "relive").await;
    let mail = queue("mail");
    a.publish(&tasks(&mail, 0..2)).await.unwrap();
    server.kill();
    server.run().await;
    let fetched = until("a fetch", || async { a.fetch(&mail, 10, PATIENCE).await.ok() }).await;
    assert_eq!(fetched.ready.len(), 2);
}

#[tokio::test]
async fn streams_that_somebody_deletes_are_made_again() {
    let (url, prefix) = (shared_server(), fresh_prefix());
    let a = connect(&url, &prefix).await;
    let mail = queue("mail");
    let stream = format!("{prefix}-tasks");
    let admin = jetstream::new(raw(&url).await);
    a.publish(&tasks(&mail, 0..1)).await.unwrap();
    wait(&a, &mail, 1).await;
    admin.delete_stream(&stream).await.unwrap();
    a.publish(&tasks(&mail, 1..2)).await.unwrap();
    assert_eq!(wait(&a, &mail, 10).await.ready.len(), 1);
    admin.delete_consumer_from_stream("default==mail", &stream).await.unwrap();
    // The message that was handed out comes again: nobody knows of it any more.
    assert_eq!(wait(&a, &mail, 10).await.ready[0].number, 1);
    admin.delete_stream(&stream).await.unwrap();
    assert!(take(&a, &mail, 10).await.is_empty());
}

#[tokio::test]
async fn a_deleted_consumer_ends_a_waiting_fetch() {
    let (url, prefix) = (shared_server(), fresh_prefix());
    let a = connect(&url, &prefix).await;
    let mail = queue("mail");
    a.ensure_consumer(&mail).await.unwrap();
    let admin = jetstream::new(raw(&url).await);
    let stream = format!("{prefix}-tasks");
    let (fetched, ()) = tokio::join!(in_time("a fetch", a.fetch(&mail, 1, PATIENCE)), async {
        let consumer =
            || admin.get_consumer_from_stream::<jetstream::consumer::pull::Config, _, _>("default==mail", &stream);
        until("the fetch waits", || async { (consumer().await.ok()?.cached_info().num_waiting == 1).then_some(()) })
            .await;
        admin.delete_consumer_from_stream("default==mail", &stream).await.unwrap();
        // The fetch has made it anew and waits for this.
        a.publish(&[task(&mail, 1)]).await.unwrap();
    });
    assert_eq!(fetched.unwrap().ready.len(), 1);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told() {
    let server = Server::absent();
    let url = server.url().replace("nats://", "nats://me:secret@");
    let error = refused(NatsOptions::new(&url)).await;
    assert_eq!(error.kind, QueueErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains(&server.url()) && !error.to_string().contains("secret"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_can_start_before_its_server() {
    let mut server = Server::absent();
    let lazy = NatsOptions { wait_for_server: true, ..options(&server.url(), "relive") };
    let a = in_time("a start without a server", NatsQueue::connect(lazy)).await.unwrap();
    assert!(!a.is_connected());
    let mail = queue("mail");
    let began = Instant::now();
    for error in [
        a.publish(&tasks(&mail, 0..1)).await.unwrap_err(),
        a.fetch(&mail, 1, LONG).await.unwrap_err(),
        a.depth(&mail).await.unwrap_err(),
        a.notify(Shard(1)).await.unwrap_err(),
        a.subscribe().await.err().unwrap(),
    ] {
        assert_eq!(error.kind, QueueErrorKind::Unavailable, "{error}");
    }
    assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
    server.run().await;
    publish_in_the_end(&a, &tasks(&mail, 0..1)).await;
    assert_eq!(wait(&a, &mail, 1).await.ready.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stalls_is_given_up() {
    let server = Server::start().await;
    let patient = NatsOptions { request_timeout: Duration::from_millis(500), ..options(&server.url(), "relive") };
    let a = NatsQueue::connect(patient).await.unwrap();
    let mail = queue("mail");
    a.publish(&tasks(&mail, 0..1)).await.unwrap();
    let delivery = wait(&a, &mail, 1).await.ready.remove(0);
    server.signal("STOP");
    for error in [
        in_time("publish", a.publish(&tasks(&mail, 1..2))).await.unwrap_err(),
        in_time("fetch", a.fetch(&mail, 1, Duration::from_millis(100))).await.unwrap_err(),
        in_time("ack", a.ack(&delivery.receipt)).await.unwrap_err(),
        in_time("depth", a.depth(&mail)).await.unwrap_err(),
    ] {
        assert_eq!(error.kind, QueueErrorKind::Unavailable, "{error}");
    }
    server.signal("CONT");
    publish_in_the_end(&a, &tasks(&mail, 1..2)).await;
}

#[tokio::test]
async fn nats_without_jetstream_is_told() {
    let server = Server::with(&[]).await;
    let a = connect(&server.url(), "relive").await;
    let mail = queue("mail");
    for error in [
        a.prepare().await.unwrap_err(),
        a.publish(&tasks(&mail, 0..1)).await.unwrap_err(),
        a.fetch(&mail, 1, LONG).await.unwrap_err(),
        a.depth(&mail).await.unwrap_err(),
    ] {
        assert_eq!(error.kind, QueueErrorKind::NoStreaming, "{error}");
        assert!(error.to_string().contains("no JetStream; start it with -js"), "{error}");
        assert!(!error.kind.is_transient());
    }
    // Signals need none.
    let mut signals = a.subscribe().await.unwrap();
    a.notify(Shard(3)).await.unwrap();
    assert_eq!(signals.next().await, Some(Signal::Happened(Shard(3))));
}

#[tokio::test]
async fn other_credentials_are_told() {
    let server = Server::with(&["--jetstream", "--user", "relive", "--pass", "right"]).await;
    let with = |who: &str| server.url().replace("nats://", &format!("nats://{who}@"));
    for who in ["relive:wrong", "other:right"] {
        let error = refused(NatsOptions::new(&with(who))).await;
        assert_eq!(error.kind, QueueErrorKind::Refused, "{error}");
        assert!(error.to_string().contains("check user, password") && !error.to_string().contains(who), "{error}");
    }
    let a = connect(&with("relive:right"), "relive").await;
    a.prepare().await.unwrap();
}

#[tokio::test]
async fn urls_prefixes_and_limits_that_cannot_be_are_told() {
    let short = QueueLimits { max_age: Duration::from_secs(1), ..QueueLimits::default() };
    for (options, says) in [
        (NatsOptions::new("http://localhost"), "invalid scheme"),
        (NatsOptions::new("nats://"), "nats://host:port"),
        (options("nats://localhost", "a.b"), "cannot be part of a subject"),
        (NatsOptions { limits: short, ..NatsOptions::new("nats://localhost") }, "duplicate window"),
        (
            NatsOptions { credentials: Some("/nowhere/creds".into()), ..NatsOptions::new("nats://localhost") },
            "/nowhere/creds",
        ),
    ] {
        let error = refused(options).await;
        assert_eq!(error.kind, QueueErrorKind::Invalid, "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[tokio::test]
async fn a_stream_with_other_limits_is_left_alone() {
    let (url, prefix) = (shared_server(), fresh_prefix());
    let a = connect(&url, &prefix).await;
    let mail = queue("mail");
    a.publish(&tasks(&mail, 0..1)).await.unwrap();
    wait(&a, &mail, 1).await;
    let other = QueueLimits { max_messages: 7, max_age: Duration::from_secs(3_600), ..limits() };
    let b = NatsQueue::connect(NatsOptions { limits: other, ..options(&url, &prefix) }).await.unwrap();
    for error in [b.prepare().await.unwrap_err(), b.publish(&tasks(&mail, 1..2)).await.unwrap_err()] {
        assert_eq!(error.kind, QueueErrorKind::Mismatch, "{error}");
        for part in
            ["-tasks", "max_msgs is 1000000 and should be 7", "max_age is 86400s and should be 3600s", "delete it"]
        {
            assert!(error.to_string().contains(part), "{error}");
        }
        assert!(!error.to_string().contains("retention"), "{error}");
    }
    let slower = QueueLimits { ack_wait: Duration::from_secs(9), ..limits() };
    let c = NatsQueue::connect(NatsOptions { limits: slower, ..options(&url, &prefix) }).await.unwrap();
    c.prepare().await.unwrap();
    let error = c.fetch(&mail, 1, LONG).await.unwrap_err();
    assert_eq!(error.kind, QueueErrorKind::Mismatch, "{error}");
    assert!(error.to_string().contains("ack_wait is 1.5s and should be 9s"), "{error}");
    // Who was there first goes on.
    a.publish(&tasks(&mail, 1..2)).await.unwrap();
}

#[tokio::test]
async fn subjects_that_another_stream_has_are_told() {
    let (url, prefix) = (shared_server(), fresh_prefix());
    let admin = jetstream::new(raw(&url).await);
    let subjects = vec![format!("{prefix}.>")];
    let foreign = jetstream::stream::Config { name: format!("{prefix}-foreign"), subjects, ..Default::default() };
    admin.create_stream(foreign).await.unwrap();
    let error = connect(&url, &prefix).await.prepare().await.unwrap_err();
    assert_eq!(error.kind, QueueErrorKind::Mismatch, "{error}");
    assert!(error.to_string().contains("overlap"), "{error}");
}

#[tokio::test]
async fn what_is_no_task_is_deleted_from_the_queue() {
    let (url, prefix) = (shared_server(), fresh_prefix());
    let a = connect(&url, &prefix).await;
    let mail = queue("mail");
    a.prepare().await.unwrap();
    let foreign = jetstream::new(raw(&url).await);
    for body in ["", "no task", "{}"] {
        foreign.publish(format!("{prefix}.tasks.default.mail"), body.into()).await.unwrap().await.unwrap();
    }
    a.publish(&tasks(&mail, 0..1)).await.unwrap();
    let mut fetched = relive_core::ports::Fetched::default();
    while fetched.is_empty() {
        fetched = wait(&a, &mail, 10).await;
    }
    assert_eq!(fetched.ready[0].task, task(&mail, 0));
    until("they are deleted", || async {
        let depth = a.depth(&mail).await.unwrap();
        (depth.waiting == 0 && depth.unanswered == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn ids_travel_in_headers() {
    let (url, prefix) = (shared_server(), fresh_prefix());
    let a = connect(&url, &prefix).await;
    let client = raw(&url).await;
    let mut seen = client.subscribe(format!("{prefix}.tasks.>")).await.unwrap();
    client.flush().await.unwrap();
    let mail = queue("mail");
    a.publish(&[TaskMessage { republish: 4, ..task(&mail, 5) }]).await.unwrap();
    let message = in_time("the message", seen.next()).await.unwrap();
    let headers = message.headers.unwrap();
    assert_eq!(headers.get("Nats-Msg-Id").unwrap().as_str(), "77-5:1:4");
    assert_eq!(headers.get("Relive-Correlation-Id").unwrap().as_str(), "order%205");
    assert_eq!(headers.get("Relive-Trace-Id").unwrap().as_str(), "4bf92f3577b34da6a3ce929d0e0e4736");
}

fn event(number: u64, body: &str) -> FeedEvent {
    FeedEvent {
        namespace: Namespace::default(),
        workflow: "order".into(),
        workflow_id: WorkflowId::new("order 1").unwrap(),
        run: run(),
        event_id: number,
        event_type: "activity-completed".into(),
        body: Json::parse(body).unwrap(),
        correlation_id: Some("c-1".into()),
        trace_id: None,
    }
}

fn run() -> RunId {
    "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap()
}

#[tokio::test]
async fn the_feed_publishes_each_event_at_least_once() {
    let (url, prefix) = (shared_server(), fresh_prefix());
    let a = connect(&url, &prefix).await;
    let batch: Vec<_> = (1..=3).map(|number| event(number, &format!(r#"{{"event_id":{number}}}"#))).collect();
    assert_eq!(a.publish_events(&batch).await.unwrap().accepted, 3);
    // The reply was lost: the outbox sends it again.
    assert_eq!(a.publish_events(&batch).await.unwrap().duplicates, 3);
    let large = format!("\"{}\"", "x".repeat(1_048_576));
    a.publish_events(&[event(4, &large)]).await.unwrap();

    let reader = jetstream::new(raw(&url).await).get_stream(format!("{prefix}-events")).await.unwrap();
    let consumer = reader.create_consumer(jetstream::consumer::pull::Config::default()).await.unwrap();
    let messages: Vec<_> = consumer.fetch().max_messages(10).messages().await.unwrap().collect().await;
    let messages: Vec<_> = messages.into_iter().map(Result::unwrap).collect();
    assert_eq!(messages.len(), 4);
    for (number, message) in (1_u64..).zip(&messages) {
        assert_eq!(message.subject.as_str(), format!("{prefix}.events.default.order.activity-completed"));
        let headers = message.headers.as_ref().unwrap();
        let header = |name: &str| headers.get(name).map(|value| value.as_str().to_owned());
        assert_eq!(header("Nats-Msg-Id"), Some(format!("01890a5d-ac96-774b-bcce-b302099a8057:{number}")));
        assert_eq!(header("Relive-Workflow-Id").as_deref(), Some("order%201"));
        assert_eq!(header("Relive-Event-Id"), Some(number.to_string()));
        assert_eq!(header("Relive-Correlation-Id").as_deref(), Some("c-1"));
        assert_eq!(header("Relive-Body").as_deref(), (number == 4).then_some("omitted"));
        let body = if number == 4 { String::new() } else { format!(r#"{{"event_id":{number}}}"#) };
        assert_eq!(message.payload, body);
    }
}

#[tokio::test]
async fn a_feed_whose_limits_an_operator_set_is_used() {
    let (url, prefix) = (shared_server(), fresh_prefix());
    let admin = jetstream::new(raw(&url).await);
    let config = jetstream::stream::Config {
        name: format!("{prefix}-events"),
        subjects: vec![format!("{prefix}.events.*.*.*")],
        max_messages: 2,
        ..Default::default()
    };
    admin.create_stream(config).await.unwrap();
    let batch: Vec<_> = (1..=3).map(|number| event(number, "{}")).collect();
    assert_eq!(connect(&url, &prefix).await.publish_events(&batch).await.unwrap().accepted, 3);
    assert_eq!(admin.get_stream(format!("{prefix}-events")).await.unwrap().cached_info().state.messages, 2);
}
