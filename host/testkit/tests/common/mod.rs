//! Random programs and a world without an engine: histories are made by hand, event by event.
#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::Arc;

use proptest::prelude::*;
use relive_core::{
    Digest, ExecutionKey, Failure, FailureKind, HistoryEvent, Json, Namespace, RunId, Timestamp, WorkflowId,
    canonical_hash::{GENESIS, chain},
    codec::{Codec, CodecId},
    cursor::{Cursor, Mode, Open, RunContext, TurnOutput},
    event::{
        Attributes, CancelRequested, EventBody, ExecutionCanceled, ExecutionCompleted, ExecutionFailed,
        ExecutionStarted, SignalReceived, TaskCompleted, TaskFailed, TimerFired,
    },
    guest::{Guest, Outcome},
    life::{Life, TurnError},
    limits::RunLimits,
    options::CancellationType,
};
use relive_testkit::model::{ModelGuest, Op};

pub const CHANNELS: [&str; 2] = ["a", "b"];

/// Programs of up to 24 operations, whose handles mostly exist.
pub fn program() -> impl Strategy<Value = Vec<Op>> {
    let cancellation =
        prop_oneof![Just(CancellationType::Try), Just(CancellationType::Wait), Just(CancellationType::Abandon)];
    let name = prop_oneof![Just("echo".to_owned()), Just("ship".to_owned())];
    let handle = 0usize..8;
    let op = prop_oneof![
        4 => (name, "[0-9]{1,3}", cancellation).prop_map(|(name, input, cancellation)| Op::Activity {
            name,
            input: input.trim_start_matches('0').to_owned() + "0",
            cancellation
        }),
        3 => (0u64..50).prop_map(Op::Timer),
        3 => (0usize..2).prop_map(|c| Op::Message(CHANNELS[c].to_owned())),
        6 => handle.clone().prop_map(Op::Await),
        2 => prop::collection::vec(handle.clone(), 1..4).prop_map(Op::AwaitAny),
        1 => handle.prop_map(Op::Cancel),
        1 => Just(Op::Publish("key".to_owned())),
        1 => Just(Op::Log("line".to_owned())),
        1 => (0u32..2).prop_map(|n| Op::Version { id: format!("change-{n}"), min: 1, max: 3 }),
        1 => prop_oneof![Just(Op::Random), Just(Op::Uuid), Just(Op::Now), Just(Op::Info)],
        1 => Just(Op::EndIfCanceled),
    ];
    prop::collection::vec(op, 1..24)
}

/// A history in the making, with the live guest that makes it.
pub struct World {
    pub events: Vec<HistoryEvent>,
    pub live: Life<ModelGuest>,
    pub applied_through: u64,
    hash: [u8; 32],
    clock: u64,
    messages: u64,
}

fn context(program: &[Op]) -> (ExecutionStarted, EventBody) {
    let execution = ExecutionKey {
        namespace: Namespace::default(),
        workflow_id: WorkflowId::new("w").expect("an id"),
        run_id: RunId(uuid_of(7)),
    };
    let start = ExecutionStarted {
        execution,
        workflow: "model".into(),
        export: "model".into(),
        digest: Digest::of(b"model"),
        input: Json::of(&program).expect("JSON"),
        seed: [9; 32],
        limits: RunLimits::default(),
        continued_from: None,
        carried_messages: Vec::new(),
        carried_cancel: false,
        start_key: None,
    };
    (start.clone(), EventBody::new(None, start))
}

fn uuid_of(n: u128) -> uuid::Uuid {
    uuid::Uuid::from_u128(n)
}

/// A life that has not begun, for the run that the events belong to.
pub fn fresh(program: &[Op]) -> Life<ModelGuest> {
    let (start, body) = context(program);
    let run = RunContext::new(&start, &body, Timestamp(1_000), start.digest);
    Life::new(ModelGuest::new(Cursor::new(Arc::new(run))))
}

impl World {
    /// The run has started and its first turn is committed.
    pub fn begin(program: &[Op]) -> Self {
        let (_, body) = context(program);
        let mut world = Self {
            events: Vec::new(),
            live: fresh(program),
            applied_through: 0,
            hash: GENESIS,
            clock: 1_000,
            messages: 0,
        };
        world.push(body);
        world.catch_up().expect("the first turn");
        world
    }

    pub fn push(&mut self, body: EventBody) -> u64 {
        let mut bytes = Vec::new();
        CodecId::Postcard.encode(&body, &mut bytes).expect("encodes");
        let event_id = self.events.len() as u64 + 1;
        self.clock = (self.clock + 1_000_000).max(self.deadline(&body));
        let timestamp = Timestamp(self.clock);
        self.hash = chain(&self.hash, event_id, timestamp, body.event_type().code(), 2, 1, &bytes);
        self.events.push(HistoryEvent { event_id, timestamp, event_version: 1, body, hash: self.hash });
        event_id
    }

    /// A timer never fires early.
    fn deadline(&self, body: &EventBody) -> u64 {
        let created = self.events.iter().filter(|e| e.body.command_no == body.command_no);
        let deadlines = created.filter_map(|e| match &e.body.attributes {
            Attributes::TimerCreated(t) => Some(t.deadline.0),
            _ => None,
        });
        if matches!(body.attributes, Attributes::TimerFired(_)) { deadlines.max().unwrap_or(0) } else { 0 }
    }

    /// Lives every inbound event that is committed and not applied.
    pub fn catch_up(&mut self) -> Result<(), TurnError> {
        let waiting: Vec<HistoryEvent> = self
            .events
            .iter()
            .filter(|e| e.event_id > self.applied_through && e.event_type().is_inbound())
            .cloned()
            .collect();
        for event in waiting {
            let output = self.live.turn(&event, Mode::Live)?;
            self.applied_through = event.event_id;
            self.record(output);
            if self.live.outcome().is_some() {
                self.end();
                break;
            }
        }
        Ok(())
    }

    /// The terminal event is committed with the turn that ended the run.
    fn end(&mut self) {
        let canceled = self.live.guest().cursor().cancel_delivered();
        let terminal: Attributes = match self.live.outcome().cloned() {
            Some(Outcome::Completed(result)) => ExecutionCompleted { result }.into(),
            Some(Outcome::Failed(failure)) if canceled && failure.kind == FailureKind::Canceled => {
                ExecutionCanceled { failure }.into()
            }
            Some(Outcome::Failed(failure)) => ExecutionFailed { failure }.into(),
            _ => return,
        };
        self.push(EventBody::new(None, terminal));
    }

    fn record(&mut self, output: TurnOutput) {
        for body in output.commands {
            self.push(body);
        }
    }

    /// Something happens, as `choice` says; it is committed and not applied.
    pub fn happen(&mut self, choice: u8) {
        let open: Vec<(u64, Open)> = self.live.guest().cursor().open().iter().map(|(n, o)| (*n, o.clone())).collect();
        let body = match choice % 8 {
            0 => EventBody::new(None, CancelRequested { reason: "test".into() }),
            1 | 2 => self.message(CHANNELS[usize::from(choice / 8) % 2]),
            _ => match open.get(usize::from(choice) % open.len().max(1)) {
                Some((no, Open::Activity { .. })) if choice.is_multiple_of(5) => {
                    let failure = Failure::new(FailureKind::Application, "broken", "as told");
                    EventBody::new(Some(*no), TaskFailed { attempt: 1, failure })
                }
                Some((no, Open::Activity { .. })) => {
                    EventBody::new(Some(*no), TaskCompleted { attempt: 1, result: Json::of(&choice).expect("JSON") })
                }
                Some((no, Open::Timer)) => EventBody::new(Some(*no), TimerFired {}),
                Some((_, Open::Message { channel })) => {
                    let channel = channel.to_string();
                    self.message(&channel)
                }
                None => self.message("a"),
            },
        };
        let key = body.inbound_key();
        if self.events.iter().all(|e| e.body.inbound_key() != key) {
            self.push(body);
        }
    }

    fn message(&mut self, channel: &str) -> EventBody {
        self.messages += 1;
        EventBody::new(
            None,
            SignalReceived {
                channel: channel.into(),
                message_id: format!("m{}", self.messages).into(),
                payload: Json::of(&self.messages).expect("JSON"),
            },
        )
    }

    pub fn memory(&mut self) -> Vec<u8> {
        self.live.guest().memory().expect("a memory").to_vec()
    }

    pub fn issued(&mut self) -> u64 {
        self.live.guest().cursor().issued()
    }
}

/// Numbered commands of a history, in the order recorded.
pub fn commands(events: &[HistoryEvent]) -> Vec<(u64, Attributes)> {
    let numbered = events.iter().filter(|e| e.event_type().is_numbered_command());
    numbered.map(|e| (e.body.command_no.unwrap_or(0), e.body.attributes.clone())).collect()
}
