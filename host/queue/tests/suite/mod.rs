//! The cases. Where time must pass, a fetch of another host that finds nothing lets it pass.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use futures_util::{FutureExt, StreamExt};
use relive_core::{
    Namespace, Shard,
    ports::{Delivery, PublishCount, QueueDepth, QueueErrorKind, QueueName, Receipt, Signal, TaskMessage},
};
use relive_queue::QueueLimits;

use crate::{
    Adapter, Broker, Hosts,
    common::{PATIENCE, limits, queue, take, task, tasks, wait},
};

const NOW: Duration = Duration::ZERO;

async fn one(from: &dyn Broker, queue: &QueueName) -> Delivery {
    let mut fetched = wait(from, queue, 1).await;
    assert!(fetched.exhausted.is_empty(), "{fetched:?}");
    fetched.ready.pop().expect("a delivery")
}

/// Hosts with this many messages in the queue.
async fn with_tasks(adapter: Adapter, queue: &QueueName, count: u64) -> Hosts {
    let hosts = adapter.hosts(limits()).await;
    hosts.a.publish(&tasks(queue, 0..count)).await.unwrap();
    hosts
}

async fn assert_gone(hosts: &Hosts, queue: &QueueName) {
    assert_eq!(hosts.b.depth(queue).await.unwrap(), QueueDepth::default());
    assert!(take(&*hosts.b, queue, 1).await.is_empty());
}

pub async fn messages_come_as_they_were_sent(adapter: Adapter) {
    let (hosts, mail) = (adapter.hosts(limits()).await, queue("mail"));
    let plain = TaskMessage { correlation_id: None, trace_id: None, ..task(&mail, 1) };
    let odd = TaskMessage {
        correlation_id: Some("caf\u{e9} 100 %\r\nNats-Msg-Id: x".into()),
        command_no: 2,
        attempt: u32::MAX,
        ..task(&mail, 2)
    };
    let sent = [plain, odd, task(&mail, 3)];
    assert_eq!(hosts.a.publish(&sent).await.unwrap(), PublishCount { accepted: 3, duplicates: 0 });
    let fetched = wait(&*hosts.b, &mail, 10).await;
    assert_eq!(fetched.ready.iter().map(|delivery| delivery.task.clone()).collect::<Vec<_>>(), sent);
    assert!(fetched.ready.iter().all(|delivery| delivery.number == 1), "{fetched:?}");
}

pub async fn nothing_comes_of_nothing(adapter: Adapter) {
    let (hosts, mail) = (adapter.hosts(limits()).await, queue("mail"));
    assert_eq!(hosts.a.publish(&[]).await.unwrap(), PublishCount::default());
    hosts.a.ensure_consumer(&mail).await.unwrap();
    hosts.a.ensure_consumer(&mail).await.unwrap();
    assert!(take(&*hosts.a, &mail, 10).await.is_empty());
    let began = Instant::now();
    assert!(hosts.a.fetch(&mail, 10, Duration::from_millis(50)).await.unwrap().is_empty());
    assert!(began.elapsed() >= Duration::from_millis(45), "{:?}", began.elapsed());
}

pub async fn a_fetch_waits_for_the_first(adapter: Adapter) {
    let (hosts, mail) = (adapter.hosts(limits()).await, queue("mail"));
    hosts.b.ensure_consumer(&mail).await.unwrap();
    let mut waiting = hosts.b.fetch(&mail, 5, PATIENCE);
    // It is under way before the message is.
    for _ in 0..20 {
        assert!((&mut waiting).now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    let (fetched, sent) = tokio::join!(waiting, async { hosts.a.publish(&[task(&mail, 1)]).await });
    sent.unwrap();
    assert_eq!(fetched.unwrap().ready.len(), 1);
}

pub async fn a_fetch_takes_what_is_there(adapter: Adapter) {
    let mail = queue("mail");
    let hosts = with_tasks(adapter, &mail, 5).await;
    let began = Instant::now();
    let numbers = |fetched: relive_core::ports::Fetched| {
        fetched.ready.iter().map(|delivery| delivery.task.command_no).collect::<Vec<_>>()
    };
    assert_eq!(numbers(hosts.b.fetch(&mail, 3, PATIENCE).await.unwrap()), [0, 1, 2]);
    assert_eq!(numbers(hosts.b.fetch(&mail, 3, PATIENCE).await.unwrap()), [3, 4]);
    assert!(began.elapsed() < PATIENCE / 2, "it waited for a full batch");
}

pub async fn acknowledged_is_gone(adapter: Adapter) {
    let mail = queue("mail");
    let hosts = with_tasks(adapter, &mail, 1).await;
    let delivery = one(&*hosts.a, &mail).await;
    hosts.a.ack(&delivery.receipt).await.unwrap();
    assert_gone(&hosts, &mail).await;
    // Also once its time is over.
    let past = limits().ack_wait + Duration::from_millis(200);
    assert!(hosts.b.fetch(&mail, 1, past).await.unwrap().is_empty());
}

pub async fn acknowledging_late_or_twice_is_no_trouble(adapter: Adapter) {
    let mail = queue("mail");
    let hosts = with_tasks(adapter, &mail, 1).await;
    let first = one(&*hosts.a, &mail).await;
    let second = one(&*hosts.b, &mail).await;
    assert_eq!(second.number, 2);
    hosts.a.ack(&first.receipt).await.unwrap();
    hosts.b.ack(&second.receipt).await.unwrap();
    hosts.b.ack(&second.receipt).await.unwrap();
    for receipt in [&first.receipt, &second.receipt] {
        hosts.a.nak(receipt, NOW).await.unwrap();
        hosts.a.in_progress(receipt).await.unwrap();
        hosts.a.term(receipt).await.unwrap();
    }
    assert_gone(&hosts, &mail).await;
}

pub async fn given_back_comes_again(adapter: Adapter) {
    let mail = queue("mail");
    let hosts = with_tasks(adapter, &mail, 1).await;
    let first = one(&*hosts.a, &mail).await;
    assert!(take(&*hosts.b, &mail, 1).await.is_empty());
    hosts.a.nak(&first.receipt, NOW).await.unwrap();
    let second = one(&*hosts.b, &mail).await;
    assert_eq!((second.number, &second.task), (2, &first.task));
}

pub async fn given_back_with_a_delay_comes_later(adapter: Adapter) {
    let mail = queue("mail");
    let hosts = with_tasks(adapter, &mail, 1).await;
    let first = one(&*hosts.a, &mail).await;
    let (began, delay) = (Instant::now(), Duration::from_millis(300));
    hosts.a.nak(&first.receipt, delay).await.unwrap();
    assert!(take(&*hosts.b, &mail, 1).await.is_empty());
    assert_eq!(one(&*hosts.b, &mail).await.number, 2);
    let took = began.elapsed();
    assert!(took >= delay - Duration::from_millis(20) && took < PATIENCE / 2, "{took:?}");
}

pub async fn a_dead_consumers_message_goes_to_another(adapter: Adapter) {
    let mail = queue("mail");
    let hosts = with_tasks(adapter, &mail, 1).await;
    let Hosts { a, b } = hosts;
    let began = Instant::now();
    let first = one(&*a, &mail).await;
    drop(a);
    let second = one(&*b, &mail).await;
    assert!(began.elapsed() >= limits().ack_wait - Duration::from_millis(50), "{:?}", began.elapsed());
    assert_eq!((second.number, second.task), (2, first.task));
}

pub async fn progress_prolongs(adapter: Adapter) {
    let mail = queue("mail");
    let hosts = with_tasks(adapter, &mail, 1).await;
    let first = one(&*hosts.a, &mail).await;
    for _ in 0..6 {
        let fetched = hosts.b.fetch(&mail, 1, limits().ack_wait / 3).await.unwrap();
        assert!(fetched.is_empty(), "{fetched:?}");
        hosts.a.in_progress(&first.receipt).await.unwrap();
    }
    assert_eq!(one(&*hosts.b, &mail).await.number, 2);
}

pub async fn terminated_is_gone(adapter: Adapter) {
    let mail = queue("mail");
    let hosts = with_tasks(adapter, &mail, 1).await;
    let delivery = one(&*hosts.a, &mail).await;
    hosts.a.term(&delivery.receipt).await.unwrap();
    assert_gone(&hosts, &mail).await;
}

pub async fn exhausted_messages_are_told_until_they_are_terminated(adapter: Adapter) {
    let mail = queue("mail");
    let hosts = with_tasks(adapter, &mail, 1).await;
    for number in 1..=limits().max_deliver {
        let delivery = one(&*hosts.a, &mail).await;
        assert_eq!(delivery.number, number);
        hosts.a.nak(&delivery.receipt, NOW).await.unwrap();
    }
    // A host that dies before it has recorded the failure: another is told.
    let told = wait(&*hosts.a, &mail, 1).await;
    assert!(told.ready.is_empty(), "{told:?}");
    assert_eq!((told.exhausted.len(), told.exhausted[0].number), (1, 4));
    let again = wait(&*hosts.b, &mail, 1).await;
    assert!(again.ready.is_empty(), "{again:?}");
    assert_eq!(again.exhausted[0].task, task(&mail, 0));
    hosts.b.term(&again.exhausted[0].receipt).await.unwrap();
    assert_gone(&hosts, &mail).await;
}

pub async fn duplicates_are_swallowed(adapter: Adapter) {
    let mail = queue("mail");
    let hosts = with_tasks(adapter, &mail, 2).await;
    let count = hosts.b.publish(&tasks(&mail, 0..3)).await.unwrap();
    assert_eq!(count, PublishCount { accepted: 1, duplicates: 2 });
    let fetched = wait(&*hosts.a, &mail, 10).await;
    assert_eq!(fetched.ready.len(), 3, "{fetched:?}");
    for delivery in &fetched.ready {
        hosts.a.ack(&delivery.receipt).await.unwrap();
    }
    // Also of what was done: the id is known for longer than the message.
    assert_eq!(hosts.a.publish(&tasks(&mail, 0..3)).await.unwrap().duplicates, 3);
    assert_gone(&hosts, &mail).await;
}

pub async fn a_republished_message_passes(adapter: Adapter) {
    let mail = queue("mail");
    let hosts = with_tasks(adapter, &mail, 1).await;
    let first = one(&*hosts.a, &mail).await;
    hosts.a.ack(&first.receipt).await.unwrap();
    let again = [
        TaskMessage { republish: 1, ..task(&mail, 0) },
        TaskMessage { attempt: 2, ..task(&mail, 0) },
        TaskMessage { run: relive_core::RunKey(78), ..task(&mail, 0) },
    ];
    assert_eq!(hosts.a.publish(&again).await.unwrap().accepted, 3);
    let fetched = wait(&*hosts.b, &mail, 10).await;
    assert_eq!(fetched.ready.iter().map(|delivery| delivery.task.clone()).collect::<Vec<_>>(), again);
}

pub async fn queues_are_apart(adapter: Adapter) {
    let hosts = adapter.hosts(limits()).await;
    let named =
        |namespace: &str, queue: &str| QueueName { namespace: Namespace::new(namespace).unwrap(), queue: queue.into() };
    let long = "a.".repeat(64);
    let queues = [named("a", "b.c"), named("a.b", "c"), named("a", "b"), named("b", "a"), named(&long, &long)];
    let batch: Vec<_> = (0..).zip(&queues).map(|(number, queue)| task(queue, number)).collect();
    hosts.a.publish(&batch).await.unwrap();
    for (queue, sent) in queues.iter().zip(&batch) {
        let fetched = wait(&*hosts.b, queue, 10).await;
        assert_eq!((fetched.ready.len(), &fetched.ready[0].task), (1, sent));
    }
}

pub async fn two_hosts_fetch_disjointly(adapter: Adapter) {
    const COUNT: usize = 200;
    let mail = queue("mail");
    let hosts = with_tasks(adapter, &mail, COUNT as u64).await;
    let drain = async |host: &dyn Broker| {
        let mut mine = Vec::new();
        loop {
            let fetched = take(host, &mail, 7).await;
            if fetched.is_empty() {
                return mine;
            }
            for delivery in fetched.ready {
                host.ack(&delivery.receipt).await.unwrap();
                mine.push(delivery.task.command_no);
            }
            tokio::task::yield_now().await;
        }
    };
    let (a, b) = tokio::join!(drain(&*hosts.a), drain(&*hosts.b));
    assert!(!a.is_empty() && !b.is_empty(), "one had all: {} and {}", a.len(), b.len());
    assert_eq!(a.len() + b.len(), COUNT);
    assert_eq!(a.iter().chain(&b).collect::<HashSet<_>>().len(), COUNT);
    assert_gone(&hosts, &mail).await;
}

pub async fn a_dropped_fetch_loses_nothing(adapter: Adapter) {
    let (hosts, mail) = (adapter.hosts(limits()).await, queue("mail"));
    let cut = tokio::time::timeout(Duration::from_millis(50), hosts.a.fetch(&mail, 1, PATIENCE)).await;
    assert!(cut.is_err());
    hosts.a.publish(&[task(&mail, 1)]).await.unwrap();
    assert_eq!(one(&*hosts.b, &mail).await.task.command_no, 1);
}

pub async fn a_full_queue_refuses(adapter: Adapter) {
    let mail = queue("mail");
    let hosts = adapter.hosts(QueueLimits { max_messages: 3, ..limits() }).await;
    hosts.a.publish(&tasks(&mail, 0..3)).await.unwrap();
    let error = hosts.a.publish(&tasks(&mail, 3..5)).await.unwrap_err();
    assert_eq!(error.kind, QueueErrorKind::Full, "{error}");
    assert!(error.kind.is_transient());
    let delivery = one(&*hosts.b, &mail).await;
    hosts.b.ack(&delivery.receipt).await.unwrap();
    // What was refused is not taken for known.
    assert_eq!(hosts.a.publish(&tasks(&mail, 3..4)).await.unwrap().accepted, 1);
}

pub async fn foreign_receipts_are_refused(adapter: Adapter) {
    let hosts = adapter.hosts(limits()).await;
    let error = hosts.a.ack(&Receipt("relive.tasks.default.mail".into())).await.unwrap_err();
    assert_eq!(error.kind, QueueErrorKind::Invalid, "{error}");
}

pub async fn the_depth_is_told(adapter: Adapter) {
    let mail = queue("mail");
    let hosts = with_tasks(adapter, &mail, 4).await;
    hosts.a.publish(&tasks(&queue("other"), 10..12)).await.unwrap();
    assert_eq!(hosts.b.depth(&mail).await.unwrap(), QueueDepth { waiting: 4, unanswered: 0 });
    let fetched = wait(&*hosts.a, &mail, 3).await;
    assert_eq!(hosts.b.depth(&mail).await.unwrap(), QueueDepth { waiting: 1, unanswered: 3 });
    hosts.a.ack(&fetched.ready[0].receipt).await.unwrap();
    assert_eq!(hosts.b.depth(&mail).await.unwrap(), QueueDepth { waiting: 1, unanswered: 2 });
    assert_eq!(hosts.b.depth(&queue("unknown")).await.unwrap(), QueueDepth::default());
}

pub async fn hints_arrive(adapter: Adapter) {
    let hosts = adapter.hosts(limits()).await;
    let (mut at_a, mut at_b) = (hosts.a.subscribe().await.unwrap(), hosts.b.subscribe().await.unwrap());
    for shard in [0, 17, 255] {
        hosts.a.notify(Shard(shard)).await.unwrap();
        for listener in [&mut at_a, &mut at_b] {
            assert_eq!(listener.next().await, Some(Signal::Happened(Shard(shard))));
        }
    }
}

pub async fn hints_before_listening_are_gone(adapter: Adapter) {
    let hosts = adapter.hosts(limits()).await;
    hosts.a.notify(Shard(1)).await.unwrap();
    // Whoever sends can know that it was sent by hearing it; here another listener does not.
    let mut late = hosts.a.subscribe().await.unwrap();
    hosts.a.notify(Shard(2)).await.unwrap();
    assert_eq!(late.next().await, Some(Signal::Happened(Shard(2))));
}
