//! Requests by route and status, and how long they took. The cells of every route are made with the router, so that a
//! request finds its own without a lock and makes nothing.

use std::{collections::HashMap, sync::Arc, time::Duration};

use axum::http::{Method, StatusCode};
use relive_engine::metrics::{Counter, Definition, FAST, Family, Histogram, Kind, Value};
use utoipa::openapi::{OpenApi, path::PathItem};

static REQUESTS: Definition = Definition {
    name: "relive_http_requests_total",
    kind: Kind::Counter,
    labels: &["method", "route", "status"],
    meaning: "Requests that were answered. What is no route is counted as `other`.",
};
static LATENCY: Definition = Definition {
    name: "relive_http_request_latency_seconds",
    kind: Kind::Histogram,
    labels: &["method", "route"],
    meaning: "Seconds until a request's answer began. Long polls take as long as they wait.",
};

/// What is counted here.
pub static DEFINITIONS: &[&Definition] = &[&REQUESTS, &LATENCY];

/// Statuses with a counter of their own; others are shown as the last.
const STATUSES: [u16; 21] =
    [200, 201, 204, 304, 400, 401, 403, 404, 405, 408, 409, 413, 415, 421, 422, 429, 500, 503, 504, 507, 0];
const OTHER: &str = "other";

struct Cells {
    statuses: [Counter; STATUSES.len()],
    latency: Histogram,
}

impl Default for Cells {
    fn default() -> Self {
        Self { statuses: Default::default(), latency: Histogram::seconds(FAST) }
    }
}

/// The requests of a router.
#[derive(Default)]
pub struct Traffic {
    /// By path, then by method.
    routes: HashMap<String, Vec<(Method, Cells)>>,
    other: Cells,
}

impl Traffic {
    /// Cells for everything that the document names.
    pub fn of(document: &OpenApi) -> Arc<Self> {
        let routes = document.paths.paths.iter().map(|(path, item)| {
            let cells = methods(item).into_iter().map(|method| (method, Cells::default()));
            (path.clone(), cells.collect())
        });
        Arc::new(Self { routes: routes.collect(), other: Cells::default() })
    }

    /// A request was answered. `route` is the path as the router knows it.
    pub fn answered(&self, method: &Method, route: Option<&str>, status: StatusCode, took: Duration) {
        let of_route = route.and_then(|route| self.routes.get(route));
        let found = of_route.and_then(|cells| cells.iter().find(|(m, _)| m == method));
        let cells = found.map_or(&self.other, |(_, cells)| cells);
        let at = STATUSES.iter().position(|s| *s == status.as_u16()).unwrap_or(STATUSES.len() - 1);
        cells.statuses[at].one();
        cells.latency.took(took);
    }

    /// What was counted, those alone that came.
    pub fn families(&self) -> [Family; 2] {
        let (mut requests, mut latency) = (Family::new(&REQUESTS), Family::new(&LATENCY));
        let routes =
            self.routes.iter().flat_map(|(route, cells)| cells.iter().map(move |(m, c)| (m.as_str(), &**route, c)));
        let mut all: Vec<_> =
            routes.chain([(OTHER, OTHER, &self.other)]).filter(|(.., c)| c.latency.count() > 0).collect();
        all.sort_unstable_by_key(|(method, route, _)| (*route, *method));
        for (method, route, cells) in all {
            for (status, counter) in STATUSES.iter().zip(&cells.statuses).filter(|(_, counter)| counter.get() > 0) {
                let status = if *status == 0 { OTHER.to_owned() } else { status.to_string() };
                requests = requests.with(&[method, route, &status], counter.get() as f64);
            }
            latency = latency.with_value(&[method, route], Value::Histogram(cells.latency.snapshot()));
        }
        [requests, latency]
    }
}

fn methods(item: &PathItem) -> Vec<Method> {
    let documented = [
        (item.get.is_some(), Method::GET),
        (item.post.is_some(), Method::POST),
        (item.put.is_some(), Method::PUT),
        (item.patch.is_some(), Method::PATCH),
        (item.delete.is_some(), Method::DELETE),
    ];
    documented.into_iter().filter(|(there, _)| *there).map(|(_, method)| method).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_counted_where_it_belongs() {
        let traffic = Traffic::of(&crate::routes::document());
        let took = Duration::from_millis(1);
        let path = "/v1/namespaces/{namespace}/executions";
        traffic.answered(&Method::POST, Some(path), StatusCode::CREATED, took);
        traffic.answered(&Method::POST, Some(path), StatusCode::IM_A_TEAPOT, took);
        traffic.answered(&Method::GET, None, StatusCode::NOT_FOUND, took);
        let [requests, latency] = traffic.families();
        let labels: Vec<String> = requests.samples.iter().map(|s| s.labels.join(" ")).collect();
        let post = format!("POST {path}");
        assert_eq!(labels, [format!("{post} 201"), format!("{post} other"), "other other 404".to_owned()]);
        assert_eq!(latency.samples.len(), 2);
    }
}
