//! One attempt of an http activity: the request that says what is to be done, and what becomes of its answer.

use std::error::Error as _;
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderName, InvalidHeaderValue, USER_AGENT};
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy::Error;
use relive_core::{
    failure::{Failure, FailureKind},
    ports::{ActivityTask, AnswerToken, AttemptEnd, AttemptResult},
};
use serde::Serialize;

use super::answer::{self, MAX_FAILURE_BYTES, Verdict};
use super::client::{HttpHost, READ_TIME, ReadError, read};
use super::config::Endpoint;
use super::connect::ConnectError;
use super::signature::{Message, TASK_TOKEN, header_value, sign};
use crate::failures::{code, infrastructure, permanent};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");
const SIGNATURE_INPUT: HeaderName = HeaderName::from_static("signature-input");
const SIGNATURE: HeaderName = HeaderName::from_static("signature");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const AGENT: HeaderValue = HeaderValue::from_static(concat!("relive/", env!("CARGO_PKG_VERSION")));

/// What a 202 has to say beside its status is not waited for longer than this.
const ACCEPTED_BODY_TIME: Duration = Duration::from_secs(1);

/// What is sent, but for the input, which follows as its bytes are.
#[derive(Serialize)]
struct Head<'a> {
    namespace: &'a str,
    workflow_id: &'a str,
    run_id: &'a str,
    command_no: u64,
    activity: &'a str,
    attempt: u32,
    idempotency_key: &'a str,
    correlation_id: Option<&'a str>,
}

pub(crate) async fn attempt(host: HttpHost, endpoint: Arc<Endpoint>, task: ActivityTask) -> AttemptResult {
    let request = request(&host, &endpoint, &task)?;
    let later = task.token.is_some();
    drop(task);
    let url = endpoint.text.as_str();
    let response = host.send(request, endpoint.allow_private).await.map_err(|error| not_sent(&error, url))?;
    let status = response.status();
    match answer::verdict(status, url) {
        Verdict::Refused(failure) => Err(failure),
        Verdict::Result => answer::result(&result_body(response, &endpoint).await?, url).map(AttemptEnd::Completed),
        Verdict::Accepted if later => {
            // Read, so that the connection can be kept; nothing in it matters.
            let rest = read(response.into_body(), MAX_FAILURE_BYTES);
            drop(tokio::time::timeout(ACCEPTED_BODY_TIME, rest).await);
            Ok(AttemptEnd::Accepted { by: endpoint.target().into() })
        }
        Verdict::Accepted => {
            let what = "nobody here takes its answer later; answer 200 with the result, or an error";
            Err(permanent(code::ACCEPTED_UNSUPPORTED, format!("POST {url} answered {status}: {what}")))
        }
        Verdict::Failure => {
            // An error whose body cannot be had is an error all the same.
            let body = read(response.into_body(), MAX_FAILURE_BYTES).await.unwrap_or_default();
            Err(answer::failure(status, &body, url))
        }
    }
}

async fn result_body(response: Response<Incoming>, endpoint: &Endpoint) -> Result<Bytes, Failure> {
    let (url, limit) = (&endpoint.text, endpoint.max_response_bytes);
    read(response.into_body(), limit).await.map_err(|error| match error {
        ReadError::TooLarge => permanent(
            code::RESULT_TOO_LARGE,
            format!("POST {url} answered more than {limit} bytes: return a reference instead"),
        ),
        ReadError::Slow => {
            infrastructure(code::READ_TIMEOUT, format!("POST {url}: the answer paused for more than {READ_TIME:?}"))
        }
        ReadError::Lost(error) => {
            infrastructure(code::CONNECTION_LOST, format!("POST {url}: the answer broke off: {}", chain(&error)))
        }
    })
}

fn request(host: &HttpHost, endpoint: &Endpoint, task: &ActivityTask) -> Result<Request<Full<Bytes>>, Failure> {
    let unsent = |what: String| permanent(code::INVALID_INPUT, format!("write the request: {what}"));
    let key = task.idempotency_key();
    let body = body(task, &key).map_err(|e| unsent(e.to_string()))?;
    let key = header_value(&key);
    let created = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let token = task.token.as_ref().map(AnswerToken::as_str);
    let message = Message { target_uri: &endpoint.text, idempotency_key: &key, token, created };
    let signed = sign(host.key(), message, &body);
    let value = |text: String| HeaderValue::try_from(text).map_err(|e: InvalidHeaderValue| unsent(e.to_string()));
    let mut request =
        Request::post(endpoint.uri.clone()).body(Full::new(Bytes::from(body))).map_err(|e| unsent(e.to_string()))?;
    let headers = request.headers_mut();
    *headers = endpoint.headers.clone();
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(ACCEPT, JSON);
    headers.insert(USER_AGENT, AGENT);
    headers.insert(IDEMPOTENCY_KEY, value(key)?);
    headers.insert(TRACEPARENT, value(task.trace.to_string())?);
    headers.insert(CONTENT_DIGEST, value(signed.content_digest)?);
    headers.insert(SIGNATURE_INPUT, value(signed.signature_input)?);
    headers.insert(SIGNATURE, value(signed.signature)?);
    if let Some(token) = token {
        let mut secret = value(token.to_owned())?;
        secret.set_sensitive(true);
        headers.insert(TASK_TOKEN, secret);
    }
    if let Some(correlation) = &task.correlation_id {
        headers.insert(CORRELATION_ID, value(header_value(correlation))?);
    }
    Ok(request)
}

/// The body: the head's members, then the input exactly as it is stored.
fn body(task: &ActivityTask, idempotency_key: &str) -> serde_json::Result<Vec<u8>> {
    let head = Head {
        namespace: task.execution.namespace.as_str(),
        workflow_id: task.execution.workflow_id.as_str(),
        run_id: &task.execution.run_id.to_string(),
        command_no: task.command_no,
        activity: &task.name,
        attempt: task.attempt,
        idempotency_key,
        correlation_id: task.correlation_id.as_deref(),
    };
    let mut body = Vec::with_capacity(512 + task.input.len());
    serde_json::to_writer(&mut body, &head)?;
    body.pop();
    body.extend_from_slice(b",\"input\":");
    body.extend_from_slice(task.input.as_str().as_bytes());
    body.push(b'}');
    Ok(body)
}

/// Why there was no answer.
fn not_sent(error: &Error, url: &str) -> Failure {
    let Some(connect) = error.source().and_then(|source| source.downcast_ref::<ConnectError>()) else {
        return infrastructure(code::CONNECTION_LOST, format!("POST {url}: no answer came: {}", chain(error)));
    };
    let message = format!("failed to {connect}");
    match connect {
        ConnectError::Private { .. } => Failure::new(FailureKind::Rejected, code::PRIVATE_ADDRESS, message).permanent(),
        ConnectError::Lookup { .. } => infrastructure(code::LOOKUP_FAILED, message),
        ConnectError::Tls { .. } => infrastructure(code::TLS_FAILED, message),
        ConnectError::Connect { .. } | ConnectError::Late { .. } => infrastructure(code::CONNECT_FAILED, message),
    }
}

/// An error with its causes: hyper's own text says little.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing into a string cannot fail.
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use relive_core::{ExecutionKey, Json, Namespace, RunId, WorkflowId, trace::TraceParent};

    use super::*;

    #[test]
    fn the_input_is_sent_as_it_is_stored() {
        let execution = ExecutionKey {
            namespace: Namespace::default(),
            workflow_id: WorkflowId::new("o \"1\"").expect("an id"),
            run_id: RunId(uuid::Uuid::nil()),
        };
        let input = Json::parse("{\"b\": 1.0,\n \"a\":\t1e2}").expect("JSON");
        let task = ActivityTask {
            execution,
            command_no: 3,
            name: "charge".into(),
            input,
            attempt: 2,
            task_queue: None,
            correlation_id: None,
            trace: TraceParent::of_attempt(None, RunId(uuid::Uuid::nil()), 3, 2),
            timeout: None,
            token: None,
        };
        let text = String::from_utf8(body(&task, &task.idempotency_key()).expect("JSON")).expect("text");
        assert_eq!(
            text,
            r#"{"namespace":"default","workflow_id":"o \"1\"","run_id":"00000000-0000-0000-0000-000000000000","#
                .to_owned()
                + r#""command_no":3,"activity":"charge","attempt":2,"#
                + r#""idempotency_key":"default:o \"1\":00000000-0000-0000-0000-000000000000:3","correlation_id":null,"#
                + "\"input\":{\"b\": 1.0,\n \"a\":\t1e2}}"
        );
    }
}
