//! Every shape of function that the macros accept, and the table entries that come of it.

use relive_sdk::__private::{describe_workflows, ActivityDef, ActivityEntry};
use relive_sdk::__private::{WorkflowDef, WorkflowEntry};
use relive_sdk::{activity, workflow, ActivityFailure, Failure, Task};
use serde_json::Value;

mod nested {
    /// A plain value, and no argument.
    #[relive_sdk::workflow]
    pub async fn plain() -> u32 {
        1
    }
}

type Result<T> = std::result::Result<T, Failure>;

#[workflow(name = "with-an-alias", summary = "An alias of Result.", channels = ["go", "stop"])]
async fn alias(input: String) -> Result<String> {
    Ok(input)
}

#[workflow(channels = [])]
async fn nothing(_input: u64) {}

#[activity]
fn full(task: &Task, input: u32) -> std::result::Result<u32, ActivityFailure> {
    Ok(task.attempt + input)
}

#[activity]
fn input_only(input: u32) -> u32 {
    input
}

#[activity]
fn task_only(task: &Task) -> u32 {
    task.attempt
}

#[activity(name = "tick")]
fn neither() {}

relive_sdk::workflows![nested::plain, alias, nothing];

mod worker {
    use super::{full, input_only, neither, task_only};
    relive_sdk::activities![full, input_only, task_only, neither];
}

const WORKFLOWS: [WorkflowEntry; 3] =
    [<nested::plain as WorkflowDef>::ENTRY, <alias as WorkflowDef>::ENTRY, <nothing as WorkflowDef>::ENTRY];

const ACTIVITIES: [ActivityEntry; 4] = [
    <full as ActivityDef>::ENTRY,
    <input_only as ActivityDef>::ENTRY,
    <task_only as ActivityDef>::ENTRY,
    <neither as ActivityDef>::ENTRY,
];

fn types(schemas: (Option<String>, Option<String>)) -> (Value, Value) {
    let ty = |text: Option<String>| {
        text.map_or(Value::Null, |text| {
            let schema: Value = serde_json::from_str(&text).expect("a schema is JSON");
            schema["type"].clone()
        })
    };
    (ty(schemas.0), ty(schemas.1))
}

#[test]
fn workflows_are_described() {
    let names = WORKFLOWS.map(|entry| (entry.name, entry.summary));
    assert_eq!(
        names,
        [
            ("plain", Some("A plain value, and no argument.")),
            ("with-an-alias", Some("An alias of Result.")),
            ("nothing", None),
        ]
    );
    assert_eq!(types((WORKFLOWS[0].schemas)()), (Value::Null, "integer".into()));
    assert_eq!(types((WORKFLOWS[1].schemas)()), ("string".into(), "string".into()));
    assert_eq!(types((WORKFLOWS[2].schemas)()), ("integer".into(), "null".into()));
}

#[test]
fn channels_are_described_where_they_are_declared() {
    let declared: Vec<_> = describe_workflows(&WORKFLOWS).into_iter().map(|description| description.channels).collect();
    let two = vec!["go".to_owned(), "stop".to_owned()];
    assert_eq!(declared, [None, Some(two), Some(Vec::new())]);
}

#[test]
fn a_bad_input_is_rejected_before_anything_runs() {
    let failure = (WORKFLOWS[1].start)("17").err().expect("it is rejected");
    assert_eq!(failure.code, "invalid-input");
}

#[test]
fn activities_are_called_with_what_they_take() {
    let task = Task {
        name: "full".to_owned(),
        idempotency_key: "default:w:r:1".to_owned(),
        attempt: 2,
        workflow_id: "w".to_owned(),
        run_id: "r".to_owned(),
        correlation_id: None,
    };
    let results = ACTIVITIES.map(|entry| (entry.run)(&task, "40"));
    assert_eq!(results, [Ok("42".to_owned()), Ok("40".to_owned()), Ok("2".to_owned()), Ok("null".to_owned())]);
    let failure = (ACTIVITIES[0].run)(&task, "{}").expect_err("it is refused");
    assert!(!failure.retryable && failure.code == "invalid-input", "{failure}");
}
