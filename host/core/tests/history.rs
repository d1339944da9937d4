//! Stored histories: every event type through both codecs, the chain, and each rule of the checker broken once.

use std::{collections::BTreeSet, sync::Arc};

use relive_core::{
    Attributes, Digest, EventType, ExecutionKey, Failure, FailureKind, HistoryEvent, Json, Namespace, RunId, Timestamp,
    WorkflowId,
    canonical_hash::GENESIS,
    codec::{Codec, CodecError, CodecId, StoredEvent, current_version},
    event::*,
    fingerprint,
    history::{Rows, Violation, check_chain, decode_all, validate, validate_rows},
    limits::RunLimits,
    options::{ActivityOptions, CancellationType},
    retry::RetryPolicy,
};

fn json(text: &str) -> Json {
    Json::parse(text).expect("JSON")
}

fn failure() -> Failure {
    Failure { details: Some(json(r#"{"a":1.50}"#)), ..Failure::new(FailureKind::Application, "card-declined", "no") }
}

fn start() -> ExecutionStarted {
    ExecutionStarted {
        execution: ExecutionKey {
            namespace: Namespace::default(),
            workflow_id: WorkflowId::new("order 17").expect("an id"),
            run_id: RunId(uuid::Uuid::from_u128(5)),
        },
        workflow: "order".into(),
        export: "order".into(),
        digest: Digest::of(b"x"),
        input: json(r#"{ "b": 1.0, "a": "ü" }"#),
        seed: [3; 32],
        limits: RunLimits::default(),
        continued_from: Some(RunId(uuid::Uuid::nil())),
        carried_messages: vec![CarriedMessage { channel: "c".into(), message_id: "m".into(), payload: json("[1]") }],
        carried_cancel: true,
        start_key: Some(Arc::new(StartKey::new("retry-1", RunId(uuid::Uuid::from_u128(5)), "order", &json("1")))),
    }
}

fn schedule(name: &str, input: &str) -> TaskScheduled {
    let options = ActivityOptions {
        task_queue: Some("q".into()),
        retry: Some(RetryPolicy { non_retryable_codes: vec!["x".into()], ..RetryPolicy::default() }),
        schedule_to_close: Some(5),
        cancellation: CancellationType::Wait,
        summary: Some("s".into()),
        ..ActivityOptions::default()
    };
    TaskScheduled { name: name.into(), input: json(input), options: Arc::new(options) }
}

/// One of each type.
fn all() -> Vec<Attributes> {
    let (t, text) = (Timestamp(9), || "why".to_owned());
    vec![
        start().into(),
        ExecutionCompleted { result: json("{}") }.into(),
        ExecutionFailed { failure: failure() }.into(),
        ExecutionCanceled { failure: failure() }.into(),
        ExecutionTerminated { reason: text() }.into(),
        ExecutionContinuedAsNew {
            new_run_id: RunId(uuid::Uuid::nil()),
            input: json("1"),
            unread_messages: vec!["m".into()],
        }
        .into(),
        CancelRequested { reason: text() }.into(),
        ExecutionBlocked { reason: BlockReason::Trap, report: text() }.into(),
        ExecutionUnblocked { reason: text() }.into(),
        ExecutionForked { from: start().execution, through: 3 }.into(),
        VersionChanged {
            from: Digest::of(b"1"),
            digest: Digest::of(b"2"),
            version: 2,
            answers: [("c".to_owned(), 1)].into(),
            author: Some("ada".into()),
            reason: text(),
        }
        .into(),
        schedule("charge", r#"{"x": [1, 2.50]}"#).into(),
        TaskStarted { attempt: 1, worker: "w".into() }.into(),
        TaskCompleted { attempt: 2, result: json("null") }.into(),
        TaskFailed { attempt: 1, failure: failure() }.into(),
        TaskTimedOut { attempt: 1, timeout: TimeoutType::Heartbeat, last_failure: Some(failure()) }.into(),
        TaskCancelRequested { target: 3, cancellation: CancellationType::Abandon }.into(),
        TaskCanceled { attempt: 1, failure: failure() }.into(),
        TaskRetryScheduled { attempt: 1, failure: failure(), next_at: t }.into(),
        TaskExhausted { attempts: 3, timeout: Some(TimeoutType::Heartbeat), last_failure: failure() }.into(),
        TimerCreated { duration: 5, deadline: t }.into(),
        TimerFired {}.into(),
        TimerCanceled { target: 2 }.into(),
        SignalReceived { channel: "c".into(), message_id: "m".into(), payload: json("\"x\"") }.into(),
        VersionRecorded { change_id: "c".into(), version: 2 }.into(),
        SnapshotCreated { through: 3, bytes: 2_700 }.into(),
        SnapshotDiscarded { through: 3, reason: text() }.into(),
        CommandIssued { name: "activity.pause".into(), target: Some(3), arguments: Some(json("{}")), note: text() }
            .into(),
    ]
}

struct History {
    stored: Vec<StoredEvent>,
}

impl History {
    fn new() -> Self {
        Self { stored: Vec::new() }
    }

    fn push(
        &mut self,
        codec: CodecId,
        at: u64,
        command_no: Option<u64>,
        attributes: impl Into<Attributes>,
    ) -> &mut Self {
        let body = EventBody { correlation_id: Some("corr".into()), ..EventBody::new(command_no, attributes) };
        let mut bytes = Vec::new();
        codec.encode(&body, &mut bytes).expect("encodes");
        let ty = body.event_type();
        let mut event = StoredEvent {
            event_id: self.stored.len() as u64 + 1,
            timestamp: Timestamp(at),
            event_type: ty.code(),
            codec: codec.codec_id(),
            event_version: current_version(ty),
            bytes: bytes.into(),
            hash: [0; 32],
        };
        event.hash = event.expected_hash(&self.stored.last().map_or(GENESIS, |e| e.hash));
        self.stored.push(event);
        self
    }

    fn decoded(&self) -> Vec<HistoryEvent> {
        decode_all(&self.stored).expect("a good chain")
    }

    fn check(&self) -> Result<(), Violation> {
        validate(&self.decoded())
    }
}

/// Started, one activity, one timer, both resolved, completed.
fn good() -> History {
    let mut history = History::new();
    let p = CodecId::Postcard;
    history
        .push(p, 1, None, start())
        .push(p, 1, Some(1), schedule("charge", "1"))
        .push(CodecId::Json, 1, Some(2), TimerCreated { duration: 5, deadline: Timestamp(6) })
        .push(p, 2, Some(1), TaskCompleted { attempt: 1, result: json("1") })
        .push(p, 7, Some(2), TimerFired {})
        .push(p, 7, None, ExecutionCompleted { result: json("1") });
    history
}

#[test]
fn every_type_survives_both_codecs_with_its_payload_text() {
    assert_eq!(all().len(), EventType::ALL.len(), "one of each");
    for attributes in all() {
        for codec in [CodecId::Json, CodecId::Postcard] {
            let mut body = EventBody::new(Some(4), attributes.clone());
            (body.is_retry, body.parent_event_id, body.trace_id) = (true, Some(2), Some("trace".into()));
            let mut bytes = Vec::new();
            codec.encode(&body, &mut bytes).expect("encodes");
            let read = codec
                .decode(attributes.event_type(), current_version(attributes.event_type()), &bytes)
                .expect("decodes");
            assert_eq!(read, body, "{codec:?}");
            assert!(
                codec
                    .decode(
                        attributes.event_type(),
                        current_version(attributes.event_type()),
                        &bytes[..bytes.len() / 2]
                    )
                    .is_err()
            );
            assert!(serde_json::to_string(&read).expect("to JSON").contains(attributes.event_type().name()));
        }
    }
}

#[test]
fn types_keep_their_numbers_and_classes() {
    for ty in EventType::ALL {
        assert_eq!(EventType::from_code(ty.code()), Some(*ty));
        assert_eq!(u8::from(ty.is_inbound()) + u8::from(ty.is_command()) + u8::from(ty.is_control()), 1);
        assert!(!ty.is_resolution() || ty.is_inbound());
        assert!(!ty.is_numbered_command() || ty.is_command());
    }
    assert_eq!(EventType::from_code(9_999), None);
    assert_eq!(EventType::TaskScheduled.code(), 20);
    assert_eq!(EventType::TimerFired.category(), Category::Timer);
}

#[test]
fn unknown_bytes_are_told_apart() {
    let mut event = good().stored[0].clone();
    event.event_type = 999;
    assert_eq!(event.decode(), Err(CodecError::UnknownType(999)));
    event = good().stored[0].clone();
    event.codec = 77;
    assert_eq!(event.decode(), Err(CodecError::UnknownCodec(77)));
    event.codec = 2;
    event.event_version = 99;
    assert!(matches!(event.decode(), Err(CodecError::NewerVersion { found: 99, known: 2, .. })));
}

#[test]
fn a_changed_byte_anywhere_breaks_the_chain() {
    let history = good();
    check_chain(&history.stored, 0, &GENESIS).expect("good");
    check_chain(&history.stored[2..], 2, &history.stored[1].hash).expect("a tail chains on");
    for at in 0..history.stored.len() {
        let mut bent = history.stored.clone();
        let mut bytes = bent[at].bytes.to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        bent[at].bytes = bytes.into();
        assert_eq!(check_chain(&bent, 0, &GENESIS), Err(Violation::BrokenChain(at as u64 + 1)));
    }
    let mut gap = history.stored.clone();
    gap.remove(2);
    assert_eq!(check_chain(&gap, 0, &GENESIS), Err(Violation::Gap { expected: 3, found: 4 }));
    let mut back = History::new();
    back.push(CodecId::Json, 5, None, start()).push(CodecId::Json, 4, None, CancelRequested { reason: String::new() });
    assert_eq!(check_chain(&back.stored, 0, &GENESIS), Err(Violation::TimeRunsBack(2)));
}

#[test]
fn each_rule_is_held() {
    good().check().expect("good");
    let p = CodecId::Postcard;
    let begun = |events: &[(u64, Option<u64>, Attributes)]| {
        let mut history = History::new();
        history.push(p, 1, None, start());
        for (at, no, attributes) in events {
            history.push(p, *at, *no, attributes.clone());
        }
        history.check()
    };
    let done = || TaskCompleted { attempt: 1, result: json("1") }.into();
    let asked = || Attributes::from(schedule("a", "1"));
    let timer = || TimerCreated { duration: 5, deadline: Timestamp(6) }.into();
    let resolution = |why| move |v: Violation| assert!(v.to_string().contains(why), "{v}");
    resolution("not issued")(begun(&[(1, Some(1), done())]).expect_err("never issued"));
    resolution("repeats")(
        begun(&[(1, Some(1), asked()), (1, Some(1), done()), (2, Some(1), done())]).expect_err("twice"),
    );
    let mixed = begun(&[(1, Some(1), asked()), (1, Some(1), TimerFired {}.into())]);
    resolution("another kind")(mixed.expect_err("a timer's end of an activity"));
    let twice = begun(&[
        (1, Some(1), asked()),
        (1, Some(1), done()),
        (2, Some(1), TaskFailed { attempt: 1, failure: failure() }.into()),
    ]);
    resolution("repeats the inbound key")(twice.expect_err("completed and failed"));
    let early = begun(&[(1, Some(1), timer()), (4, Some(1), TimerFired {}.into())]);
    assert_eq!(early, Err(Violation::EarlyTimer { event: 3, command_no: 1, early_nanos: 2 }));
    let order = begun(&[(1, Some(2), asked()), (1, Some(1), asked())]);
    assert_eq!(order, Err(Violation::CommandOrder(3)));
    let after = begun(&[(1, None, ExecutionCompleted { result: json("1") }.into()), (1, Some(1), asked())]);
    resolution("not the last")(after.expect_err("goes on after its end"));
    resolution("ExecutionStarted")(begun(&[(1, None, start().into())]).expect_err("two starts"));
}

#[test]
fn what_is_exhausted_stays_so_until_an_operator_decides() {
    let issued = |name: &str| CommandIssued { name: name.into(), target: Some(1), arguments: None, note: "n".into() };
    let exhausted = || TaskExhausted { attempts: 2, timeout: None, last_failure: failure() };
    let after = |events: &[(Option<u64>, Attributes)]| {
        let mut history = History::new();
        history.push(CodecId::Postcard, 1, None, start()).push(CodecId::Postcard, 1, Some(1), schedule("a", "1"));
        for (no, attributes) in events {
            history.push(CodecId::Postcard, 1, *no, attributes.clone());
        }
        history.decoded()
    };
    let held = (Some(1), exhausted().into());
    let started = || (Some(1), TaskStarted { attempt: 1, worker: "w".into() }.into());
    let done = || (Some(1), TaskCompleted { attempt: 1, result: json("1") }.into());
    for name in [CommandIssued::REDRIVE, CommandIssued::RESET] {
        let again = (None, issued(name).into());
        validate(&after(&[held.clone(), again.clone(), started(), done()])).expect("it began again");
        validate(&after(&[held.clone(), again, held.clone()])).expect("and was exhausted again");
    }
    let failed = (Some(1), TaskFailed { attempt: 2, failure: failure() }.into());
    validate(&after(&[held.clone(), (None, issued(CommandIssued::GIVE_UP).into()), failed])).expect("given up");
    let late = TaskTimedOut { attempt: 2, timeout: TimeoutType::ScheduleToClose, last_failure: None };
    validate(&after(&[held.clone(), (Some(1), late.into())])).expect("its time was over");
    let forked = ExecutionForked { from: start().execution, through: 3 };
    validate(&after(&[held.clone(), (None, forked.into()), started()])).expect("a fork begins it anew");
    let paused = (None, issued("activity.pause").into());
    for wrong in [vec![held.clone(), started()], vec![held.clone(), paused, done()], vec![held.clone(), held.clone()]] {
        let violation = validate(&after(&wrong)).expect_err("nobody let it begin again");
        assert!(violation.to_string().contains("exhausted"), "{violation}");
    }
    let violation = validate(&after(&[done(), held.clone()])).expect_err("it is over");
    assert!(violation.to_string().contains("resolved before"), "{violation}");
    // The row says so, too.
    let rows = |exhausted| Rows {
        open: true,
        last_event_id: 3,
        last_inbound_id: 1,
        applied_through: 1,
        tasks: BTreeSet::from([1]),
        exhausted,
        ..Rows::default()
    };
    validate_rows(&after(std::slice::from_ref(&held)), &rows(BTreeSet::from([1]))).expect("good");
    validate_rows(&after(&[held]), &rows(BTreeSet::new())).expect_err("the row does not say so");
}

#[test]
fn rows_must_fit_the_history() {
    let p = CodecId::Postcard;
    let mut history = History::new();
    history
        .push(p, 1, None, start())
        .push(p, 1, Some(1), schedule("a", "1"))
        .push(p, 1, Some(2), TimerCreated { duration: 5, deadline: Timestamp(6) })
        .push(p, 1, Some(3), schedule("b", "1"))
        .push(p, 1, Some(4), TaskCancelRequested { target: 3, cancellation: CancellationType::Try });
    let events = history.decoded();
    let rows = Rows {
        open: true,
        last_event_id: 5,
        last_inbound_id: 1,
        applied_through: 1,
        tasks: BTreeSet::from([1]),
        timers: BTreeSet::from([2]),
        exhausted: BTreeSet::new(),
    };
    validate_rows(&events, &rows).expect("good");
    let bad = [
        Rows { last_event_id: 4, ..rows.clone() },
        Rows { last_inbound_id: 2, ..rows.clone() },
        Rows { applied_through: 2, ..rows.clone() },
        Rows { open: false, ..rows.clone() },
        Rows { tasks: BTreeSet::new(), ..rows.clone() },
        Rows { tasks: BTreeSet::from([1, 3]), ..rows.clone() },
        Rows { exhausted: BTreeSet::from([1]), ..rows.clone() },
        Rows { timers: BTreeSet::new(), ..rows },
    ];
    for rows in bad {
        assert!(matches!(validate_rows(&events, &rows), Err(Violation::Rows(_))), "{rows:?}");
    }
    let done = Rows { open: false, last_event_id: 6, last_inbound_id: 5, applied_through: 5, ..Rows::default() };
    validate_rows(&good().decoded(), &done).expect("a closed run has no rows");
}

#[test]
fn fingerprints_leave_out_times_ids_and_options() {
    let run = |name: &str, input: &str, at: u64| {
        let mut history = History::new();
        history.push(CodecId::Json, at, None, start()).push(CodecId::Json, at, Some(1), schedule(name, input));
        fingerprint::run(&history.decoded())
    };
    assert_eq!(run("a", r#"{"x":1,"y":2}"#, 1), run("a", r#"{"y":2.0,"x":1e0}"#, 99));
    assert_ne!(run("a", "1", 1), run("b", "1", 1));
    assert_ne!(run("a", "1", 1), run("a", "2", 1));
    let events = good().decoded();
    assert!(fingerprint::step(&events[0]).is_none() && fingerprint::step(&events[1]).is_some());
    assert_ne!(fingerprint::step(&events[1]), fingerprint::step(&events[2]));
}

/// What the first version of `ExecutionStarted` looked like in the store, byte for byte.
const STARTED_V1_JSON: &str = r#"{"command_no":null,"parent_event_id":null,"flags":0,"task_queue":null,"trace_id":null,"correlation_id":"corr"}
{"execution":{"namespace":"default","workflow_id":"order 17","run_id":"00000000-0000-0000-0000-000000000005"},"workflow":"order","export":"order","digest":"2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881","input":{ "b": 1.0, "a": "ü" },"seed":[3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3],"limits":{"events":51200,"history_bytes":52428800,"payload_bytes":2097152,"pending_promises":2000,"memory_bytes":67108864,"table_elements":100000,"turn_fuel":2000000000},"continued_from":"00000000-0000-0000-0000-000000000000","carried_messages":[{"channel":"c","message_id":"m","payload":[1]}],"carried_cancel":true}
"#;
const STARTED_V1_POSTCARD: &str = "00000000000104636f72720764656661756c74086f726465722031371000000000000000000000000000000005056f72646572056f726465722d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881177b202262223a20312e302c202261223a2022c3bc22207d03030303030303030303030303030303030303030303030303030303030303038090038080801980808001d00f80808020a08d0680a8d6b907011000000000000000000000000000000000010163016d035b315d01";

#[test]
fn a_start_of_the_first_version_is_upcast() {
    let hex = |text: &str| -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal")).collect()
    };
    let expected = ExecutionStarted { start_key: None, ..start() };
    for (codec, bytes) in [(CodecId::Json, STARTED_V1_JSON.into()), (CodecId::Postcard, hex(STARTED_V1_POSTCARD))] {
        let body = codec.decode(EventType::ExecutionStarted, 1, &bytes).expect("decodes");
        assert_eq!(body.attributes, Attributes::from(expected.clone()), "{codec:?}");
        assert_eq!(body.correlation_id.as_deref(), Some("corr"));
    }
    assert!(CodecId::Postcard.decode(EventType::ExecutionStarted, 2, &hex(STARTED_V1_POSTCARD)).is_err());
}
