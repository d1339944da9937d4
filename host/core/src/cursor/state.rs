//! A cursor between two turns as plain values, for memory images: bounded by what is open, not by what is past.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Cursor, Mode, Open, RunContext, Unread};
use crate::{
    event::{Attributes, EventBody},
    time::Timestamp,
};

/// Where a cursor stands. What the history holds is not repeated: an unread message is the place of its event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CursorState {
    pub now: Timestamp,
    /// The id of the last inbound event applied.
    pub last_applied: u64,
    pub applied_events: u64,
    /// Commands issued so far.
    pub issued: u64,
    pub versions: BTreeMap<String, u32>,
    /// Promises that are not spent, by number.
    pub open: Vec<(u64, Open)>,
    /// Messages that no promise has taken: the event that brought each, and the place within a start event.
    pub unread: Vec<(u64, u32)>,
    pub cancel_delivered: bool,
    pub cancel_carried: bool,
    /// 32-bit words drawn from the durable random stream.
    pub durable_position: u128,
}

/// Why a cursor cannot stand where a state says: the history is another one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("event {0} holds no message")]
pub struct NoMessage(pub u64);

impl Cursor {
    /// The state between two turns; `None` while history is still being matched.
    #[must_use]
    pub fn state(&self) -> Option<CursorState> {
        if !self.recorded.is_empty() || self.mode != Mode::Dormant || self.divergence.is_some() {
            return None;
        }
        let mut unread: Vec<(u64, u32)> = self.unread.values().flatten().map(|m| m.order).collect();
        unread.sort_unstable();
        Some(CursorState {
            now: self.now,
            last_applied: self.last_applied,
            applied_events: self.applied_events,
            issued: self.issued,
            versions: self.versions.clone(),
            open: self.open.iter().map(|(no, open)| (*no, open.clone())).collect(),
            unread,
            cancel_delivered: self.cancel_delivered,
            cancel_carried: self.cancel_carried,
            durable_position: self.durable.position(),
        })
    }

    /// A cursor that stands where `state` says. `bodies` holds the events that brought its unread messages.
    pub fn restore(
        run: Arc<RunContext>,
        state: &CursorState,
        bodies: &BTreeMap<u64, EventBody>,
    ) -> Result<Self, NoMessage> {
        let mut cursor = Self::new(run);
        cursor.now = state.now;
        cursor.last_applied = state.last_applied;
        cursor.applied_events = state.applied_events;
        cursor.issued = state.issued;
        cursor.versions = state.versions.clone();
        cursor.cancel_delivered = state.cancel_delivered;
        cursor.cancel_carried = state.cancel_carried;
        cursor.durable.set_position(state.durable_position);
        for (no, open) in &state.open {
            if let Open::Message { channel } = open {
                // A promise is made behind those before it and leaves from anywhere: numbers ascend in each channel.
                cursor.waiting.entry(channel.clone()).or_default().push_back(*no);
            }
            cursor.open.insert(*no, open.clone());
        }
        for (event_id, place) in &state.unread {
            let message = bodies.get(event_id).and_then(|body| message(body, *event_id, *place));
            let (channel, message) = message.ok_or(NoMessage(*event_id))?;
            cursor.unread.entry(channel).or_default().push_back(message);
        }
        Ok(cursor)
    }
}

fn message(body: &EventBody, event_id: u64, place: u32) -> Option<(Arc<str>, Unread)> {
    let (channel, message_id, payload) = match &body.attributes {
        Attributes::SignalReceived(s) => (&s.channel, &s.message_id, &s.payload),
        Attributes::ExecutionStarted(start) => {
            let m = start.carried_messages.get(place as usize)?;
            (&m.channel, &m.message_id, &m.payload)
        }
        _ => return None,
    };
    let message = Unread { order: (event_id, place), message_id: message_id.clone(), payload: payload.clone() };
    Some((channel.clone(), message))
}
