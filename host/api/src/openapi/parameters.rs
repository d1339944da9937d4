//! Parameters that many routes share, by where they stand: names in paths, `?run_id=` of everything below an execution.

use serde_json::{Value, json};

use crate::sse;

/// Paths of one execution begin so.
const OF_EXECUTION: &str = "/executions/{id}";

/// Adds what the path itself says; what the handler documents stays.
pub fn add(path: &str, operation: &mut Value) {
    let mut added: Vec<Value> = names(path).map(in_path).collect();
    if path.contains(OF_EXECUTION) {
        added.push(json!({
            "name": "run_id", "in": "query", "required": false,
            "description": "Names a run. Without it: the open run of the workflow id, else its latest.",
            "schema": { "type": "string", "format": "uuid" },
        }));
    }
    if operation["responses"]["200"]["content"][sse::MEDIA_TYPE].is_object() {
        added.push(json!({
            "name": "Last-Event-ID", "in": "header", "required": false,
            "description": "The id of the last event of a stream that was seen: a new one goes on after it.",
            "schema": { "type": "string", "maxLength": 2048 },
        }));
    }
    if let Some(documented) = operation["parameters"].as_array() {
        added.extend(documented.iter().filter(|p| p["in"] != "path").cloned().map(without_null));
    }
    if !added.is_empty() {
        operation["parameters"] = Value::Array(added);
    }
}

/// A parameter is there or not; there is no `null` in a query or a header.
fn without_null(mut parameter: Value) -> Value {
    let schema = &mut parameter["schema"];
    if let Some(types) = schema["type"].as_array()
        && let Some(other) = types.iter().find(|ty| *ty != "null").cloned()
    {
        schema["type"] = other;
    }
    if let Some(other) = not_null(schema) {
        *schema = other;
    }
    parameter
}

/// The other one of two, if a schema says "null or this".
pub fn not_null(schema: &Value) -> Option<Value> {
    let [a, b] = schema["oneOf"].as_array()?.as_slice() else { return None };
    (a["type"] == "null").then(|| b.clone())
}

/// What stands in braces.
pub fn names(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
}

fn in_path(name: &str) -> Value {
    let (description, schema) = match name {
        "namespace" => (
            "The namespace; `default` exists from the first day.",
            json!({ "type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[A-Za-z0-9_.-]+$", "examples": ["default"] }),
        ),
        "id" => (
            "The workflow id: the caller's key of the execution. Percent-encoded, so it may hold slashes.",
            json!({ "type": "string", "minLength": 1, "maxLength": 256, "examples": ["order-17"] }),
        ),
        "channel" => (
            "A channel that the workflow reads.",
            json!({ "type": "string", "minLength": 1, "maxLength": 256, "examples": ["approved"] }),
        ),
        "token" => {
            ("The token that came with the task.", json!({ "type": "string", "minLength": 1, "maxLength": 256 }))
        }
        "step" => {
            ("The number of a step, as `show` has it.", json!({ "type": "integer", "minimum": 1, "examples": [1] }))
        }
        "worker" => ("The worker's id.", json!({ "type": "string", "minLength": 1, "maxLength": 256 })),
        "queue" => (
            "The name of a task queue.",
            json!({ "type": "string", "minLength": 1, "maxLength": 128, "examples": ["default"] }),
        ),
        "version" => (
            "The number of a version.",
            json!({ "type": "integer", "minimum": 1, "maximum": 4_294_967_295u32, "examples": [2] }),
        ),
        "workflow" => (
            "The name of a workflow.",
            json!({ "type": "string", "minLength": 1, "maxLength": 128, "examples": ["order"] }),
        ),
        "key" => (
            "A key under which the workflow published.",
            json!({ "type": "string", "minLength": 1, "examples": ["progress"] }),
        ),
        _ => ("", json!({ "type": "string", "minLength": 1 })),
    };
    json!({ "name": name, "in": "path", "required": true, "description": description, "schema": schema })
}
