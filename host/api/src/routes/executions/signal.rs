//! `POST /executions/{id}/signals/{channel}`: sends a message. The body is `{"input": .., "message_id": ..}`; with
//! `?raw=true` the whole body is the input. The header `Idempotency-Key` is the message id: the same one again is the
//! same message.

use axum::{Extension, Json, extract::State, http::HeaderMap};
use relive_engine::{Engine, SignalRequest, schema};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use crate::{
    extract::{
        ExecutionPath, IdempotencyKey, JsonBody, Param, Query, idempotency_key, parse_or_default, take_json, whole_json,
    },
    problem::Problem,
    trace::Trace,
};

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SignalBody<'a> {
    /// The message; `null` if absent.
    #[serde(borrow)]
    #[schema(value_type = schema::Json, required = false)]
    input: Option<&'a RawValue>,
    /// The same id twice is one message. The header `Idempotency-Key` if absent, else a fresh UUID.
    #[schema(max_length = 256)]
    message_id: Option<String>,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SignalQuery {
    /// The whole body is the message.
    #[serde(default)]
    raw: bool,
}

#[derive(Serialize, ToSchema)]
pub struct Sent {
    message_id: String,
}

/// Sends a message
#[utoipa::path(
    post,
    path = "/signals/{channel}",
    tag = "executions",
    operation_id = "signal",
    params(SignalQuery, IdempotencyKey),
    request_body(content = Option<SignalBody>),
    responses((status = 200, description = "The message is durable", body = Sent)),
    extensions(("x-problems" = json!(["unknown-execution", "closed", "shutting-down", "fenced", "unknown-channel", "history-full"])))
)]
pub async fn signal(
    State(engine): State<Engine>,
    ExecutionPath(target): ExecutionPath,
    Param(channel): Param,
    Query(query): Query<SignalQuery>,
    trace: Option<Extension<Trace>>,
    headers: HeaderMap,
    JsonBody(bytes): JsonBody,
) -> Result<Json<Sent>, Problem> {
    let (input, field) = if query.raw {
        (whole_json(&bytes, "input")?, None)
    } else {
        let body: SignalBody<'_> = parse_or_default(&bytes)?;
        (take_json(body.input, "input")?, body.message_id)
    };
    let message_id = idempotency_key(&headers, field, "message_id")?;
    let trace = trace.map(|Extension(trace)| trace.id());
    let message_id = engine.signal(SignalRequest { target, channel, message_id, trace, input }).await?;
    Ok(Json(Sent { message_id }))
}
