//! Which problems a route can answer with: the codes that its handler names in `x-problems`, and those that follow from
//! its shape (it has names in its path, a query, a body). Their statuses come from the one table in `codes`.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::StatusCode;
use relive_core::ErrorKind;
use serde_json::{Value, json};

use super::parameters;
use crate::{
    codes::{CODES, status_of},
    problem::title,
};

/// What any request can meet.
const ANY: &[&str] = &["foreign-host", "foreign-origin", "internal"];
/// What any route that asks the store can meet.
const STORE: &[&str] = &["store-unavailable", "corrupt", "read-only", "no-space"];
const PATH: &[&str] = &["invalid-path", "invalid-name"];
const QUERY: &[&str] = &["invalid-query"];
const BODY: &[&str] = &["payload-too-large", "invalid-body", "request-timeout"];
const JSON_BODY: &[&str] = &["invalid-json", "unsupported-media-type"];
/// Named by handlers that take a component: everything that admission says of one.
const UPLOAD: &str = "upload";
/// Of the same status as what admission says, and not said by it.
const NOT_OF_UPLOADS: &[&str] = &["schema-mismatch", "replay-failed"];

/// Replaces `x-problems` by responses, and lists the codes as `x-problem-codes`.
pub fn add(path: &str, operation: &mut Value) {
    let codes = codes(path, operation);
    let Some(fields) = operation.as_object_mut() else { return };
    fields.remove("x-problems");
    let mut by_status: BTreeMap<u16, Vec<&str>> = BTreeMap::new();
    for code in &codes {
        by_status.entry(status_of(code, ErrorKind::Unknown).as_u16()).or_default().push(code);
    }
    for (status, codes) in by_status {
        operation["responses"][status.to_string()] = response(status, &codes);
    }
    operation["x-problem-codes"] = json!(codes);
}

fn codes(path: &str, operation: &Value) -> BTreeSet<String> {
    let mut codes: BTreeSet<String> = BTreeSet::new();
    let mut take = |more: &[&str]| codes.extend(more.iter().map(|code| (*code).to_owned()));
    take(ANY);
    if parameters::names(path).next().is_some() {
        take(PATH);
        take(STORE);
    }
    if operation["parameters"].as_array().is_some_and(|all| all.iter().any(|p| p["in"] == "query")) {
        take(QUERY);
    }
    let content = &operation["requestBody"]["content"];
    if content.is_object() {
        take(BODY);
    }
    if content["application/json"].is_object() {
        take(JSON_BODY);
    }
    for named in operation["x-problems"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if named == UPLOAD {
            take(&of_uploads());
        } else {
            take(&[named]);
        }
    }
    codes
}

fn of_uploads() -> Vec<&'static str> {
    let unprocessable = CODES.iter().filter(|(status, _)| *status == StatusCode::UNPROCESSABLE_ENTITY);
    let said = unprocessable.flat_map(|(_, codes)| codes.iter().copied()).filter(|c| !NOT_OF_UPLOADS.contains(c));
    said.chain(["too-large", "compile-unavailable", "unusable", "digest-mismatch", "native-code-unloadable"]).collect()
}

fn response(status: u16, codes: &[&str]) -> Value {
    let listed: Vec<String> = codes.iter().map(|code| format!("`{code}`")).collect();
    let examples: serde_json::Map<String, Value> = codes
        .iter()
        .take(MAX_EXAMPLES)
        .map(|code| ((*code).to_owned(), json!({ "summary": title(code), "value": example(status, code) })))
        .collect();
    json!({
        "description": listed.join(", "),
        "content": { "application/problem+json": {
            "schema": { "$ref": "#/components/schemas/Problem" },
            "examples": examples,
        } },
    })
}

/// Admission has dozens of codes; a few show the shape.
const MAX_EXAMPLES: usize = 4;

fn example(status: u16, code: &str) -> Value {
    json!({
        "type": format!("urn:relive:problem:{code}"),
        "title": title(code),
        "status": status,
        "detail": "a sentence for people: what was wrong, where, and what to do",
        "code": code,
        "kind": "Validation",
        "context": {},
        "correlation_id": "0197f3a05b7c7d4e9f102a3b4c5d6e7f",
    })
}

/// The shape of a problem (RFC 9457 with extensions).
pub fn schema() -> Value {
    let codes: Vec<&str> = CODES.iter().flat_map(|(_, codes)| codes.iter().copied()).collect();
    json!({
        "type": "object",
        "description": "Problem details (RFC 9457). Programs branch on `code`.",
        "required": ["type", "title", "status", "detail", "code", "kind", "context", "correlation_id"],
        "properties": {
            "type": { "type": "string", "description": "`urn:relive:problem:` and the code." },
            "title": { "type": "string" },
            "status": { "type": "integer", "minimum": 400, "maximum": 599 },
            "detail": { "type": "string", "description": "What was wrong, where, and what to do." },
            "code": { "type": "string", "description": "Stable.", "examples": codes },
            "kind": { "type": "string", "description": "What part of the host, or of the user's work, it is about." },
            "context": {
                "type": "object",
                "description": "Where it happened, as far as it is known.",
                "properties": {
                    "execution": { "type": "object" },
                    "step": { "type": "integer" },
                    "attempt": { "type": "integer" },
                    "correlation_id": { "type": "string" },
                },
            },
            "correlation_id": { "type": "string" },
        },
    })
}
