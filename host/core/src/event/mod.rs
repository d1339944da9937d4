//! The closed set of events that a history is made of. Each type has its own attributes; each is really emitted.
//!
//! The numbers are what stores keep: they are never reused. Adding a field to a type means a new `event_version` of
//! it and an upcast in [`crate::codec`].

mod activity;
mod marker;
mod old;
mod operator;
mod signal;
mod snapshot;
mod timer;
mod workflow;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

pub use activity::{
    TaskCancelRequested, TaskCanceled, TaskCompleted, TaskExhausted, TaskFailed, TaskRetryScheduled, TaskScheduled,
    TaskStarted, TaskTimedOut, TimeoutType,
};
pub use marker::VersionRecorded;
pub(crate) use old::ExecutionStartedV1;
pub use operator::CommandIssued;
pub use signal::SignalReceived;
pub use snapshot::{SnapshotCreated, SnapshotDiscarded};
pub use timer::{TimerCanceled, TimerCreated, TimerFired};
pub use workflow::{
    BlockReason, CancelRequested, CarriedMessage, ExecutionBlocked, ExecutionCanceled, ExecutionCompleted,
    ExecutionContinuedAsNew, ExecutionFailed, ExecutionForked, ExecutionStarted, ExecutionTerminated,
    ExecutionUnblocked, StartKey, VersionChanged,
};

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Category {
    Workflow,
    Activity,
    Timer,
    Signal,
    Marker,
    Snapshot,
    Operator,
}

/// Why an event exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventClass {
    /// The guest asked.
    Command,
    /// Something happened outside; the cursor applies it.
    Inbound,
    /// An operator or the host decided; the guest never sees it.
    Control,
}

macro_rules! events {
    (@held $name:ident) => { $name };
    (@held $name:ident boxed) => { Box<$name> };
    ($($code:literal $name:ident $category:ident $class:ident $($boxed:ident)?;)*) => {
        /// The type of an event; the discriminant is its stored number.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[repr(u16)]
        pub enum EventType { $($name = $code),* }

        /// An event's type together with its attributes.
        #[derive(Clone, Debug, PartialEq, Serialize)]
        #[serde(tag = "event_type", content = "attributes")]
        pub enum Attributes { $($name(events!(@held $name $($boxed)?))),* }

        impl EventType {
            /// All types, by number.
            pub const ALL: &'static [EventType] = &[$(EventType::$name),*];

            /// The stored number.
            #[must_use]
            pub fn code(self) -> u16 { self as u16 }

            /// The type of a stored number.
            #[must_use]
            pub fn from_code(code: u16) -> Option<Self> {
                match code { $($code => Some(Self::$name),)* _ => None }
            }

            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),* }
            }

            #[must_use]
            pub fn category(self) -> Category {
                match self { $(Self::$name => Category::$category),* }
            }

            #[must_use]
            pub fn class(self) -> EventClass {
                match self { $(Self::$name => EventClass::$class),* }
            }
        }

        impl Attributes {
            #[must_use]
            pub fn event_type(&self) -> EventType {
                match self { $(Self::$name(_) => EventType::$name),* }
            }

            /// Hands the attributes to `codec` by type.
            pub(crate) fn encode_with<C: crate::codec::Format>(&self, out: &mut Vec<u8>) -> Result<(), crate::codec::CodecError> {
                match self { $(Self::$name(a) => C::encode(a, out)),* }
            }

            pub(crate) fn decode_with<C: crate::codec::Format>(ty: EventType, bytes: &[u8]) -> Result<Self, crate::codec::CodecError> {
                Ok(match ty { $(EventType::$name => Self::$name(C::decode(bytes)?)),* })
            }
        }

        $(impl From<$name> for Attributes {
            fn from(a: $name) -> Self { Self::$name(a.into()) }
        })*
    };
}

events! {
    // Boxed: it is there once, and would make every event as large as itself.
    1  ExecutionStarted        Workflow Inbound boxed;
    2  ExecutionCompleted      Workflow Command;
    3  ExecutionFailed         Workflow Command;
    4  ExecutionCanceled       Workflow Command;
    5  ExecutionTerminated     Workflow Control;
    6  ExecutionContinuedAsNew Workflow Command;
    7  CancelRequested         Workflow Inbound;
    8  ExecutionBlocked        Workflow Control;
    9  ExecutionUnblocked      Workflow Control;
    10 ExecutionForked         Workflow Control;
    11 VersionChanged          Workflow Control;
    20 TaskScheduled           Activity Command;
    21 TaskCompleted           Activity Inbound;
    22 TaskFailed              Activity Inbound;
    23 TaskTimedOut            Activity Inbound;
    24 TaskCancelRequested     Activity Command;
    25 TaskCanceled            Activity Inbound;
    26 TaskRetryScheduled      Activity Control;
    27 TaskStarted             Activity Control;
    28 TaskExhausted           Activity Control;
    40 TimerCreated            Timer    Command;
    41 TimerFired              Timer    Inbound;
    42 TimerCanceled           Timer    Command;
    60 SignalReceived          Signal   Inbound;
    80 VersionRecorded         Marker   Command;
    90 SnapshotCreated         Snapshot Control;
    91 SnapshotDiscarded       Snapshot Control;
    100 CommandIssued          Operator Control;
}

impl std::fmt::Display for EventType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl EventType {
    /// Whether the run ends with this event.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::ExecutionCompleted
                | Self::ExecutionFailed
                | Self::ExecutionCanceled
                | Self::ExecutionTerminated
                | Self::ExecutionContinuedAsNew
        )
    }

    /// Whether the event carries the number of the command that *made* it (and not of one that it resolves).
    #[must_use]
    pub fn is_numbered_command(self) -> bool {
        matches!(self, Self::TaskScheduled | Self::TaskCancelRequested | Self::TimerCreated | Self::TimerCanceled)
    }

    /// Whether the event resolves a command: its `command_no` is the promise.
    #[must_use]
    pub fn is_resolution(self) -> bool {
        matches!(
            self,
            Self::TaskCompleted | Self::TaskFailed | Self::TaskTimedOut | Self::TaskCanceled | Self::TimerFired
        )
    }

    #[must_use]
    pub fn is_inbound(self) -> bool {
        self.class() == EventClass::Inbound
    }

    #[must_use]
    pub fn is_command(self) -> bool {
        self.class() == EventClass::Command
    }

    #[must_use]
    pub fn is_control(self) -> bool {
        self.class() == EventClass::Control
    }
}

/// What is encoded of an event: everything that the chain's other columns do not hold.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EventBody {
    /// The command that made this event, or that it resolves.
    pub command_no: Option<u64>,
    /// The event that led to this one, where it is not obvious.
    pub parent_event_id: Option<u64>,
    pub is_reset_point: bool,
    pub is_retry: bool,
    pub task_queue: Option<Arc<str>>,
    /// The trace (32 hexadecimal digits) of the request that brought the event; of a start event also the run's, which
    /// its activities name again. Absent where nobody traces.
    pub trace_id: Option<Arc<str>>,
    /// Inherited from the start event where it is absent.
    pub correlation_id: Option<Arc<str>>,
    #[serde(flatten)]
    pub attributes: Attributes,
}

impl EventBody {
    /// A body with nothing but its attributes and command number.
    #[must_use]
    pub fn new(command_no: Option<u64>, attributes: impl Into<Attributes>) -> Self {
        Self {
            command_no,
            parent_event_id: None,
            is_reset_point: false,
            is_retry: false,
            task_queue: None,
            trace_id: None,
            correlation_id: None,
            attributes: attributes.into(),
        }
    }

    #[must_use]
    pub fn event_type(&self) -> EventType {
        self.attributes.event_type()
    }

    /// The unique key of an inbound event, made before the first try to append it: a retry finds its own event by it.
    #[must_use]
    pub fn inbound_key(&self) -> Option<String> {
        let no = self.command_no.unwrap_or(0);
        match &self.attributes {
            Attributes::ExecutionStarted(_) => Some("start".to_owned()),
            Attributes::CancelRequested(_) => Some("cancel".to_owned()),
            Attributes::TaskCompleted(_)
            | Attributes::TaskFailed(_)
            | Attributes::TaskTimedOut(_)
            | Attributes::TaskCanceled(_) => Some(format!("a:{no}")),
            Attributes::TimerFired(_) => Some(format!("t:{no}")),
            Attributes::SignalReceived(s) => Some(format!("m:{}", s.message_id)),
            _ => None,
        }
    }
}

/// One event of a history, decoded.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HistoryEvent {
    /// From 1, without gaps.
    pub event_id: u64,
    pub timestamp: Timestamp,
    /// The version of the type's attributes that was stored.
    pub event_version: u16,
    #[serde(flatten)]
    pub body: EventBody,
    /// The chain up to and including this event.
    #[serde(serialize_with = "crate::canonical_hash::serialize_hex")]
    pub hash: [u8; 32],
}

impl HistoryEvent {
    #[must_use]
    pub fn event_type(&self) -> EventType {
        self.body.event_type()
    }

    #[must_use]
    pub fn category(&self) -> Category {
        self.event_type().category()
    }
}
