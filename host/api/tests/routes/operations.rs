//! `/metrics` against the documents of operators: the table of metrics, the alerts with their runbooks, the dashboard.
//! `RELIVE_BLESS=1` writes the table.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use relive_engine::metrics::Definition;
use serde_json::Value;

use crate::fixture::Api;

fn operations() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operations")
}

fn read(name: &str) -> String {
    let path = operations().join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn definitions() -> BTreeMap<&'static str, &'static Definition> {
    relive_api::metric_definitions().map(|definition| (definition.name, definition)).collect()
}

fn table() -> String {
    let mut table = "| name | type | labels | meaning |\n|---|---|---|---|\n".to_owned();
    for definition in relive_api::metric_definitions() {
        let labels: Vec<String> = definition.labels.iter().map(|label| format!("`{label}`")).collect();
        let (name, kind) = (definition.name, definition.kind.name());
        table += &format!("| `{name}` | {kind} | {} | {} |\n", labels.join(", "), definition.meaning);
    }
    table
}

#[test]
fn the_document_lists_every_metric() {
    let text = read("metrics.md");
    let (head, rest) = text.split_once("<!-- table -->\n").expect("a mark before the table");
    let (_, tail) = rest.split_once("<!-- end -->").expect("a mark after the table");
    let wanted = format!("{head}<!-- table -->\n{}<!-- end -->{tail}", table());
    if std::env::var_os("RELIVE_BLESS").is_some() {
        std::fs::write(operations().join("metrics.md"), &wanted).expect("the document");
    } else {
        assert!(text == wanted, "docs/operations/metrics.md is not what /metrics shows; run with RELIVE_BLESS=1");
    }
}

/// Metrics of an exposition, each with its help and type.
fn shown(text: &str) -> BTreeMap<&str, (&str, &str)> {
    let mut shown = BTreeMap::new();
    let mut help = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').expect("a help").1;
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            assert!(shown.insert(name, (kind, help)).is_none(), "{name} is shown twice");
        }
    }
    shown
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_shows_every_metric_and_no_other() {
    let api = Api::new();
    api.deploy("echo").await;
    api.deploy("listen").await;
    let executions = "/v1/namespaces/default/executions";
    api.post(&format!("{executions}?wait_ms=10000"), r#"{"workflow":"echo"}"#).await.expect(200);
    api.post(executions, r#"{"workflow":"listen","workflow_id":"open"}"#).await.expect(201);
    let ready = |reply: &crate::fixture::Reply| reply.body.contains("\nrelive_ready 1\n");
    let answer = api.until("/metrics", ready).await;
    let definitions = definitions();
    let shown = shown(&answer.body);
    assert_eq!(shown.keys().collect::<Vec<_>>(), definitions.keys().collect::<Vec<_>>());
    for (name, definition) in &definitions {
        assert_eq!(shown[name], (definition.kind.name(), definition.meaning));
    }
    for line in [
        "workflow_started 2",
        "workflow_completed 1",
        "workflow_endtoend_latency_count 1",
        "relive_executions{status=\"running\"} 1",
        "relive_executions_blocked{reason=\"trap\"} 0",
        "activity_execution_failed{kind=\"timeout\"} 0",
        "relive_http_requests_total{method=\"POST\",route=\"/v1/namespaces/{namespace}/executions\",status=\"201\"} 1",
        "relive_build_info{version=\"0.1.0\"} 1",
    ] {
        assert!(answer.body.lines().any(|shown| shown == line), "{line} is missing from\n{}", answer.body);
    }
}

/// Names in a query that can only be metrics: those with an underscore that are no labels and no functions.
fn named(query: &str) -> BTreeSet<String> {
    let labels: BTreeSet<&str> = definitions().values().flat_map(|d| d.labels).copied().collect();
    let functions = ["histogram_quantile", "sum_over_time", "max_over_time", "label_values", "label_replace"];
    let variable = |c: char| c == '_' || c.is_ascii_alphanumeric();
    // What stands in quotes or names labels to keep is none.
    let bare: String = query.split('"').step_by(2).collect::<Vec<_>>().join(" ");
    let words = bare.split(|c| !variable(c)).filter(|w| w.contains('_') && !w.starts_with("__"));
    words.filter(|w| !labels.contains(w) && !functions.contains(w)).map(str::to_owned).collect()
}

fn check(place: &str, query: &str) {
    let definitions = definitions();
    let names = named(query);
    assert!(!names.is_empty(), "{place}: {query:?} names no metric");
    for name in names {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let known = definitions.contains_key(&*name) || base.is_some_and(|base| definitions.contains_key(base));
        assert!(known, "{place}: nothing shows {name}");
    }
}

#[test]
fn alerts_ask_for_metrics_that_there_are_and_each_has_its_runbook() {
    let text = read("alerts.yml");
    let field = |line: &str, name: &str| {
        line.trim()
            .trim_start_matches("- ")
            .strip_prefix(&format!("{name}: "))
            .map(|v| v.trim_matches(['"', '\'']).to_owned())
    };
    let alerts: Vec<String> = text.lines().filter_map(|line| field(line, "alert")).collect();
    let queries: Vec<String> = text.lines().filter_map(|line| field(line, "expr")).collect();
    let books: Vec<String> = text.lines().filter_map(|line| field(line, "runbook_url")).collect();
    assert!(alerts.len() >= 8, "{alerts:?}");
    assert_eq!((alerts.len(), alerts.len()), (queries.len(), books.len()));
    for ((alert, query), book) in alerts.iter().zip(&queries).zip(&books) {
        check(alert, query);
        let file = book.rsplit_once("/runbooks/").unwrap_or_else(|| panic!("{alert}: {book}")).1;
        let runbook = read(&format!("runbooks/{file}"));
        for part in ["## Symptom", "## What it means", "## Look", "## Do", alert] {
            assert!(runbook.contains(part), "runbooks/{file} has no {part:?}");
        }
    }
    let kept: BTreeSet<&str> = books.iter().filter_map(|book| Some(book.rsplit_once('/')?.1)).collect();
    for entry in std::fs::read_dir(operations().join("runbooks")).expect("the runbooks") {
        let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
        assert!(kept.contains(&*name), "no alert leads to runbooks/{name}");
    }
}

#[test]
fn the_dashboard_asks_for_metrics_that_there_are() {
    let dashboard: Value = serde_json::from_str(&read("dashboard.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut queries = 0;
    for panel in panels {
        let title = panel["title"].as_str().expect("a title");
        for target in panel["targets"].as_array().into_iter().flatten() {
            check(title, target["expr"].as_str().expect("a query"));
            queries += 1;
        }
    }
    assert!(queries >= 20, "{queries} queries");
}
