//! `POST /executions/{id}/signals/{channel}`: sends a message. The body is `{"input": .., "message_id": ..}`; with
//! `?raw=true` the whole body is the input. The header `Idempotency-Key` is the message id: the same one again is the
//! same message.

use axum::{Json, body::Body, extract::State, http::HeaderMap};
use relive_engine::{Engine, SignalRequest};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    extract::{ExecutionPath, Param, Query, header, parse_or_default, read_small, take_json, whole_json},
    problem::Problem,
};

const IDEMPOTENCY_KEY: &str = "idempotency-key";

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct SignalBody<'a> {
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    message_id: Option<String>,
}

#[derive(Deserialize)]
pub struct SignalQuery {
    #[serde(default)]
    raw: bool,
}

#[derive(Serialize)]
pub struct Sent {
    message_id: String,
}

pub async fn signal(
    State(engine): State<Engine>,
    ExecutionPath(target): ExecutionPath,
    Param(channel): Param,
    Query(query): Query<SignalQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Sent>, Problem> {
    let bytes = read_small(body).await?;
    let key = header(&headers, IDEMPOTENCY_KEY)?.map(str::to_owned);
    let (input, message_id) = if query.raw {
        (whole_json(&bytes, "input")?, key)
    } else {
        let body: SignalBody<'_> = parse_or_default(&bytes)?;
        (take_json(body.input, "input")?, body.message_id.or(key))
    };
    let message_id = engine.signal(SignalRequest { target, channel, message_id, input }).await?;
    Ok(Json(Sent { message_id }))
}
