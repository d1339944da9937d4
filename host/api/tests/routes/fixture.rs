//! A router over an engine with the store in memory. The "components" are texts: `echo` is a workflow that returns its
//! input, `listen` one that returns the first message of the channel `go`, `again` one that continues as new as often as
//! its input says, and then listens.

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Method, Request, header},
};
use futures_util::StreamExt;
use relive_core::{
    Digest, Error, ErrorKind, Json, Timestamp,
    cursor::{Cursor, LogLevel},
    guest::{Guest, GuestEvent, GuestFault, GuestState, Outcome},
    ports::{ActivityRunner, ActivityTask, AttemptResult, Clock},
};
use relive_engine::{Admitted, Described, Engine, EngineConfig, EngineParts, GuestFactory, NativeOnly};
use relive_store::MemoryStore;
use tower::ServiceExt;

pub struct Api(Router);

pub struct Reply {
    pub status: u16,
    pub body: String,
    pub correlation: String,
    pub allow: String,
    media_type: String,
}

impl Api {
    pub fn new() -> Self {
        let store = Arc::new(MemoryStore::default());
        let parts = EngineParts {
            store: store.clone(),
            catalog: store.clone(),
            images: store,
            guests: Arc::new(Scripts),
            activities: Arc::new(NoActivities),
            activity_host: Arc::new(NativeOnly),
            clock: Arc::new(SystemClock),
            epoch: 1,
            clean: true,
            marks: None,
            cluster: None,
            commits: Arc::new(|| 0),
        };
        let engine =
            Engine::start(parts, EngineConfig::default(), tokio::runtime::Handle::current()).expect("an engine");
        Self(relive_api::router(engine))
    }

    pub async fn deploy(&self, script: &str) {
        self.post("/v1/namespaces/default/workflows", script).await.expect(201);
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.call(Method::GET, path, "", &[]).await
    }

    /// Asks until the answer is as wanted: for what happens without a request to wait for it.
    pub async fn until(&self, path: &str, wanted: impl Fn(&Reply) -> bool) -> Reply {
        let asked = async {
            loop {
                let reply = self.get(path).await;
                if wanted(&reply) {
                    return reply;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), asked).await.expect("in time")
    }

    /// A stream of events; those after the one with the id `last`.
    pub async fn follow(&self, path: &str, last: Option<&str>) -> Events {
        let mut request = Request::builder().uri(path).header(header::ACCEPT, "text/event-stream");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response =
            self.0.clone().oneshot(request.body(Body::empty()).expect("a request")).await.expect("an answer");
        Events {
            status: response.status().as_u16(),
            frames: response.into_body().into_data_stream(),
            text: String::new(),
        }
    }

    pub fn router(&self) -> Router {
        self.0.clone()
    }

    pub async fn delete(&self, path: &str) -> Reply {
        self.call(Method::DELETE, path, "", &[]).await
    }

    pub async fn post(&self, path: &str, body: &str) -> Reply {
        self.call(Method::POST, path, body, &[]).await
    }

    pub async fn post_with(&self, path: &str, body: &str, headers: &[(&str, &str)]) -> Reply {
        self.call(Method::POST, path, body, headers).await
    }

    pub async fn call(&self, method: Method, path: &str, body: &str, headers: &[(&str, &str)]) -> Reply {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_owned())).expect("a request");
        let response = self.0.clone().oneshot(request).await.expect("an answer");
        let (parts, body) = response.into_parts();
        let header = |name: &str| parts.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        let body = to_bytes(body, usize::MAX).await.expect("a body");
        Reply {
            status: parts.status.as_u16(),
            body: String::from_utf8(body.to_vec()).expect("text"),
            correlation: header("x-correlation-id"),
            allow: header(header::ALLOW.as_str()),
            media_type: header(header::CONTENT_TYPE.as_str()),
        }
    }
}

/// A stream of server-sent events, read one by one.
pub struct Events {
    pub status: u16,
    frames: axum::body::BodyDataStream,
    text: String,
}

#[derive(Debug)]
pub struct Event {
    pub name: String,
    pub id: String,
    pub data: serde_json::Value,
}

impl Events {
    /// The next event; none at the end of the stream. Waits for it, but not for ever.
    pub async fn next(&mut self) -> Option<Event> {
        tokio::time::timeout(std::time::Duration::from_secs(20), self.read()).await.expect("in time")
    }

    async fn read(&mut self) -> Option<Event> {
        loop {
            while let Some((event, rest)) = self.text.split_once("\n\n") {
                let event = parse(event);
                self.text = rest.to_owned();
                if event.is_some() {
                    return event;
                }
            }
            let frame = self.frames.next().await?.expect("a frame");
            self.text.push_str(std::str::from_utf8(&frame).expect("text"));
        }
    }
}

/// None for what is a comment alone.
fn parse(text: &str) -> Option<Event> {
    let fields = |name: &str| -> Vec<&str> {
        text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).collect()
    };
    let data = fields("data");
    (!data.is_empty()).then(|| Event {
        name: fields("event").concat(),
        id: fields("id").concat(),
        data: serde_json::from_str(&data.join("\n")).expect("JSON"),
    })
}

impl Reply {
    pub fn expect(&self, status: u16) {
        assert_eq!(self.status, status, "{}", self.body);
    }

    /// The reply is a problem with its code, a sentence and the correlation id.
    pub fn problem(&self, status: u16, code: &str) {
        self.expect(status);
        assert_eq!(self.media_type, "application/problem+json");
        let problem: serde_json::Value = serde_json::from_str(&self.body).expect("a document");
        assert_eq!(problem["code"], code, "{}", self.body);
        assert_eq!(problem["status"], status);
        assert_eq!(problem["correlation_id"], self.correlation);
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.len() > 10), "{}", self.body);
        assert_eq!(problem["type"], format!("urn:relive:problem:{code}"));
    }
}

/// Makes guests of texts.
struct Scripts;

const SCRIPTS: [&str; 3] = ["echo", "listen", "again"];

impl GuestFactory for Scripts {
    fn admit(&self, bytes: &[u8]) -> Result<Admitted, Error> {
        assert_ne!(bytes, b"panic", "asked to");
        let Some(name) = SCRIPTS.iter().find(|name| name.as_bytes() == bytes) else {
            return Err(Error::new(ErrorKind::Validation, "not-wasm", "failed to read the upload as a script"));
        };
        let described = Described {
            name: (*name).to_owned(),
            summary: None,
            input_schema: None,
            output_schema: None,
            channels: None,
        };
        Ok(Admitted { digest: Digest::of(bytes), inspection: Json::null(), workflows: vec![described] })
    }

    fn instantiate(&self, _: &Digest, cursor: Cursor) -> Result<Box<dyn Guest>, GuestFault> {
        Ok(Box::new(Script { cursor }))
    }

    fn instantiate_bytes(&self, _: &[u8], cursor: Cursor) -> Result<Box<dyn Guest>, GuestFault> {
        Ok(Box::new(Script { cursor }))
    }
}

struct Script {
    cursor: Cursor,
}

impl Guest for Script {
    fn start(&mut self, workflow: &str, input: &Json) -> Result<GuestState, GuestFault> {
        if workflow == "echo" {
            return Ok(GuestState::Done(Outcome::Completed(input.clone())));
        }
        let left: u64 = if workflow == "again" { input.as_str().parse().unwrap_or(0) } else { 0 };
        if left > 0 {
            let input = Json::of(&(left - 1)).map_err(|e| GuestFault::Contract(e.to_string()))?;
            return Ok(GuestState::Done(Outcome::ContinuedAsNew { input, unread_messages: Vec::new() }));
        }
        if self.cursor.log(LogLevel::Info, "listening", Vec::new()).is_err() {
            return Err(GuestFault::Contract("log".to_owned()));
        }
        match self.cursor.next_message("go") {
            Ok(Ok(_)) => Ok(GuestState::Waiting),
            other => Err(GuestFault::Contract(format!("{other:?}"))),
        }
    }

    fn resume(&mut self, event: GuestEvent) -> Result<GuestState, GuestFault> {
        if self.cursor.log(LogLevel::Warn, "heard", vec![("n".to_owned(), "1".to_owned())]).is_err() {
            return Err(GuestFault::Contract("log".to_owned()));
        }
        Ok(match event {
            GuestEvent::Resolved { outcome: Ok(message), .. } => GuestState::Done(Outcome::Completed(message)),
            GuestEvent::Resolved { outcome: Err(failure), .. } => GuestState::Done(Outcome::Failed(failure)),
            GuestEvent::CancelRequested => GuestState::Waiting,
        })
    }

    fn cursor(&mut self) -> &mut Cursor {
        &mut self.cursor
    }

    fn memory_bytes(&self) -> usize {
        0
    }
}

struct NoActivities;

impl ActivityRunner for NoActivities {
    fn hosts(&self, _: &relive_core::Namespace, name: &str) -> bool {
        !name.starts_with("remote-")
    }

    fn run(&self, _: ActivityTask) -> futures_util::future::BoxFuture<'static, AttemptResult> {
        Box::pin(std::future::pending())
    }
}

struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock");
        Timestamp(u64::try_from(since.as_nanos()).expect("a time"))
    }
}
