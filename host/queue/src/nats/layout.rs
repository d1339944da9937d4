//! What stands on the server: the streams of tasks and of events, and a consumer a task queue. Made when it is first
//! needed and again when it is gone; never changed: what an operator or another host configured otherwise is an error
//! that says what differs.

use std::{collections::HashSet, sync::Arc, time::Duration};

use async_nats::jetstream::{
    ErrorCode,
    consumer::{AckPolicy, pull},
    context::CreateStreamErrorKind,
    stream::{Config, ConsumerCreateStrictErrorKind, DiscardPolicy, RetentionPolicy, StorageType},
};
use relive_core::ports::{QueueError, QueueErrorKind, QueueName};
use tokio::sync::Mutex;

use super::{link::Link, trouble};

/// A task's message is a reference: names of 128 bytes, ids of 256, the broker's own headers.
const MAX_TASK_BYTES: i32 = 16 * 1_024;
/// Consumers of queues that nobody polls are forgotten; their messages stay.
const FORGET_CONSUMERS_AFTER: Duration = Duration::from_secs(24 * 3_600);
/// Messages of one queue that may be handed out and not answered for: above what all hosts fetch at once.
const MAX_UNANSWERED: i64 = 100_000;
/// Fetches of one queue that may wait at once, over all hosts.
const MAX_WAITING: i64 = 4_096;
/// How long events are kept for those who did not listen, where the host makes their stream.
const KEEP_EVENTS: Duration = Duration::from_secs(7 * 24 * 3_600);

/// What is known to stand.
#[derive(Default)]
struct Known {
    /// The connection that it is known by.
    times_lost: u64,
    tasks: bool,
    events: bool,
    consumers: HashSet<QueueName>,
}

pub(crate) struct Layout {
    link: Arc<Link>,
    known: Mutex<Known>,
}

impl Layout {
    pub fn new(link: Arc<Link>) -> Self {
        Self { link, known: Mutex::default() }
    }

    /// What is still known. After a loss of the connection that is nothing: the server may have been wiped. One caller
    /// at a time makes things; the others find them made.
    async fn known(&self) -> tokio::sync::MutexGuard<'_, Known> {
        let mut known = self.known.lock().await;
        let times_lost = self.link.times_lost();
        if known.times_lost != times_lost {
            *known = Known { times_lost, ..Known::default() };
        }
        known
    }

    /// Something that was known to stand is gone: everything is looked at again.
    pub async fn forget(&self) {
        *self.known.lock().await = Known { times_lost: self.link.times_lost(), ..Known::default() };
    }

    pub async fn task_stream(&self) -> Result<(), QueueError> {
        let mut known = self.known().await;
        if !known.tasks {
            self.make_stream(&self.tasks_wanted(), tasks_differ).await?;
            known.tasks = true;
        }
        Ok(())
    }

    pub async fn event_stream(&self) -> Result<(), QueueError> {
        let mut known = self.known().await;
        if !known.events {
            // How long events are kept, and how many, is the operator's.
            self.make_stream(&self.events_wanted(), |found, wanted| {
                let mut differ = Vec::new();
                tell(&mut differ, "subjects", &found.subjects, &wanted.subjects);
                differ
            })
            .await?;
            known.events = true;
        }
        Ok(())
    }

    pub async fn consumer(&self, queue: &QueueName) -> Result<(), QueueError> {
        for _ in 0..2 {
            self.task_stream().await?;
            let mut known = self.known().await;
            if known.consumers.contains(queue) {
                return Ok(());
            }
            if self.make_consumer(queue).await? {
                known.consumers.insert(queue.clone());
                return Ok(());
            }
            known.tasks = false;
        }
        Err(self.link.unavailable(&making(queue), "the stream of tasks is deleted as soon as it is made"))
    }

    fn tasks_wanted(&self) -> Config {
        let limits = &self.link.options.limits;
        Config {
            name: self.link.names.task_stream(),
            description: Some("Relive: tasks that are ready. Hints; deleting them loses nothing.".to_owned()),
            subjects: vec![self.link.names.all_tasks()],
            retention: RetentionPolicy::WorkQueue,
            storage: StorageType::File,
            discard: DiscardPolicy::New,
            max_messages: i64::from(limits.max_messages),
            max_age: limits.max_age,
            max_message_size: MAX_TASK_BYTES,
            duplicate_window: limits.duplicate_window,
            num_replicas: self.link.options.replicas,
            ..Config::default()
        }
    }

    fn events_wanted(&self) -> Config {
        Config {
            name: self.link.names.event_stream(),
            description: Some("Relive: events of histories, for other systems.".to_owned()),
            subjects: vec![self.link.names.all_events()],
            retention: RetentionPolicy::Limits,
            storage: StorageType::File,
            discard: DiscardPolicy::Old,
            max_age: KEEP_EVENTS,
            duplicate_window: self.link.options.limits.duplicate_window,
            num_replicas: self.link.options.replicas,
            ..Config::default()
        }
    }

    /// Makes a stream, or finds it as it should be.
    async fn make_stream(
        &self,
        wanted: &Config,
        differ: fn(&Config, &Config) -> Vec<String>,
    ) -> Result<(), QueueError> {
        let (link, name) = (&self.link, &wanted.name);
        let action = format!("make the stream {name}");
        let made = link.guarded(&action, link.options.request_timeout, async {
            match link.jetstream.create_stream(wanted).await {
                Ok(_) => Ok(true),
                Err(error) => match error.kind() {
                    CreateStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NAME_EXIST => {
                        Ok(false)
                    }
                    _ => Err(trouble::of_stream(link, &action, &error)),
                },
            }
        });
        if made.await? {
            return Ok(());
        }
        let found = link.guarded(&action, link.options.request_timeout, async {
            let found = link.jetstream.get_stream(name).await;
            found.map_err(|error| link.unavailable(&action, &error.to_string()))
        });
        refuse(&format!("stream {name}"), &differ(&found.await?.cached_info().config, wanted))
    }

    fn consumer_wanted(&self, queue: &QueueName) -> pull::Config {
        pull::Config {
            durable_name: Some(self.link.names.consumer(queue)),
            ack_policy: AckPolicy::Explicit,
            ack_wait: self.link.options.limits.ack_wait,
            // Without a limit: the server would leave an exhausted message where it is and tell nobody who is not
            // listening. Whoever is handed it once more records the failure and deletes it.
            max_deliver: -1,
            filter_subject: self.link.names.task(queue),
            max_ack_pending: MAX_UNANSWERED,
            max_waiting: MAX_WAITING,
            inactive_threshold: FORGET_CONSUMERS_AFTER,
            ..pull::Config::default()
        }
    }

    /// Makes a queue's consumer, or finds it as it should be; false: the stream is gone.
    async fn make_consumer(&self, queue: &QueueName) -> Result<bool, QueueError> {
        let (link, wanted) = (&self.link, self.consumer_wanted(queue));
        let (stream, action) = (link.names.task_stream(), making(queue));
        let made = link.guarded(&action, link.options.request_timeout, async {
            match link.jetstream.create_consumer_strict_on_stream(wanted.clone(), &stream).await {
                Ok(_) => Ok(Some(true)),
                Err(error) if error.kind() == ConsumerCreateStrictErrorKind::AlreadyExists => Ok(None),
                Err(error) => trouble::of_consumer(link, &action, &error).map_or(Ok(Some(false)), Err),
            }
        });
        if let Some(made) = made.await? {
            return Ok(made);
        }
        let name = link.names.consumer(queue);
        let found = link.guarded(&action, link.options.request_timeout, async {
            let found = link.jetstream.get_consumer_from_stream::<pull::Config, _, _>(&name, &stream).await;
            found.map_err(|error| link.unavailable(&action, &error.to_string()))
        });
        let found = found.await?;
        refuse(
            &format!("consumer {name} of the stream {stream}"),
            &consumers_differ(&found.cached_info().config, &wanted),
        )?;
        Ok(true)
    }
}

fn making(queue: &QueueName) -> String {
    format!("make the consumer of the task queue {queue}")
}

fn tell<T: PartialEq + std::fmt::Debug>(differ: &mut Vec<String>, what: &str, found: &T, wanted: &T) {
    if found != wanted {
        differ.push(format!("{what} is {found:?} and should be {wanted:?}"));
    }
}

fn tasks_differ(found: &Config, wanted: &Config) -> Vec<String> {
    let mut differ = Vec::new();
    tell(&mut differ, "subjects", &found.subjects, &wanted.subjects);
    tell(&mut differ, "retention", &found.retention, &wanted.retention);
    tell(&mut differ, "storage", &found.storage, &wanted.storage);
    tell(&mut differ, "discard", &found.discard, &wanted.discard);
    tell(&mut differ, "max_msgs", &found.max_messages, &wanted.max_messages);
    tell(&mut differ, "max_age", &found.max_age, &wanted.max_age);
    tell(&mut differ, "max_msg_size", &found.max_message_size, &wanted.max_message_size);
    tell(&mut differ, "duplicate_window", &found.duplicate_window, &wanted.duplicate_window);
    tell(&mut differ, "num_replicas", &found.num_replicas, &wanted.num_replicas);
    differ
}

fn consumers_differ(found: &async_nats::jetstream::consumer::Config, wanted: &pull::Config) -> Vec<String> {
    let mut differ = Vec::new();
    tell(&mut differ, "filter_subject", &found.filter_subject, &wanted.filter_subject);
    tell(&mut differ, "ack_policy", &found.ack_policy, &wanted.ack_policy);
    tell(&mut differ, "ack_wait", &found.ack_wait, &wanted.ack_wait);
    tell(&mut differ, "max_deliver", &found.max_deliver, &wanted.max_deliver);
    differ
}

fn refuse(what: &str, differ: &[String]) -> Result<(), QueueError> {
    if differ.is_empty() {
        return Ok(());
    }
    let message = format!(
        "the {what} on the NATS server has other settings: {}; give all hosts the same settings, or delete it (it holds nothing that the store does not have)",
        differ.join(", ")
    );
    Err(QueueError::new(QueueErrorKind::Mismatch, message))
}
