//! I13 on the real sandbox: the memory of a relived guest equals the live one's, byte for byte, wherever it stands.
//! Random programs run in the `script` guest, and orders in the `order` guest, in a world without an engine: histories
//! are made by hand, event by event, and after each turn the guest's memory is taken. Then the history is relived to
//! each of these places in a fresh instance.

use std::sync::{Arc, OnceLock};

use proptest::{prelude::*, test_runner::TestRunner};
use relive_core::{
    Digest, ExecutionKey, Failure, FailureKind, HistoryEvent, Json, Namespace, RunId, Timestamp, WorkflowId,
    canonical_hash::{GENESIS, chain},
    codec::{Codec, CodecId},
    cursor::{Cursor, CursorState, Mode, Open, RunContext},
    event::{
        Attributes, CancelRequested, EventBody, ExecutionCanceled, ExecutionCompleted, ExecutionFailed,
        ExecutionStarted, SignalReceived, TaskCompleted, TaskFailed, TimerFired,
    },
    guest::{Captured, Guest, Outcome},
    history::validate,
    life::{Life, Record},
    limits::RunLimits,
};
use relive_sandbox::{AdmittedComponent, LoadedComponent, ReactorGuest, Sandbox, SandboxConfig};
use relive_testkit::guests;
use serde_json::{Value, json};

fn load(name: &str) -> LoadedComponent {
    static SANDBOX: OnceLock<Sandbox> = OnceLock::new();
    let sandbox = SANDBOX.get_or_init(|| Sandbox::new(SandboxConfig::in_process()).expect("a sandbox"));
    match sandbox.admit(&guests::bytes(name)).expect("admitted").component {
        AdmittedComponent::Workflow(loaded) => loaded,
        AdmittedComponent::Activity(_) => panic!("{name} is an activity"),
    }
}

fn script() -> &'static LoadedComponent {
    static LOADED: OnceLock<LoadedComponent> = OnceLock::new();
    LOADED.get_or_init(|| load("script/script.wasm"))
}

fn order() -> &'static LoadedComponent {
    static LOADED: OnceLock<LoadedComponent> = OnceLock::new();
    LOADED.get_or_init(|| load("order/order_workflow.wasm"))
}

/// The other examples, each with an input that takes it through all of it.
fn example(n: usize) -> (&'static LoadedComponent, &'static str, Value) {
    static LOADED: OnceLock<[LoadedComponent; 5]> = OnceLock::new();
    const FILES: [&str; 5] = [
        "hello/hello.wasm",
        "approval/approval_workflow.wasm",
        "fan-out/fan_out_workflow.wasm",
        "long-runner/long_runner_workflow.wasm",
        "steps/steps.wasm",
    ];
    let (workflow, input) = match n {
        0 => ("hello", json!({"name": "Ada"})),
        1 => ("approval", json!({"subject": "trip", "requested_by": "ada", "approver": "grace", "timeout_ms": 50})),
        2 => ("fan-out", json!({"count": 12, "rounds": 1})),
        3 => ("long-runner", json!({"steps": 12})),
        _ => ("steps_then_wait", json!({"steps": 6, "payload_bytes": 200})),
    };
    (&LOADED.get_or_init(|| FILES.map(load))[n], workflow, input)
}

/// Where the live guest stood after a turn, and the record of that moment.
struct Stand {
    applied_through: u64,
    commands: u64,
    /// Events that were recorded by then.
    events: usize,
    memory: Vec<u8>,
    /// What an image taken there holds; none once the run has ended, or while something waits to be applied.
    image: Option<(CursorState, Captured)>,
}

/// A history in the making, with the live guest that makes it.
struct World {
    loaded: &'static LoadedComponent,
    start: ExecutionStarted,
    events: Vec<HistoryEvent>,
    live: Life<ReactorGuest>,
    stands: Vec<Stand>,
    hash: [u8; 32],
    clock: u64,
    messages: u64,
    committed_through: u64,
}

impl World {
    fn begin(loaded: &'static LoadedComponent, workflow: &str, input: &Value) -> Self {
        let execution = ExecutionKey {
            namespace: Namespace::default(),
            workflow_id: WorkflowId::new("w").expect("an id"),
            run_id: RunId(uuid::Uuid::from_u128(7)),
        };
        let start = ExecutionStarted {
            execution,
            workflow: workflow.into(),
            export: workflow.into(),
            digest: Digest::of(b"any"),
            input: Json::of(input).expect("JSON"),
            seed: [9; 32],
            limits: RunLimits::default(),
            continued_from: None,
            carried_messages: Vec::new(),
            carried_cancel: false,
            start_key: None,
        };
        let live = fresh(loaded, &start);
        let mut world = Self {
            loaded,
            start: start.clone(),
            events: Vec::new(),
            live,
            stands: Vec::new(),
            hash: GENESIS,
            clock: 1_000,
            messages: 0,
            committed_through: 0,
        };
        world.push(EventBody::new(None, start));
        world.catch_up();
        world
    }

    fn push(&mut self, body: EventBody) {
        let mut bytes = Vec::new();
        CodecId::Postcard.encode(&body, &mut bytes).expect("encodes");
        let event_id = self.events.len() as u64 + 1;
        self.clock = (self.clock + 1_000_000).max(self.deadline(&body));
        let timestamp = Timestamp(self.clock);
        self.hash = chain(&self.hash, event_id, timestamp, body.event_type().code(), 2, 1, &bytes);
        self.events.push(HistoryEvent { event_id, timestamp, event_version: 1, body, hash: self.hash });
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

    /// Lives what is recorded and not applied, a turn an event, and takes the memory after each.
    fn catch_up(&mut self) {
        loop {
            let next = self.events.iter().find(|e| e.event_id > self.committed_through && e.event_type().is_inbound());
            let Some(event) = next.cloned() else { break };
            let output = self.live.turn(&event, Mode::Live).expect("a live turn");
            self.committed_through = event.event_id;
            for body in output.commands {
                self.push(body);
            }
            let ended = self.end();
            let commands = self.live.guest().cursor().issued();
            let memory = memory(&mut self.live);
            let through = self.committed_through;
            let settled = !self.events.iter().any(|e| e.event_id > through && e.event_type().is_inbound());
            let state = self.live.guest().cursor().state().filter(|_| settled && !ended);
            let image = state.map(|s| (s, self.live.guest().capture().expect("a capture").expect("an image")));
            let (applied_through, events) = (self.committed_through, self.events.len());
            self.stands.push(Stand { applied_through, commands, events, memory, image });
            if ended {
                break;
            }
        }
    }

    /// The terminal event is recorded with the turn that ended the run.
    fn end(&mut self) -> bool {
        let canceled = self.live.guest().cursor().cancel_delivered();
        let terminal: Attributes = match self.live.outcome().cloned() {
            Some(Outcome::Completed(result)) => ExecutionCompleted { result }.into(),
            Some(Outcome::Failed(failure)) if canceled && failure.kind == FailureKind::Canceled => {
                ExecutionCanceled { failure }.into()
            }
            Some(Outcome::Failed(failure)) => ExecutionFailed { failure }.into(),
            _ => return false,
        };
        self.push(EventBody::new(None, terminal));
        true
    }

    /// Something happens to an open promise, as `choice` says; or a message comes, or a wish to cancel.
    fn happen(&mut self, choice: u8) {
        let open: Vec<(u64, Open)> = self.live.guest().cursor().open().iter().map(|(n, o)| (*n, o.clone())).collect();
        let body = match (choice % 16, open.get(usize::from(choice) % open.len().max(1))) {
            (0, _) => EventBody::new(None, CancelRequested { reason: "test".into() }),
            (1 | 2, _) | (_, None) => self.message(["a", "b"][usize::from(choice / 16) % 2]),
            (3, Some((no, Open::Activity { .. }))) => {
                let failure = Failure::new(FailureKind::Application, "broken", "as told");
                EventBody::new(Some(*no), TaskFailed { attempt: 1, failure })
            }
            (_, Some((no, Open::Activity { .. }))) => EventBody::new(Some(*no), completed(*no, choice)),
            (_, Some((no, Open::Timer))) => EventBody::new(Some(*no), TimerFired {}),
            (_, Some((_, Open::Message { channel }))) => {
                let channel = channel.to_string();
                self.message(&channel)
            }
        };
        let key = body.inbound_key();
        if self.events.iter().all(|e| e.body.inbound_key() != key) {
            self.push(body);
        }
    }

    fn message(&mut self, channel: &str) -> EventBody {
        self.messages += 1;
        let message_id = format!("m{}", self.messages).into();
        let payload = Json::of(&self.messages).expect("JSON");
        EventBody::new(None, SignalReceived { channel: channel.into(), message_id, payload })
    }

    /// Relives to every place where the live guest stood, and holds memory, open promises and commands against it.
    fn check(&mut self) -> Result<(), TestCaseError> {
        for stand in &self.stands {
            let record = Record::Complete { applied_through: stand.applied_through, commands: stand.commands };
            let mut relived = fresh(self.loaded, &self.start);
            relived.relive(&self.events[..stand.events], record, u64::MAX).expect("replay agrees");
            let again = memory(&mut relived);
            let differs = again.iter().zip(&stand.memory).position(|(a, b)| a != b);
            prop_assert_eq!(
                (again.len(), differs),
                (stand.memory.len(), None),
                "memory differs after event {}",
                stand.applied_through
            );
            prop_assert_eq!(relived.guest().cursor().issued(), stand.commands);
        }
        self.check_images()?;
        validate(&self.events).expect("a valid history");
        Ok(())
    }

    /// An image of each place, laid, is the live guest's memory there; and with the tail applied, that of each later
    /// place.
    fn check_images(&self) -> Result<(), TestCaseError> {
        let bodies = self.events.iter().map(|e| (e.event_id, e.body.clone())).collect();
        for (n, stand) in self.stands.iter().enumerate() {
            let Some((state, captured)) = &stand.image else { continue };
            for later in self.stands[n..].iter().take(4) {
                let run = RunContext::new(&self.start, &self.events[0].body, Timestamp(1_000), self.start.digest);
                let cursor = Cursor::restore(Arc::new(run), state, &bodies).expect("the messages are there");
                let mut laid = Life::new(self.loaded.lay(cursor, &captured.stamp, &captured.body).expect("laid"));
                prop_assert_eq!(&laid.guest().cursor().state(), &Some(state.clone()));
                let record = Record::Complete { applied_through: later.applied_through, commands: later.commands };
                laid.relive_tail(&self.events[stand.events..later.events], record, u64::MAX).expect("the tail agrees");
                let differs = memory(&mut laid).iter().zip(&later.memory).position(|(a, b)| a != b);
                prop_assert_eq!(
                    (memory(&mut laid).len(), differs),
                    (later.memory.len(), None),
                    "an image of event {} differs at {}",
                    stand.applied_through,
                    later.applied_through
                );
                prop_assert_eq!(laid.guest().cursor().issued(), later.commands);
            }
        }
        Ok(())
    }

    /// Cut off after any event, the history relives to commands of which the recorded ones are a prefix (I5).
    fn check_cut_off(&self) -> Result<(), TestCaseError> {
        let whole = commands(self.events.iter().map(|e| &e.body));
        for length in 1..=self.events.len() {
            let prefix = &self.events[..length];
            let mut relived = fresh(self.loaded, &self.start);
            let seen = relived.relive(prefix, Record::CutOff, u64::MAX).expect("a prefix never diverges");
            let mut issued = commands(prefix.iter().map(|e| &e.body));
            issued.extend(commands(seen.output.commands.iter()));
            let common = issued.len().min(whole.len());
            prop_assert_eq!(&issued[..common], &whole[..common], "cut off after event {}", length);
        }
        Ok(())
    }
}

/// What an activity came to: text for the order's steps, anything for scripts.
fn completed(no: u64, choice: u8) -> TaskCompleted {
    let result = match choice % 4 {
        0 => json!(null),
        1 => json!({"n": no, "list": [1.5, "two", {"three": 3}]}),
        _ => json!(format!("result-{no}")),
    };
    TaskCompleted { attempt: 1, result: Json::of(&result).expect("JSON") }
}

/// Number, type, and what is matched of each command, as text.
fn commands<'a>(bodies: impl Iterator<Item = &'a EventBody>) -> Vec<(u64, String)> {
    let numbered = bodies.filter(|b| b.event_type().is_numbered_command());
    let text = |body: &EventBody| match &body.attributes {
        Attributes::TaskScheduled(task) => format!("activity {} {}", task.name, task.input),
        Attributes::TimerCreated(timer) => format!("timer {}", timer.duration),
        other => format!("{:?}", other.event_type()),
    };
    numbered.map(|body| (body.command_no.unwrap_or(0), text(body))).collect()
}

fn memory(life: &mut Life<ReactorGuest>) -> Vec<u8> {
    life.guest().memory().expect("a reactor's state is its memory").to_vec()
}

/// A life that has not begun, for the run that `start` begins.
fn fresh(loaded: &LoadedComponent, start: &ExecutionStarted) -> Life<ReactorGuest> {
    Life::new(loaded.instantiate(fresh_cursor(start)).expect("an instance"))
}

fn fresh_cursor(start: &ExecutionStarted) -> Cursor {
    let body = EventBody::new(None, start.clone());
    Cursor::new(Arc::new(RunContext::new(start, &body, Timestamp(1_000), start.digest)))
}

/// A step of the script guest that holds no others.
fn simple() -> impl Strategy<Value = Value> {
    let handle = || (0u8..5).prop_map(|n| format!("h{n}"));
    let name = prop_oneof![Just("echo"), Just("ship")];
    let cancellation = prop_oneof![Just("try"), Just("abandon"), Just("wait")];
    let channel = || prop_oneof![Just("a"), Just("b")];
    prop_oneof![
        4 => (name.clone(), 0u32..100).prop_map(|(name, n)| json!({"activity": {"name": name, "input": {"n": n}}})),
        4 => (name, handle(), cancellation).prop_map(|(name, handle, cancellation)| json!({"activity":
            {"name": name, "as": handle, "options": {"cancellation": cancellation}}})),
        2 => (0u32..50).prop_map(|ms| json!({"timer": {"ms": ms}})),
        3 => (0u32..50, handle()).prop_map(|(ms, handle)| json!({"timer": {"ms": ms, "as": handle}})),
        2 => channel().prop_map(|channel| json!({"message": {"channel": channel}})),
        2 => (channel(), handle()).prop_map(|(channel, handle)| json!({"message": {"channel": channel, "as": handle}})),
        3 => handle().prop_map(|handle| json!({"await": handle})),
        2 => prop::collection::vec(handle(), 1..4).prop_map(|handles| json!({"select": handles})),
        2 => prop::collection::vec(handle(), 1..4).prop_map(|handles| json!({"join": handles})),
        1 => handle().prop_map(|handle| json!({"cancel": handle})),
        1 => handle().prop_map(|handle| json!({"drop": handle})),
        1 => handle().prop_map(|handle| json!({"detach": handle})),
        1 => (0u32..9).prop_map(|n| json!({"publish": {"key": "k", "value": n}})),
        1 => Just(json!({"log": {"message": "line"}})),
        1 => (0u32..3).prop_map(|n| json!({"version": {"change-id": format!("c{n}"), "min": 1, "max": 2,
            "new": [{"timer": {"ms": 1}}], "old": []}})),
        2 => prop_oneof![Just("random"), Just("uuid"), Just("now"), Just("info")].prop_map(|name| json!(name)),
        1 => (1u32..64).prop_map(|n| json!({"random-bytes": n})),
        1 => (1u32..5000).prop_map(|n| json!({"compute": n})),
        1 => (1u32..200_000).prop_map(|n| json!({"alloc": n})),
        1 => (1u32..100).prop_map(|n| json!({"recurse": n})),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Value>> {
    let block = || prop::collection::vec(simple(), 1..4);
    let step = prop_oneof![
        8 => simple(),
        1 => prop::collection::vec(block(), 1..4).prop_map(|branches| json!({"parallel": branches})),
        1 => (block(), block()).prop_map(|(a, b)| json!({"attempt": {"steps": a, "on-failure": b}})),
        1 => (1u32..3, block()).prop_map(|(times, steps)| json!({"repeat": {"times": times, "steps": steps}})),
    ];
    prop::collection::vec(step, 1..16)
}

/// What happens, and whether the guest's turn follows at once or the event waits for the next.
fn choices(most: usize) -> impl Strategy<Value = Vec<(u8, bool)>> {
    prop::collection::vec((any::<u8>(), prop::bool::weighted(0.7)), 0..most)
}

fn live(world: &mut World, choices: Vec<(u8, bool)>) {
    for (choice, turn) in choices {
        if world.live.outcome().is_some() {
            break;
        }
        world.happen(choice);
        if turn {
            world.catch_up();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_relived_script_has_the_live_ones_memory(steps in steps(), choices in choices(24)) {
        let mut world = World::begin(script(), "script", &json!({"program": steps}));
        live(&mut world, choices);
        world.check()?;
    }

    #[test]
    fn a_script_cut_off_anywhere_issues_what_was_recorded(steps in steps(), choices in choices(16)) {
        let mut world = World::begin(script(), "script", &json!({"program": steps}));
        live(&mut world, choices);
        world.check_cut_off()?;
    }

    #[test]
    fn a_relived_order_has_the_live_ones_memory(pause in 0u64..3, choices in choices(24)) {
        let order_input = json!({"order_id": "o", "sku": "tea", "quantity": 2, "card": "4242", "cents": 1299,
            "pause_ms": pause * 10});
        let mut world = World::begin(order(), "order", &order_input);
        live(&mut world, choices);
        world.check()?;
        world.check_cut_off()?;
    }
}

/// Results of any shape, which some examples refuse to read: what they make of it is the same again.
#[test]
fn every_examples_relived_memory_is_the_live_ones() {
    for n in 0..5 {
        let mut runner = TestRunner::new(ProptestConfig { cases: 30, failure_persistence: None, ..Default::default() });
        let (loaded, workflow, input) = example(n);
        let ended = std::cell::Cell::new(0);
        let checked = runner.run(&choices(24), |choices| {
            let mut world = World::begin(loaded, workflow, &input);
            live(&mut world, choices);
            ended.set(ended.get() + u32::from(world.live.outcome().is_some()));
            world.check()?;
            world.check_cut_off()
        });
        checked.unwrap_or_else(|error| panic!("{workflow}: {error}"));
        assert!(ended.get() > 0, "no {workflow} came to an end");
    }
}

/// Compilers are free in how, never in what: an image goes to a host that compiles otherwise, and back.
#[test]
fn an_image_survives_other_compiler_settings() {
    let config = SandboxConfig { optimise: false, ..SandboxConfig::in_process() };
    let plain = Sandbox::new(config).expect("a sandbox");
    let admitted = plain.admit(&guests::bytes("script/script.wasm")).expect("admitted").component;
    let AdmittedComponent::Workflow(plain) = admitted else { panic!("an activity") };
    let steps = json!([{"random-bytes": 40}, {"alloc": 100_000}, {"timer": {"ms": 3}}, {"compute": 500},
        {"activity": {"name": "echo", "input": 1.5}}, {"message": {"channel": "a"}}, "uuid"]);
    let mut world = World::begin(script(), "script", &json!({"program": steps}));
    live(&mut world, vec![(6, true), (6, true), (1, true)]);
    let bodies = world.events.iter().map(|e| (e.event_id, e.body.clone())).collect();
    for stand in world.stands.iter().filter(|s| s.image.is_some()) {
        let (state, captured) = stand.image.as_ref().expect("an image");
        let cursor = || {
            let run = RunContext::new(&world.start, &world.events[0].body, Timestamp(1_000), world.start.digest);
            Cursor::restore(Arc::new(run), state, &bodies).expect("the messages are there")
        };
        let mut there = plain.lay(cursor(), &captured.stamp, &captured.body).expect("laid");
        assert_eq!(there.memory().expect("a memory"), stand.memory, "as it was");
        let again = there.capture().expect("a capture").expect("an image");
        assert_eq!(&again, captured, "and captured there it is the same image");
        let mut back = Life::new(script().lay(cursor(), &again.stamp, &again.body).expect("laid"));
        assert_eq!(memory(&mut back), stand.memory);
        let mut relived = Life::new(plain.instantiate(fresh_cursor(&world.start)).expect("an instance"));
        let record = Record::Complete { applied_through: stand.applied_through, commands: stand.commands };
        relived.relive(&world.events[..stand.events], record, u64::MAX).expect("agrees");
        assert_eq!(memory(&mut relived), stand.memory, "relived there it is the same memory");
    }
    assert!(world.stands.iter().filter(|s| s.image.is_some()).count() >= 3);
}

/// The comparison is not empty: an order that goes through comes by this many places, and another input makes another
/// memory.
#[test]
fn what_is_compared_is_the_guests_state() {
    let run = |sku: &str| {
        let input = json!({"order_id": "o", "sku": sku, "quantity": 2, "card": "4242", "cents": 1299, "pause_ms": 5});
        let mut world = World::begin(order(), "order", &input);
        // 6 is neither a failure nor a message, and completes activities with text.
        live(&mut world, vec![(6, true); 12]);
        world
    };
    let (mut tea, mut cup) = (run("tea"), run("cup"));
    assert!(matches!(tea.live.outcome(), Some(Outcome::Completed(_) | Outcome::Failed(_))), "{:?}", tea.live.outcome());
    assert!(tea.stands.len() >= 8, "{} places", tea.stands.len());
    tea.check().expect("equal");
    assert_ne!(memory(&mut tea.live), memory(&mut cup.live));
    assert!(tea.stands.windows(2).all(|pair| pair[0].memory != pair[1].memory), "each turn leaves a trace");
}
