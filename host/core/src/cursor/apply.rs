//! The inbound sequence: applying what happened, one event at a time, and handing over waiting messages.

use std::sync::Arc;

use super::{Cursor, Mode, Open, TurnOutput, Unread};
use crate::{
    event::{Attributes, ExecutionStarted, HistoryEvent, SignalReceived},
    failure::{Failure, FailureKind},
    guest::GuestEvent,
    json::Json,
};

impl Cursor {
    /// Begins the turn that applies `event`; what the guest is to be handed, if it concerns it. Start events concern
    /// it by their input, which the caller has.
    pub fn apply(&mut self, event: &HistoryEvent, mode: Mode) -> Option<GuestEvent> {
        debug_assert!(event.event_id > self.last_applied, "inbound events are applied in history order");
        self.mode = mode;
        self.issued_this_turn = 0;
        self.publishes_this_turn = 0;
        self.bytes_this_turn = 0;
        self.now = event.timestamp;
        self.last_applied = event.event_id;
        self.applied_events += 1;
        let promise = event.body.command_no;
        match &event.body.attributes {
            Attributes::ExecutionStarted(start) => {
                self.carry(start);
                None
            }
            Attributes::TaskCompleted(a) => self.resolve(promise?, Ok(a.result.clone())),
            Attributes::TaskFailed(a) => self.resolve(promise?, Err(a.failure.clone())),
            Attributes::TaskCanceled(a) => self.resolve(promise?, Err(a.failure.clone())),
            Attributes::TaskTimedOut(a) => {
                let message = match &a.last_failure {
                    Some(last) => format!("no result in time; the last attempt failed with {last}"),
                    None => "no result in time".to_owned(),
                };
                self.resolve(promise?, Err(Failure::new(FailureKind::Timeout, a.timeout.code(), message)))
            }
            Attributes::TimerFired(_) => self.resolve(promise?, Ok(Json::null())),
            Attributes::SignalReceived(s) => {
                self.queue(s, event.event_id);
                self.next_delivery()
            }
            Attributes::CancelRequested(_) => self.deliver_cancel(),
            _ => None,
        }
    }

    /// What is handed over next without a further event: a waiting message whose channel has a promise (the message
    /// that came first, to the promise that was made first), or a cancel request that the run before did not see.
    pub fn next_delivery(&mut self) -> Option<GuestEvent> {
        let channel = self
            .waiting
            .keys()
            .filter_map(|channel| Some((self.unread.get(channel)?.front()?.order, channel)))
            .min()
            .map(|(_, channel)| channel.clone());
        if let Some(channel) = channel {
            return self.hand_over(&channel);
        }
        if std::mem::take(&mut self.cancel_carried) { self.deliver_cancel() } else { None }
    }

    /// Ends the turn and gives what it left to record.
    pub fn end_turn(&mut self) -> TurnOutput {
        self.mode = Mode::Dormant;
        std::mem::take(&mut self.turn)
    }

    fn hand_over(&mut self, channel: &Arc<str>) -> Option<GuestEvent> {
        let promises = self.waiting.get_mut(channel)?;
        let promise = promises.pop_front()?;
        if promises.is_empty() {
            self.waiting.remove(channel);
        }
        let messages = self.unread.get_mut(channel)?;
        let message = messages.pop_front()?;
        if messages.is_empty() {
            self.unread.remove(channel);
        }
        self.open.remove(&promise);
        Some(GuestEvent::Resolved { promise, message_id: Some(message.message_id), outcome: Ok(message.payload) })
    }

    /// Resolves a promise; a spent one is resolved in silence.
    fn resolve(&mut self, promise: u64, outcome: Result<Json, Failure>) -> Option<GuestEvent> {
        match self.open.get(&promise)? {
            Open::Message { .. } => None,
            Open::Activity { .. } | Open::Timer => {
                self.open.remove(&promise);
                Some(GuestEvent::Resolved { promise, message_id: None, outcome })
            }
        }
    }

    fn deliver_cancel(&mut self) -> Option<GuestEvent> {
        if std::mem::replace(&mut self.cancel_delivered, true) { None } else { Some(GuestEvent::CancelRequested) }
    }

    fn queue(&mut self, signal: &SignalReceived, event_id: u64) {
        let message =
            Unread { order: (event_id, 0), message_id: signal.message_id.clone(), payload: signal.payload.clone() };
        self.unread.entry(signal.channel.clone()).or_default().push_back(message);
    }

    fn carry(&mut self, start: &ExecutionStarted) {
        for (place, m) in (0u32..).zip(&start.carried_messages) {
            let message = Unread { order: (1, place), message_id: m.message_id.clone(), payload: m.payload.clone() };
            self.unread.entry(m.channel.clone()).or_default().push_back(message);
        }
        self.cancel_carried = start.carried_cancel;
    }
}
