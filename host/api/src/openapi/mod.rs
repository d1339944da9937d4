//! The OpenAPI 3.1 document, generated from the routes: what the table of routes holds is documented by what its
//! handlers say, and what all of them have in common (names in paths, problems, the correlation id) is added here once.
//! Must not know: what any single route does.

mod parameters;
mod problems;

use std::sync::OnceLock;

use serde_json::{Map, Value, json};
use utoipa::openapi::OpenApi;

use crate::routes;

const DESCRIPTION: &str = "\
HTTP/JSON interface of a Relive host. Users' JSON (inputs, results, payloads) passes through as the text that was sent.

Errors are problem details (RFC 9457) whose `code` is stable; `x-problem-codes` of an operation lists those that it can
answer with. Every answer carries `X-Correlation-Id`: the request's, or a fresh one.";

/// The document's text. Made once.
pub fn openapi() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| {
        let document = finish(routes::document());
        // A document of strings and numbers always has a text.
        serde_json::to_string_pretty(&document).unwrap_or_default()
    })
}

/// Adds to the generated document what no single handler says.
fn finish(generated: OpenApi) -> Value {
    let mut document = serde_json::to_value(generated).unwrap_or_default();
    document["info"] = json!({
        "title": "Relive",
        "version": env!("CARGO_PKG_VERSION"),
        "description": DESCRIPTION,
        "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
    });
    document["servers"] = json!([{ "url": "http://127.0.0.1:7474", "description": "`relive dev` on this machine" }]);
    if let Some(paths) = document["paths"].as_object_mut() {
        for (path, item) in paths {
            for operation in item.as_object_mut().into_iter().flat_map(Map::values_mut) {
                complete(path, operation);
            }
        }
    }
    document["components"]["schemas"]["Problem"] = problems::schema();
    document["components"]["headers"]["CorrelationId"] = json!({
        "description": "Names the request across logs, events and hosts.",
        "schema": { "type": "string", "minLength": 1, "maxLength": 128 },
    });
    document
}

fn complete(path: &str, operation: &mut Value) {
    // A body that may be absent is not one that may be `null`.
    let schema = "/requestBody/content/application~1json/schema";
    if let Some(body) = operation.pointer_mut(schema)
        && let Some(other) = parameters::not_null(body)
    {
        *body = other;
        operation["requestBody"]["required"] = json!(false);
    }
    parameters::add(path, operation);
    problems::add(path, operation);
    for response in operation["responses"].as_object_mut().into_iter().flat_map(Map::values_mut) {
        response["headers"]["X-Correlation-Id"] = json!({ "$ref": "#/components/headers/CorrelationId" });
    }
}
