//! The document against the router: no route undocumented, none documented that does not exist, no code without a
//! status, no reference to nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use axum::http::Method;
use serde_json::Value;

use crate::fixture::Api;

fn document() -> Value {
    serde_json::from_str(relive_api::openapi()).expect("JSON")
}

/// Methods by path, as documented.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let document = document();
    let paths = document["paths"].as_object().expect("paths");
    paths
        .iter()
        .map(|(path, item)| (path.clone(), item.as_object().expect("methods").keys().cloned().collect()))
        .collect()
}

/// A path with something in the place of every name.
fn filled(path: &str) -> String {
    let segments = path.split('/').map(|segment| if segment.starts_with('{') { "x" } else { segment });
    segments.collect::<Vec<_>>().join("/")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_documented_route_is_there_with_these_methods_and_no_others() {
    let api = Api::new();
    for (path, methods) in documented() {
        let refused = api.call(Method::from_bytes(b"PURGE").expect("a method"), &filled(&path), "", &[]).await;
        refused.problem(405, "method-not-allowed");
        let mut allowed: BTreeSet<String> = refused.allow.split(',').map(str::to_ascii_lowercase).collect();
        // Whoever answers GET answers HEAD.
        allowed.remove("head");
        assert_eq!(allowed, methods, "{path}: the router and the document take different methods");
        for method in methods {
            let method = Method::from_bytes(method.to_ascii_uppercase().as_bytes()).expect("a method");
            let answer = api.call(method, &filled(&path), "", &[]).await;
            let missing = answer.status == 404 && answer.body.contains(r#""code":"unknown-route""#);
            assert!(!missing, "{path} is documented and not there");
        }
    }
}

/// `routes!` documents what it registers. Everything else that can add a route adds it without a word.
#[test]
fn no_route_is_registered_without_its_documentation() {
    let mut rows = Vec::new();
    look(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut rows);
    assert!(rows.is_empty(), "register routes with `.routes(routes!(..))`:\n{}", rows.join("\n"));
}

fn look(folder: &Path, rows: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            look(&path, rows);
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("text");
        let silent = [".route(", ".route_service(", ".nest_service(", ".fallback_service("];
        for (at, line) in text.lines().enumerate().filter(|(_, line)| silent.iter().any(|call| line.contains(call))) {
            rows.push(format!("  {}:{} {}", path.display(), at + 1, line.trim()));
        }
    }
}

fn operations(document: &Value) -> impl Iterator<Item = (String, &Value)> {
    let paths = document["paths"].as_object().expect("paths");
    paths.iter().flat_map(|(path, item)| {
        let methods = item.as_object().expect("methods");
        methods.iter().map(move |(method, operation)| (format!("{method} {path}"), operation))
    })
}

#[test]
fn every_operation_says_what_it_is_and_what_can_go_wrong() {
    let document = document();
    assert_eq!(document["openapi"], "3.1.0");
    let known: BTreeSet<&str> = relive_api::CODES.iter().flat_map(|(_, codes)| codes.iter().copied()).collect();
    let mut ids = BTreeSet::new();
    for (name, operation) in operations(&document) {
        assert!(operation["summary"].as_str().is_some_and(|summary| summary.len() > 10), "{name} has no summary");
        let id = operation["operationId"].as_str().expect("an id");
        assert!(ids.insert(id), "two operations are called {id}");
        for code in operation["x-problem-codes"].as_array().expect("codes") {
            assert!(known.contains(code.as_str().expect("a code")), "{name} names {code}, which has no status");
        }
        for (status, response) in operation["responses"].as_object().expect("responses") {
            if status.starts_with(['4', '5']) {
                assert!(response["content"]["application/problem+json"].is_object(), "{name} {status}");
            }
        }
        let path = name.split_once(' ').expect("a path").1;
        for part in path.split('/').filter(|part| part.starts_with('{')) {
            let parameters = operation["parameters"].as_array().expect("parameters");
            let found = parameters
                .iter()
                .filter(|p| p["in"] == "path" && format!("{{{}}}", p["name"].as_str().unwrap()) == part);
            let described: Vec<_> = found.map(|p| p["description"].as_str().unwrap_or_default().len()).collect();
            assert!(matches!(described[..], [len] if len > 0), "{name}: {part} is not described");
        }
    }
    assert!(ids.len() > 20);
}

fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("$ref").and_then(Value::as_str));
            fields.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[test]
fn references_lead_somewhere_and_components_are_used() {
    let document = document();
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    for reference in &found {
        let target = document.pointer(reference.strip_prefix('#').expect("a local reference"));
        assert!(target.is_some_and(Value::is_object), "{reference} leads nowhere");
    }
    for name in document["components"]["schemas"].as_object().expect("schemas").keys() {
        assert!(found.contains(format!("#/components/schemas/{name}").as_str()), "nothing uses {name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_serves_its_document() {
    let served = Api::new().get("/v1/openapi.json").await;
    served.expect(200);
    assert_eq!(served.body, relive_api::openapi());
}
