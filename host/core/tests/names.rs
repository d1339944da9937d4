//! Names, digests, errors: what callers type and read.

use relive_core::{
    Digest, Error, ErrorKind, ExecutionKey, Namespace, RunId, WorkflowId,
    event::BlockReason,
    ids::{NameError, check_name},
    ports::Status,
};

#[test]
fn bad_names_say_what_is_wrong_and_where() {
    assert_eq!(check_name("", "activity name"), Err(NameError::Empty { what: "activity name" }));
    assert_eq!(check_name(&"x".repeat(129), "name"), Err(NameError::TooLong { what: "name", len: 129, max: 128 }));
    let error = check_name("a b", "name").expect_err("a space");
    assert_eq!(error.to_string(), "name holds ' ' at byte 1; allowed are letters, digits, '-', '_' and '.'");
    assert!(WorkflowId::new("order 17, please").is_ok(), "keys are the caller's");
    assert!(WorkflowId::new("line\nbreak").is_err());
    assert!("nonsense".parse::<RunId>().is_err());
    assert!(Namespace::new("a/b").is_err());
    assert_eq!(Namespace::default().as_str(), "default");
    assert!(serde_json::from_str::<WorkflowId>("\"\"").is_err());
}

#[test]
fn digests_are_hexadecimal_for_people() {
    let digest = Digest::of(b"");
    let text = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(digest.to_string(), text);
    assert_eq!(digest.short(), &text[..12]);
    assert_eq!(text.parse(), Ok(digest));
    assert!("zz".parse::<Digest>().is_err());
    assert!("g".repeat(64).parse::<Digest>().is_err());
    assert_eq!(serde_json::to_string(&digest).expect("JSON"), format!("\"{text}\""));
    assert_eq!(serde_json::from_str::<Digest>(&format!("\"{text}\"")).expect("a digest"), digest);
}

#[test]
fn errors_carry_their_context() {
    let run_id: RunId = "018f0000-0000-7000-8000-000000000000".parse().expect("a run id");
    let workflow_id = WorkflowId::new("w").expect("an id");
    let execution = ExecutionKey { namespace: Namespace::default(), workflow_id, run_id };
    assert_eq!(execution.idempotency_key(3), format!("default:w:{run_id}:3"));
    let error =
        Error::new(ErrorKind::ActivityExecution, "trap", "it trapped").at(&execution).step(3, 2).correlated(Some("c"));
    assert_eq!(error.to_string(), format!("it trapped (execution default/w/{run_id}, step 3)"));
    let shown = serde_json::to_value(&error).expect("JSON");
    assert_eq!(shown["kind"], "ActivityExecution");
    assert_eq!(shown["context"]["attempt"], 2);
    assert_eq!(shown["context"]["correlation_id"], "c");
}

#[test]
fn statuses_have_one_name_each() {
    for status in Status::ALL {
        assert_eq!(Status::from_name(status.name()), Some(status));
    }
    assert_eq!(Status::from_name("nonsense"), None);
    assert_eq!(BlockReason::NonDeterminism.to_string(), "non-determinism");
    let names = ["trap", "out-of-fuel", "out-of-memory", "deadlock", "quarantined", "unusable", "history-limit"];
    use BlockReason::*;
    for (reason, name) in
        [Trap, OutOfFuel, OutOfMemory, Deadlock, Quarantined, Unusable, HistoryLimit].iter().zip(names)
    {
        assert_eq!(reason.to_string(), name);
    }
}
