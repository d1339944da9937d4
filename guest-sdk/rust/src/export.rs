//! What the attribute macros and the export macros expand to: tables of workflows and activities, and the functions
//! of the two worlds over them. Translates between the contract's types and the SDK's own.

use crate::bindings::{handler, reactor, types};
use crate::runtime::{self, Event, Outcome, Root, State};
use crate::{ActivityFailure, Failure, Task};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::Serialize;
use std::future::Future;
use std::sync::Once;

/// What `#[workflow]` makes of a function, under the function's name.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a workflow",
    label = "not a function with `#[relive_sdk::workflow]`"
)]
pub trait WorkflowDef {
    /// The table entry.
    const ENTRY: WorkflowEntry;
}

/// What `#[activity]` makes of a function, under the function's name.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an activity",
    label = "not a function with `#[relive_sdk::activity]`"
)]
pub trait ActivityDef {
    /// The table entry.
    const ENTRY: ActivityEntry;
}

/// JSON Schema texts of input and output.
pub type Schemas = (Option<String>, Option<String>);

/// A workflow of the component.
pub struct WorkflowEntry {
    /// What it is started under.
    pub name: &'static str,
    /// A line for people.
    pub summary: Option<&'static str>,
    /// Computed when asked for: they cost code, not data.
    pub schemas: fn() -> Schemas,
    /// The channels that it reads; `None`: any.
    pub channels: Option<&'static [&'static str]>,
    /// From the input to a future that was not polled.
    pub start: fn(&str) -> Result<Root, Failure>,
}

/// An activity of the component.
pub struct ActivityEntry {
    /// What workflows call it.
    pub name: &'static str,
    /// A line for people.
    pub summary: Option<&'static str>,
    /// As a workflow's.
    pub schemas: fn() -> Schemas,
    /// One attempt.
    pub run: fn(&Task, &str) -> Result<String, ActivityFailure>,
}

impl WorkflowEntry {
    /// Stands in for a function that the macro refused.
    pub const INVALID: Self = Self {
        name: "",
        summary: None,
        schemas: || (None, None),
        channels: None,
        start: |_| Err(Failure::new("invalid", "")),
    };
}

impl ActivityEntry {
    /// Stands in for a function that the macro refused.
    pub const INVALID: Self = Self {
        name: "",
        summary: None,
        schemas: || (None, None),
        run: |_, _| Err(ActivityFailure::fatal("invalid", "")),
    };
}

/// The `Result` that a workflow or activity returns.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the result here",
    label = "expected `Result<T, E>` with `T: Serialize + JsonSchema` and an error that converts into `{E}`"
)]
pub trait IntoResult<E> {
    /// The value of success.
    type Value: Serialize + JsonSchema;
    /// With the error that the contract knows.
    fn into_result(self) -> Result<Self::Value, E>;
}

impl<T: Serialize + JsonSchema, F: Into<E>, E> IntoResult<E> for Result<T, F> {
    type Value = T;
    fn into_result(self) -> Result<T, E> {
        self.map_err(Into::into)
    }
}

/// The schema of `T` as JSON text.
pub fn schema<T: JsonSchema>() -> Option<String> {
    serde_json::to_string(&schemars::schema_for!(T)).ok()
}

/// The schema of what a result holds.
pub fn result_schema<R: IntoResult<E>, E>() -> Option<String> {
    schema::<R::Value>()
}

/// The input of a workflow; a bad one is rejected, as the host does with one against the schema.
pub fn workflow_input<T: DeserializeOwned>(text: &str) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|error| Failure::rejected("invalid-input", error.to_string()))
}

/// A workflow's future as the executor takes it.
pub fn root<R: IntoResult<Failure> + 'static>(future: impl Future<Output = R> + 'static) -> Root {
    Box::pin(async move {
        let value = future.await.into_result()?;
        serde_json::to_string(&value).map_err(|error| Failure::encode("result", &error))
    })
}

/// The input of an activity; no attempt would make a bad one better.
pub fn activity_input<T: DeserializeOwned>(text: &str) -> Result<T, ActivityFailure> {
    serde_json::from_str(text).map_err(|error| ActivityFailure::fatal("invalid-input", error.to_string()))
}

/// The result of an activity as JSON text.
pub fn activity_output<R: IntoResult<ActivityFailure>>(result: R) -> Result<String, ActivityFailure> {
    let value = result.into_result()?;
    serde_json::to_string(&value).map_err(|error| ActivityFailure::fatal("encode-error", error.to_string()))
}

/// `reactor.describe`.
pub fn describe_workflows(table: &[WorkflowEntry]) -> Vec<reactor::WorkflowDescription> {
    let describe = |entry: &WorkflowEntry| {
        let (input_schema, output_schema) = (entry.schemas)();
        let summary = entry.summary.map(str::to_owned);
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        reactor::WorkflowDescription {
            name: entry.name.to_owned(),
            summary,
            input_schema,
            output_schema,
            channels: entry.channels.map(owned),
        }
    };
    table.iter().map(describe).collect()
}

/// `reactor.start`.
pub fn start_workflow(table: &[WorkflowEntry], workflow: &str, input: &str) -> reactor::State {
    log_panics();
    let state = match table.iter().find(|entry| entry.name == workflow).map(|entry| (entry.start)(input)) {
        Some(Ok(root)) => runtime::start(root),
        Some(Err(failure)) => State::Done(Err(failure)),
        None => {
            let message = format!("the component holds no workflow `{workflow}`");
            State::Done(Err(Failure::rejected("unknown-workflow", message)))
        }
    };
    export_state(state)
}

/// `reactor.resume`.
pub fn resume_workflow(event: reactor::Event) -> reactor::State {
    let event = match event {
        reactor::Event::Resolved(resolution) => {
            Event::Resolved(resolution.promise, resolution.message_id, resolution.outcome.map_err(Failure::from))
        }
        reactor::Event::CancelRequested => Event::CancelRequested,
    };
    export_state(runtime::resume(event))
}

/// `handler.describe`.
pub fn describe_activities(table: &[ActivityEntry]) -> Vec<handler::ActivityDescription> {
    let describe = |entry: &ActivityEntry| {
        let (input_schema, output_schema) = (entry.schemas)();
        let summary = entry.summary.map(str::to_owned);
        handler::ActivityDescription { name: entry.name.to_owned(), summary, input_schema, output_schema }
    };
    table.iter().map(describe).collect()
}

/// `handler.run`.
pub fn run_activity(table: &[ActivityEntry], task: handler::Task) -> Result<String, handler::Failure> {
    let (task, input) = Task::split(task);
    let result = match table.iter().find(|entry| entry.name == task.name) {
        Some(entry) => (entry.run)(&task, &input),
        None => {
            let message = format!("the component holds no activity `{}`", task.name);
            Err(ActivityFailure::fatal("unknown-activity", message))
        }
    };
    result.map_err(|failure| handler::Failure {
        code: failure.code,
        message: failure.message,
        details: failure.details.map(|details| details.to_string()),
        retryable: failure.retryable,
    })
}

fn export_state(state: State) -> reactor::State {
    match state {
        State::Waiting => reactor::State::Waiting,
        State::Done(outcome) => reactor::State::Done(export_outcome(outcome)),
        State::Continued(input, unread_messages) => {
            reactor::State::Continued(reactor::Continuation { input, unread_messages })
        }
    }
}

fn export_outcome(outcome: Outcome) -> Result<String, types::Failure> {
    outcome.map_err(types::Failure::from)
}

/// A panic traps, which says nothing: leave its message in the execution's log first.
fn log_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        if cfg!(target_arch = "wasm32") {
            std::panic::set_hook(Box::new(|panic| {
                crate::log::line(crate::log::LogLevel::Error, &panic.to_string(), &[]);
            }));
        }
    });
}

/// Exports the component's workflows: `relive_sdk::workflows![order, shipping::refund];`, once in a crate.
#[macro_export]
macro_rules! workflows {
    ($($workflow:path),+ $(,)?) => {
        const _: () = {
            static TABLE: &[$crate::__private::WorkflowEntry] =
                &[$(<$workflow as $crate::__private::WorkflowDef>::ENTRY),+];
            struct Component;
            impl $crate::__private::reactor::Guest for Component {
                fn describe() -> ::std::vec::Vec<$crate::__private::reactor::WorkflowDescription> {
                    $crate::__private::describe_workflows(TABLE)
                }
                fn start(
                    workflow: ::std::string::String,
                    input: ::std::string::String,
                ) -> $crate::__private::reactor::State {
                    $crate::__private::start_workflow(TABLE, &workflow, &input)
                }
                fn resume(event: $crate::__private::reactor::Event) -> $crate::__private::reactor::State {
                    $crate::__private::resume_workflow(event)
                }
            }
            $crate::__private::export_workflow!(Component with_types_in $crate::__private::workflow_world);
        };
    };
}

/// Exports the component's activities: `relive_sdk::activities![charge, reserve];`, once in a crate.
#[macro_export]
macro_rules! activities {
    ($($activity:path),+ $(,)?) => {
        const _: () = {
            static TABLE: &[$crate::__private::ActivityEntry] =
                &[$(<$activity as $crate::__private::ActivityDef>::ENTRY),+];
            struct Component;
            impl $crate::__private::handler::Guest for Component {
                fn describe() -> ::std::vec::Vec<$crate::__private::handler::ActivityDescription> {
                    $crate::__private::describe_activities(TABLE)
                }
                fn run(
                    task: $crate::__private::handler::Task,
                ) -> ::std::result::Result<::std::string::String, $crate::__private::handler::Failure> {
                    $crate::__private::run_activity(TABLE, task)
                }
            }
            $crate::__private::export_activity!(Component with_types_in $crate::__private::activity_world);
        };
    };
}
