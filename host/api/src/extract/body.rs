//! Request bodies: bounded in size and time, and JSON taken out of them as the text that it is.

use std::time::Duration;

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::{FromRequest, Request},
    http::{HeaderMap, header},
};
use futures_util::StreamExt;
use relive_core::Json;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::problem::Problem;

/// A payload of 2 MiB, with room for what stands around it.
pub const MAX_SMALL_BODY: usize = 2_100_000 + (64 << 10);
/// A component of 32 MiB (the sandbox's own limit, which has the better message) and a little.
pub const MAX_UPLOAD_BODY: usize = 33 << 20;
/// A client that sends nothing for so long is gone, or holds the connection on purpose.
const STALL: Duration = Duration::from_secs(20);

/// A body of JSON that holds at most one payload. Nothing at all is for the route to judge.
pub struct JsonBody(pub Bytes);

impl<S: Sync> FromRequest<S> for JsonBody {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        check_media_type(request.headers())?;
        read(request.into_body(), MAX_SMALL_BODY).await.map(Self)
    }
}

/// Reads a body that holds at most one payload, whatever it says that it is.
pub async fn read_small(body: Body) -> Result<Bytes, Problem> {
    read(body, MAX_SMALL_BODY).await
}

/// JSON, or nothing that says otherwise: `curl -d` calls everything a form, and text may be JSON.
fn check_media_type(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(given) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let text = given.to_str().unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let taken = matches!(
        essence.as_str(),
        "" | "application/json"
            | "text/json"
            | "text/plain"
            | "application/x-www-form-urlencoded"
            | "application/octet-stream"
    );
    if taken || (essence.starts_with("application/") && essence.ends_with("+json")) {
        return Ok(());
    }
    Err(Problem::invalid(
        "unsupported-media-type",
        format!("the body is said to be {text:?}; this route takes application/json"),
    ))
}

/// Reads a body that holds a component.
pub async fn read_upload(body: Body) -> Result<Vec<u8>, Problem> {
    read(body, MAX_UPLOAD_BODY).await.map(Vec::from)
}

async fn read(body: Body, limit: usize) -> Result<Bytes, Problem> {
    let too_large = || {
        let message = format!("the body is larger than {limit} bytes, the most that this route takes; send less");
        Problem::invalid("payload-too-large", message)
    };
    let hint = body.size_hint();
    if usize::try_from(hint.lower()).unwrap_or(usize::MAX) > limit {
        return Err(too_large());
    }
    let mut frames = body.into_data_stream();
    let mut first = Bytes::new();
    let mut all = Vec::new();
    while let Some(frame) = next(&mut frames).await? {
        if first.len() + all.len() + frame.len() > limit {
            return Err(too_large());
        }
        // Most bodies are one frame, which need not be copied.
        if first.is_empty() && all.is_empty() {
            first = frame;
        } else {
            if all.is_empty() {
                all.reserve(usize::try_from(hint.upper().unwrap_or(0)).unwrap_or(0).min(limit));
                all.extend_from_slice(&std::mem::take(&mut first));
            }
            all.extend_from_slice(&frame);
        }
    }
    Ok(if all.is_empty() { first } else { all.into() })
}

async fn next(frames: &mut axum::body::BodyDataStream) -> Result<Option<Bytes>, Problem> {
    match tokio::time::timeout(STALL, frames.next()).await {
        Ok(frame) => frame
            .transpose()
            .map_err(|e| Problem::invalid("invalid-body", format!("the body broke off: {e}; send it again"))),
        Err(_) => {
            let message = format!("nothing of the body came for {} s; send it again", STALL.as_secs());
            Err(Problem::invalid("request-timeout", message))
        }
    }
}

/// The body as `T`, a shape of this API. Users' JSON in it is a [`RawValue`]: see [`take_json`].
pub fn parse<'a, T: Deserialize<'a>>(body: &'a Bytes) -> Result<T, Problem> {
    let refused = |code, why: &dyn std::fmt::Display| {
        Problem::invalid(code, format!("the body is not what this route takes: {why}"))
    };
    // A list would do for serde: its members would be taken for fields, in their order.
    if body.trim_ascii_start().first() == Some(&b'[') {
        return Err(refused("invalid-body", &"it is a list; send an object"));
    }
    serde_json::from_slice(body).map_err(|e| refused(if e.is_data() { "invalid-body" } else { "invalid-json" }, &e))
}

/// The body as `T`, or its default where there is none.
pub fn parse_or_default<'a, T: Deserialize<'a> + Default>(body: &'a Bytes) -> Result<T, Problem> {
    if body.is_empty() { Ok(T::default()) } else { parse(body) }
}

/// Users' JSON, checked and otherwise as it came; `null` if there is none.
pub fn take_json(raw: Option<&RawValue>, what: &str) -> Result<Json, Problem> {
    match raw {
        None => Ok(Json::null()),
        Some(raw) => checked(raw.get(), what),
    }
}

/// The whole body as users' JSON.
pub fn whole_json(body: &Bytes, what: &str) -> Result<Json, Problem> {
    let text = std::str::from_utf8(body).map_err(|e| {
        Problem::invalid(
            "invalid-json",
            format!("the {what} is not UTF-8 at byte {}; send it as UTF-8", e.valid_up_to()),
        )
    })?;
    if text.is_empty() { Ok(Json::null()) } else { checked(text, what) }
}

fn checked(text: &str, what: &str) -> Result<Json, Problem> {
    Json::parse(text).map_err(|e| Problem::invalid("invalid-json", format!("the {what} is not acceptable: {e}")))
}

/// A header's text, if it is there and readable.
pub fn header<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Problem> {
    let Some(value) = headers.get(name) else {
        return Ok(None);
    };
    value
        .to_str()
        .map(Some)
        .map_err(|_| Problem::invalid("invalid-name", format!("the header {name} holds other than printable ASCII")))
}
