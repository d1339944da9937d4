//! Schemas of the core's types for the API's document. The core knows serde alone, so how its types look as JSON is
//! told here; lists of names come from the types themselves. Nothing here is ever made: these are descriptions.

#![allow(dead_code, reason = "schemas: their fields are read by the derive alone")]

use relive_core::{
    event::EventType,
    ports::{self},
};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        RefOr,
        schema::{ObjectBuilder, Schema, SchemaFormat, SchemaType, Type},
    },
};

fn named(description: &str, names: impl IntoIterator<Item = &'static str>) -> RefOr<Schema> {
    let object = ObjectBuilder::new().schema_type(SchemaType::new(Type::String)).description(Some(description));
    RefOr::T(object.enum_values(Some(names)).into())
}

fn text(description: &str, pattern: Option<&str>, example: &str) -> RefOr<Schema> {
    let object = ObjectBuilder::new().schema_type(SchemaType::new(Type::String)).description(Some(description));
    RefOr::T(object.pattern(pattern).examples([example]).into())
}

macro_rules! described {
    ($($(#[$doc:meta])* $name:ident = $schema:expr;)*) => {
        $($(#[$doc])* pub struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> { $schema }
        }

        impl ToSchema for $name {})*
    };
}

described! {
    /// Users' JSON.
    Json = RefOr::T(
        ObjectBuilder::new()
            .schema_type(SchemaType::AnyValue)
            .description(Some("Any JSON value: text that was checked and is otherwise kept as it came."))
            .into(),
    );
    /// A run's id.
    RunId = text(
        "The host's key of a run (UUIDv7).",
        Some("^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"),
        "0197f3a0-5b7c-7d4e-9f10-2a3b4c5d6e7f",
    );
    /// An upload.
    Component = RefOr::T(
        ObjectBuilder::new()
            .schema_type(SchemaType::new(Type::String))
            .format(Some(SchemaFormat::Custom("binary".to_owned())))
            .description(Some("The bytes of a WebAssembly component, or of a core module with component metadata."))
            .into(),
    );
    /// SHA-256.
    Digest = text(
        "SHA-256, in hexadecimal digits.",
        Some("^[0-9a-f]{64}$"),
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    );
    /// A point in time.
    Timestamp = RefOr::T(
        ObjectBuilder::new()
            .schema_type(SchemaType::new(Type::Integer))
            .minimum(Some(0))
            .description(Some("Nanoseconds since the Unix epoch."))
            .examples([1_790_000_000_000_000_000_u64])
            .into(),
    );
    /// How a run stands.
    Status = named("How a run stands; `running` and `blocked` are open.", ports::Status::ALL.map(ports::Status::name));
    /// The type of an event.
    EventTypeName = named("The type of an event.", EventType::ALL.iter().map(|ty| ty.name()));
    /// How severe a log line is.
    LogLevel = named("How severe a log line is.", ["trace", "debug", "info", "warn", "error"]);
    /// Why an execution stands still.
    BlockReason = named(
        "Why an open execution stands still until somebody acts.",
        [
            "non-determinism", "trap", "out-of-fuel", "out-of-memory", "deadlock", "quarantined", "unusable", "history-limit",
        ],
    );
    /// Why something did not succeed.
    FailureKind = named(
        "Why something did not succeed.",
        ["application", "timeout", "canceled", "terminated", "rejected", "infrastructure"],
    );
}

/// A failure: the code is for programs, the message for people.
#[derive(ToSchema)]
pub struct Failure {
    #[schema(inline)]
    kind: FailureKind,
    code: String,
    message: String,
    #[schema(required = false)]
    details: Json,
    /// Whether another attempt may be worth it.
    retryable: bool,
}

/// How a life of the guest differs from its history.
#[derive(ToSchema)]
pub struct Divergence {
    /// The command at which they part.
    command_no: u64,
    /// The event that holds it, if history holds one.
    event_id: Option<u64>,
    /// The inbound event that was applied last.
    after_event: u64,
    /// What history holds.
    history: String,
    /// What the code asked for.
    code: String,
    /// The last command on which they agreed.
    last_agreed: u64,
}

/// One event of a history. `attributes` depend on the type.
#[derive(ToSchema)]
pub struct HistoryEvent {
    /// From 1, without gaps.
    #[schema(minimum = 1)]
    event_id: u64,
    timestamp: Timestamp,
    /// The version of the type's attributes that was stored.
    event_version: u16,
    /// The command that made this event, or that it resolves.
    command_no: Option<u64>,
    parent_event_id: Option<u64>,
    is_reset_point: bool,
    is_retry: bool,
    task_queue: Option<String>,
    trace_id: Option<String>,
    correlation_id: Option<String>,
    event_type: EventTypeName,
    #[schema(value_type = Object)]
    attributes: (),
    /// The chain up to and including this event.
    hash: Digest,
}

/// One version of a workflow.
#[derive(ToSchema)]
pub struct Version {
    workflow: String,
    /// From 1.
    version: u32,
    digest: Digest,
    /// The name under which the component exports it.
    export: String,
    #[schema(required = false)]
    input_schema: Json,
    #[schema(required = false)]
    output_schema: Json,
    /// New runs take it, but for the share of a canary.
    active: bool,
    deployed_at: Timestamp,
    /// Who deployed it first, and what they say of it.
    author: Option<String>,
    note: Option<String>,
    /// The public keys whose signatures were required and there, with spaces between.
    signed_by: Option<String>,
}

#[cfg(test)]
mod tests {
    use relive_core::{cursor, event, failure};

    use super::*;

    fn names<T: serde::Serialize>(values: &[T]) -> Vec<serde_json::Value> {
        values.iter().map(|value| serde_json::to_value(value).expect("a name")).collect()
    }

    fn listed(schema: RefOr<Schema>) -> Vec<serde_json::Value> {
        let RefOr::T(Schema::Object(object)) = schema else { return Vec::new() };
        object.enum_values.unwrap_or_default()
    }

    #[test]
    fn lists_hold_what_the_types_serialise_to() {
        use cursor::LogLevel as L;
        use event::BlockReason as B;
        use failure::FailureKind as F;
        assert_eq!(listed(LogLevel::schema()), names(&[L::Trace, L::Debug, L::Info, L::Warn, L::Error]));
        assert_eq!(
            listed(FailureKind::schema()),
            names(&[F::Application, F::Timeout, F::Canceled, F::Terminated, F::Rejected, F::Infrastructure])
        );
        let reasons = [
            B::NonDeterminism,
            B::Trap,
            B::OutOfFuel,
            B::OutOfMemory,
            B::Deadlock,
            B::Quarantined,
            B::Unusable,
            B::HistoryLimit,
        ];
        assert_eq!(listed(BlockReason::schema()), names(&reasons));
        assert_eq!(listed(Status::schema()), names(&ports::Status::ALL));
        assert_eq!(listed(EventTypeName::schema()), names(EventType::ALL));
    }
}
