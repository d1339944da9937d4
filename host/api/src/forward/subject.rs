//! What a request names: an execution, or the one that a task belongs to. Read off the path, and off the body where the
//! path does not say.

use axum::http::{HeaderMap, Method};
use relive_core::{Namespace, WorkflowId};
use relive_engine::{Engine, Place, derived_id};
use serde::Deserialize;

use crate::extract::idempotency_key;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// Every host answers it alike.
    Local,
    Execution(Namespace, WorkflowId),
    /// The body may name an execution that is to be.
    New(Namespace),
    Task(String),
    /// The body names a task.
    Claim,
    /// The body holds answers for many tasks.
    Answers,
}

/// What is named, once the body is read.
pub(super) enum Named {
    /// Nothing that has an owner, or nothing that can be read: the handler knows better.
    Nothing,
    One(Name),
    Batch,
}

pub(super) enum Name {
    Execution(Namespace, WorkflowId),
    Task(String),
}

#[derive(Deserialize)]
struct NewBody {
    workflow_id: Option<WorkflowId>,
    request_id: Option<String>,
}

#[derive(Deserialize)]
struct ClaimBody {
    task: String,
}

impl Subject {
    pub fn of(method: &Method, path: &str) -> Self {
        let Some(rest) = path.strip_prefix("/v1/namespaces/") else { return Self::Local };
        // What cannot be read is for the routes to refuse.
        let Some(parts) = rest.split('/').map(decoded).collect::<Option<Vec<String>>>() else { return Self::Local };
        let mut parts = parts.into_iter();
        let mut next = || parts.next();
        let (Some(namespace), Some(kind)) = (next(), next()) else { return Self::Local };
        let (name, action) = (next(), next());
        let Ok(namespace) = Namespace::new(&namespace) else { return Self::Local };
        let post = *method == Method::POST;
        match (kind.as_str(), name, action.as_deref()) {
            ("executions", None, _) if post => Self::New(namespace),
            ("executions", Some(_), Some("fork")) => Self::New(namespace),
            ("executions", Some(id), _) => match WorkflowId::new(&id) {
                Ok(id) => Self::Execution(namespace, id),
                Err(_) => Self::Local,
            },
            ("tasks", Some(name), None) if name == "claim" => Self::Claim,
            ("tasks", Some(name), None) if name == "complete" => Self::Answers,
            ("tasks", Some(token), Some(_)) => Self::Task(token),
            _ => Self::Local,
        }
    }

    pub fn named(self, headers: &HeaderMap, body: &[u8]) -> Named {
        match self {
            Self::Local => Named::Nothing,
            Self::Execution(namespace, id) => Named::One(Name::Execution(namespace, id)),
            Self::Task(token) => Named::One(Name::Task(token)),
            Self::Answers => Named::Batch,
            Self::Claim => match serde_json::from_slice::<ClaimBody>(body) {
                Ok(body) => Named::One(Name::Task(body.task)),
                Err(_) => Named::Nothing,
            },
            Self::New(namespace) => {
                let Ok(body) = serde_json::from_slice::<NewBody>(body) else { return Named::Nothing };
                let key = || idempotency_key(headers, body.request_id, "request_id").ok().flatten();
                match body.workflow_id.or_else(|| derived_id(&key()?).ok()) {
                    Some(id) => Named::One(Name::Execution(namespace, id)),
                    // The host that takes it chooses an id of its own shards.
                    None => Named::Nothing,
                }
            }
        }
    }
}

impl Name {
    pub fn place(&self, engine: &Engine) -> Place {
        match self {
            Self::Execution(namespace, id) => engine.place(namespace, id),
            // What is no token is refused by the handler, here as anywhere.
            Self::Task(text) => engine.place_task(text).unwrap_or(Place::Here),
        }
    }
}

/// A segment of a path without its percent signs; none if that is no text.
fn decoded(segment: &str) -> Option<String> {
    if !segment.contains('%') {
        return Some(segment.to_owned());
    }
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |b: Option<u8>| char::from(b?).to_digit(16);
        let (high, low) = (digit(rest.next())?, digit(rest.next())?);
        bytes.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(method: &str, path: &str) -> Subject {
        Subject::of(&method.parse().unwrap(), path)
    }

    #[test]
    fn paths_name_what_has_an_owner() {
        let execution = |id: &str| Subject::Execution(Namespace::default(), WorkflowId::new(id).unwrap());
        assert_eq!(of("GET", "/v1/namespaces/default/executions/order-1"), execution("order-1"));
        assert_eq!(of("POST", "/v1/namespaces/default/executions/a%2Fb%20c/signals/x"), execution("a/b c"));
        assert_eq!(of("POST", "/v1/namespaces/default/executions"), Subject::New(Namespace::default()));
        assert_eq!(of("POST", "/v1/namespaces/default/executions/x/fork"), Subject::New(Namespace::default()));
        assert_eq!(of("POST", "/v1/namespaces/default/tasks/1-2-3-4/fail"), Subject::Task("1-2-3-4".into()));
        assert_eq!(of("POST", "/v1/namespaces/default/tasks/claim"), Subject::Claim);
        assert_eq!(of("POST", "/v1/namespaces/default/tasks/complete"), Subject::Answers);
        for path in
            ["/healthz", "/v1/status", "/v1/namespaces/default/workers/1/beat", "/v1/namespaces/default/executions/%zz"]
        {
            assert_eq!(of("POST", path), Subject::Local, "{path}");
        }
        assert_eq!(of("GET", "/v1/namespaces/default/executions"), Subject::Local);
    }

    #[test]
    fn bodies_name_what_is_to_be() {
        let named = |body: &str| Subject::New(Namespace::default()).named(&HeaderMap::new(), body.as_bytes());
        assert!(
            matches!(named(r#"{"workflow":"w","workflow_id":"a"}"#), Named::One(Name::Execution(_, id)) if id.as_str() == "a")
        );
        assert!(
            matches!(named(r#"{"workflow":"w","request_id":"k"}"#), Named::One(Name::Execution(_, id)) if id.as_str().starts_with("request-"))
        );
        assert!(matches!(named(r#"{"workflow":"w"}"#), Named::Nothing));
        assert!(matches!(named("no json"), Named::Nothing));
    }
}
