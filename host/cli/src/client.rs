//! The HTTP client of all verbs: routes, requests, and what their failures mean. Answers come back as the text that
//! the host sent, so that `--json` can show it untouched.

use std::{collections::BTreeMap, time::Duration};

use relive_core::{Json, json::JsonError};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use ureq::{Agent, Body, BodyReader, http::Response};

use crate::exit::{Exit, Failure};

/// A host that is up accepts at once; one that is down refuses at once. This is for what hangs in between.
const CONNECT: Duration = Duration::from_secs(5);
/// The longest answer that is waited for: a compilation takes up to 120 s, and a verification of everything as long.
const ANSWER: Duration = Duration::from_secs(300);
/// Answers are bounded by the host's pages; a full history page with the largest payloads is below this.
const MAX_ANSWER_BYTES: u64 = 256 << 20;

/// A path below the server, percent-encoded as it is built.
#[derive(Clone, Debug)]
pub struct Route {
    text: String,
    has_query: bool,
}

impl Route {
    /// A path that needs no encoding.
    #[must_use]
    pub fn fixed(path: &str) -> Self {
        Self { text: path.to_owned(), has_query: false }
    }

    #[must_use]
    pub fn segment(mut self, segment: &str) -> Self {
        self.text.push('/');
        // A segment of dots alone would be taken for a step in the hierarchy.
        let dots = !segment.is_empty() && segment.bytes().all(|b| b == b'.');
        self.encode(segment, dots);
        self
    }

    #[must_use]
    pub fn query(mut self, name: &str, value: impl ToString) -> Self {
        self.text.push(if self.has_query { '&' } else { '?' });
        self.has_query = true;
        self.text.push_str(name);
        self.text.push('=');
        self.encode(&value.to_string(), false);
        self
    }

    /// As [`Self::query`], if there is a value.
    #[must_use]
    pub fn query_if(self, name: &str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.query(name, value),
            None => self,
        }
    }

    fn encode(&mut self, text: &str, dots: bool) {
        for byte in text.bytes() {
            let plain = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~') || (byte == b'.' && !dots);
            if plain {
                self.text.push(char::from(byte));
            } else {
                self.text.push_str(&format!("%{byte:02X}"));
            }
        }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// Talks to one host about one namespace.
pub struct Client {
    agent: Agent,
    server: String,
    namespace: String,
    run: Option<String>,
}

impl Client {
    #[must_use]
    pub fn new(server: &str, namespace: &str, run: Option<&str>) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(ANSWER))
            // A proxy of the environment is for the outside; hosts are reached directly.
            .proxy(None)
            .max_redirects(0)
            .build();
        Self {
            agent: config.into(),
            server: server.trim_end_matches('/').to_owned(),
            namespace: namespace.to_owned(),
            run: run.map(str::to_owned),
        }
    }

    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// A route of the namespace.
    #[must_use]
    pub fn namespace(&self, path: &str) -> Route {
        let mut route = Route::fixed("/v1/namespaces").segment(&self.namespace);
        route.text.push('/');
        route.text.push_str(path);
        route
    }

    /// A route of an execution, with the run that `--run` names. `path` is empty or `history`, `signals` ...
    #[must_use]
    pub fn execution(&self, id: &str, path: &[&str]) -> Route {
        let route = path.iter().fold(self.namespace("executions").segment(id), |route, segment| route.segment(segment));
        route.query_if("run_id", self.run.as_deref())
    }

    pub fn get(&self, route: &Route) -> Result<String, Failure> {
        self.read(self.agent.get(self.url(route)?).call())
    }

    /// All items of a list, page by page, as the text that they are; `field` holds them.
    pub fn all(&self, route: &Route, field: &str) -> Result<Vec<Box<RawValue>>, Failure> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let answer = self.get(&route.clone().query_if("cursor", cursor.as_deref()))?;
            let mut page: BTreeMap<String, Box<RawValue>> = decode(&answer)?;
            if let Some(list) = page.remove(field) {
                items.append(&mut decode(list.get())?);
            }
            match page.remove("next_cursor") {
                Some(next) => cursor = decode(next.get())?,
                None => return Ok(items),
            }
        }
    }

    /// A stream of events after the one that is named; none if there is nothing left to come.
    pub fn stream(&self, route: &Route, last: Option<&str>) -> Result<Option<BodyReader<'static>>, Failure> {
        let mut request = self.agent.get(self.url(route)?).header("accept", "text/event-stream");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = request.call().map_err(|e| self.transport(&e))?;
        match response.status().as_u16() {
            204 => Ok(None),
            200 => Ok(Some(response.into_body().into_reader())),
            _ => self.read(Ok(response)).map(|_| None),
        }
    }

    /// Posts a component with signatures, for a stream.
    pub fn upload_for_stream(
        &self,
        route: &Route,
        bytes: &[u8],
        signatures: &[String],
    ) -> Result<BodyReader<'static>, Failure> {
        let request = self.agent.post(self.url(route)?).header("accept", "text/event-stream");
        let request = signatures.iter().fold(request, |request, line| request.header("relive-signature", line));
        let response = request.content_type("application/wasm").send(bytes).map_err(|e| self.transport(&e))?;
        if response.status().as_u16() == 200 {
            return Ok(response.into_body().into_reader());
        }
        let status = response.status();
        self.read(Ok(response)).and_then(|_| {
            Err(Failure::new(Exit::Failed, "unexpected-answer", format!("the host answered {status} and no stream")))
        })
    }

    /// Posts JSON.
    pub fn post(&self, route: &Route, body: &str) -> Result<String, Failure> {
        self.read(self.agent.post(self.url(route)?).content_type("application/json").send(body))
    }

    /// Puts JSON.
    pub fn put(&self, route: &Route, body: &str) -> Result<String, Failure> {
        self.read(self.agent.put(self.url(route)?).content_type("application/json").send(body))
    }

    pub fn delete(&self, route: &Route) -> Result<String, Failure> {
        self.read(self.agent.delete(self.url(route)?).call())
    }

    /// Posts a component.
    pub fn upload(&self, route: &Route, bytes: &[u8]) -> Result<String, Failure> {
        self.upload_signed(route, bytes, &[])
    }

    /// Posts a component with signatures.
    pub fn upload_signed(&self, route: &Route, bytes: &[u8], signatures: &[String]) -> Result<String, Failure> {
        let request = self.agent.post(self.url(route)?).content_type("application/wasm");
        let request = signatures.iter().fold(request, |request, line| request.header("relive-signature", line));
        self.read(request.send(bytes))
    }

    fn url(&self, route: &Route) -> Result<String, Failure> {
        if !self.server.starts_with("http://") {
            let message = format!("the server's address {:?} does not begin with http://", self.server);
            return Err(Failure::usage(message).hint("give --server or RELIVE_SERVER as http://127.0.0.1:7474"));
        }
        Ok(format!("{}{}", self.server, route.as_str()))
    }

    fn read(&self, answer: Result<Response<Body>, ureq::Error>) -> Result<String, Failure> {
        let mut response = answer.map_err(|e| self.transport(&e))?;
        let status = response.status();
        let text = response
            .body_mut()
            .with_config()
            .limit(MAX_ANSWER_BYTES)
            .read_to_string()
            .map_err(|e| self.transport(&e))?;
        if status.is_success() { Ok(text) } else { Err(Failure::of_answer(status.as_u16(), text)) }
    }

    fn transport(&self, error: &ureq::Error) -> Failure {
        match error {
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => {
                Failure::usage(format!("the server's address {:?} is not a URL: {error}", self.server))
            }
            ureq::Error::Timeout(which) if !matches!(which, ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
                Failure::new(Exit::Timeout, "timeout", format!("{} did not answer in time: {error}", self.server))
            }
            _ => Failure::new(Exit::Unreachable, "unreachable", format!("no host answers at {}: {error}", self.server))
                .hint("start one with `relive dev`, or name another with --server or RELIVE_SERVER"),
        }
    }
}

/// A host's answer as `T`.
pub fn decode<T: DeserializeOwned>(answer: &str) -> Result<T, Failure> {
    serde_json::from_str(answer).map_err(|e| {
        let message = format!("the host's answer is not understood: {e}");
        Failure::new(Exit::Failed, "not-understood", message)
            .hint("host and command line should be of one version; --json shows the answer as it is")
    })
}

/// JSON from the command line, checked here already, with the place of what is wrong.
pub fn user_json(text: &str, what: &str) -> Result<Json, Failure> {
    Json::parse(text).map_err(|JsonError { at, what: wrong }| {
        let before = &text.as_bytes()[..at.min(text.len())];
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|b| **b != b'\n').count() + 1;
        Failure::new(
            Exit::Usage,
            "invalid-json",
            format!("{what} is not acceptable JSON at line {line}, column {column}: {wrong}"),
        )
        .hint("quote it for the shell, as in --input '{\"amount\": 12}'; strings need double quotes")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_encode_what_users_name() {
        let client = Client::new("http://127.0.0.1:1/", "default", Some("r"));
        let route = client.execution("a/b ?ü", &["signals", ".."]).query("to", 3);
        assert_eq!(route.as_str(), "/v1/namespaces/default/executions/a%2Fb%20%3F%C3%BC/signals/%2E%2E?run_id=r&to=3");
        assert_eq!(client.server(), "http://127.0.0.1:1");
    }

    #[test]
    fn json_errors_name_line_and_column() {
        let failure = user_json("{\"a\": 1,\n \"b\": nul}", "--input").expect_err("not JSON");
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.message.contains("line 2, column 7"), "{}", failure.message);
    }

    #[test]
    fn an_address_without_scheme_is_a_usage_error() {
        let client = Client::new("127.0.0.1:7474", "default", None);
        assert_eq!(client.get(&Route::fixed("/healthz")).expect_err("refused").exit, Exit::Usage);
    }

    #[test]
    fn nobody_listening_is_unreachable() {
        // Port 1 is never ours.
        let client = Client::new("http://127.0.0.1:1", "default", None);
        assert_eq!(client.get(&Route::fixed("/healthz")).expect_err("refused").exit, Exit::Unreachable);
    }
}
