//! One attempt, as the activity sees it: what it is about, heartbeats, and the wish that it stop.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use tokio::sync::watch;

use crate::{
    client::Client,
    failure::{Failure, WorkerError},
    wire::{BeatForm, Beaten, TaskForm},
};

/// Heartbeats that come more often are put together: a third of the timeout, at most this.
const MOST_BETWEEN_BEATS: Duration = Duration::from_secs(10);

/// Why an attempt should stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    No,
    /// Its answer is awaited.
    Asked,
    /// Nobody waits for its answer.
    Gone,
}

struct Inner {
    form: TaskForm,
    client: Client,
    stop: watch::Sender<Stop>,
    beats: Mutex<Beats>,
}

#[derive(Default)]
struct Beats {
    sent: Option<Instant>,
    /// What came since, for the next one.
    latest: Option<Box<RawValue>>,
    /// A beat is on its way, or will be.
    scheduled: bool,
}

/// An attempt. Cheap to clone.
#[derive(Clone)]
pub struct Task(Arc<Inner>);

impl Task {
    pub(crate) fn new(form: TaskForm, client: Client) -> Self {
        Self(Arc::new(Inner { form, client, stop: watch::Sender::new(Stop::No), beats: Mutex::default() }))
    }

    /// The activity's name.
    #[must_use]
    pub fn activity(&self) -> &str {
        &self.0.form.activity
    }

    /// From 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.0.form.attempt
    }

    /// 0: without end.
    #[must_use]
    pub fn maximum_attempts(&self) -> u32 {
        self.0.form.maximum_attempts
    }

    /// The same for all attempts of the step.
    #[must_use]
    pub fn idempotency_key(&self) -> &str {
        &self.0.form.idempotency_key
    }

    #[must_use]
    pub fn workflow(&self) -> &str {
        &self.0.form.workflow
    }

    #[must_use]
    pub fn workflow_id(&self) -> &str {
        &self.0.form.workflow_id
    }

    #[must_use]
    pub fn run_id(&self) -> &str {
        &self.0.form.run_id
    }

    #[must_use]
    pub fn correlation_id(&self) -> Option<&str> {
        self.0.form.correlation_id.as_deref()
    }

    /// The attempt's span (W3C Trace Context), to be handed on to what it calls.
    #[must_use]
    pub fn traceparent(&self) -> Option<&str> {
        self.0.form.traceparent.as_deref()
    }

    /// How long the attempt has, counted from when the host gave it away.
    #[must_use]
    pub fn start_to_close(&self) -> Duration {
        Duration::from_millis(self.0.form.start_to_close_ms)
    }

    /// Whoever has it may answer for the attempt.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.0.form.token
    }

    /// The input as the workflow gave it.
    #[must_use]
    pub fn input(&self) -> &RawValue {
        &self.0.form.input
    }

    /// What the last heartbeat of an attempt before told, if it is of this shape.
    #[must_use]
    pub fn heartbeat_details<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_str(self.0.form.heartbeat_details.as_ref()?.get()).ok()
    }

    /// Tells the host that the attempt goes on, and how far it came. May be called as often as you like: the host hears
    /// of the latest at least every third of the heartbeat timeout. An error is the wish that the attempt stop.
    pub fn heartbeat(&self, details: &impl Serialize) -> Result<(), Failure> {
        let details = serde_json::value::to_raw_value(details)
            .map_err(|e| Failure::new("heartbeat-details", e.to_string()).permanent())?;
        self.schedule_beat(Some(details))
    }

    /// The same without saying how far it came: what the last one said stays.
    pub fn alive(&self) -> Result<(), Failure> {
        self.schedule_beat(None)
    }

    fn schedule_beat(&self, details: Option<Box<RawValue>>) -> Result<(), Failure> {
        let mut beats = self.0.beats.lock();
        beats.latest = details.or(beats.latest.take());
        if !std::mem::replace(&mut beats.scheduled, true) {
            let between = self.beat_every();
            let since = beats.sent.map_or(between, |at| at.elapsed());
            tokio::spawn(self.clone().beat_after(between.saturating_sub(since)));
        }
        drop(beats);
        if self.is_canceled() { Err(Failure::canceled()) } else { Ok(()) }
    }

    /// How often the host hears of the attempt, if it is told that often.
    #[must_use]
    pub fn beat_every(&self) -> Duration {
        let timeout = self.0.form.heartbeat_timeout_ms.map_or(MOST_BETWEEN_BEATS * 3, Duration::from_millis);
        (timeout / 3).min(MOST_BETWEEN_BEATS)
    }

    async fn beat_after(self, pause: Duration) {
        tokio::time::sleep(pause).await;
        let details = {
            let mut beats = self.0.beats.lock();
            (beats.scheduled, beats.sent) = (false, Some(Instant::now()));
            beats.latest.take()
        };
        if let Err(error) = self.beat(details.as_deref()).await {
            tracing::warn!(activity = self.activity(), %error, "a heartbeat was not heard");
        }
    }

    /// One heartbeat, now.
    async fn beat(&self, details: Option<&RawValue>) -> Result<(), WorkerError> {
        let path = ["tasks", self.token(), "heartbeat"];
        let beaten: Beaten = self.0.client.post(&path, &BeatForm { details }, Duration::ZERO).await?;
        match (beaten.gone, beaten.cancel_requested) {
            (true, _) => drop(self.0.stop.send_replace(Stop::Gone)),
            (false, true) => drop(self.0.stop.send_replace(Stop::Asked)),
            (false, false) => {}
        }
        Ok(())
    }

    /// Whether somebody asked that the attempt stop, or nobody waits for it. Known from heartbeats.
    #[must_use]
    pub fn is_canceled(&self) -> bool {
        *self.0.stop.borrow() != Stop::No
    }

    /// Waits until the attempt should stop.
    pub async fn canceled(&self) {
        let mut stop = self.0.stop.subscribe();
        let _ = stop.wait_for(|stop| *stop != Stop::No).await;
    }

    pub(crate) async fn gone(&self) {
        let mut stop = self.0.stop.subscribe();
        let _ = stop.wait_for(|stop| *stop == Stop::Gone).await;
    }
}
