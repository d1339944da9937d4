//! Answers for many tasks in one request: each goes to the owner of its task, and the outcomes come back in order.

use std::collections::BTreeMap;

use axum::{
    body::to_bytes,
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures_util::future::join_all;
use relive_core::{RunKey, Shard};
use relive_engine::Place;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Asked, Forward};

/// Outcomes are a few hundred bytes each, and at most a hundred.
const MAX_OUTCOMES: usize = 1 << 20;

#[derive(Deserialize)]
struct Answers<'a> {
    #[serde(borrow)]
    answers: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Token<'a> {
    #[serde(borrow)]
    token: std::borrow::Cow<'a, str>,
}

#[derive(Serialize)]
struct Part<'a> {
    answers: &'a [&'a RawValue],
}

#[derive(Deserialize, Serialize)]
struct Outcomes {
    outcomes: Vec<Box<RawValue>>,
}

/// The shard of an answer's task; what cannot be read is for this host to refuse.
fn shard(answer: &RawValue) -> Option<Shard> {
    let token: Token<'_> = serde_json::from_str(answer.get()).ok()?;
    let run = u64::from_str_radix(token.token.split('-').next()?, 16).ok()?;
    Some(RunKey(run).shard())
}

pub(super) async fn answer(state: &Forward, asked: Asked, next: &Next) -> Response {
    let Ok(all) = serde_json::from_slice::<Answers<'_>>(&asked.body) else {
        return next.clone().run(asked.again()).await;
    };
    let mut by_owner: BTreeMap<Option<String>, Vec<usize>> = BTreeMap::new();
    for (at, answer) in all.answers.iter().enumerate() {
        let place = shard(answer).map_or(Place::Here, |shard| state.engine.place_run(RunKey::in_shard(1, shard)));
        let owner = match place {
            Place::Here => None,
            Place::At(address) => Some(address.to_string()),
            Place::Nobody => Some(String::new()),
        };
        by_owner.entry(owner).or_default().push(at);
    }
    if by_owner.len() <= 1 && by_owner.keys().next().is_none_or(Option::is_none) {
        return next.clone().run(asked.again()).await;
    }
    let parts = by_owner.into_values().map(|places| {
        let answers: Vec<&RawValue> = places.iter().map(|at| all.answers[*at]).collect();
        let body = serde_json::to_vec(&Part { answers: &answers }).unwrap_or_default();
        let first = answers.first().and_then(|answer| shard(answer)).unwrap_or(Shard(0));
        let part = Asked { parts: asked.parts.clone(), body: body.into() };
        async move {
            let place = move |engine: &relive_engine::Engine| engine.place_run(RunKey::in_shard(1, first));
            (places, state.bring(&part, next, &place).await)
        }
    });
    let mut outcomes: Vec<Option<Box<RawValue>>> = all.answers.iter().map(|_| None).collect();
    for (places, response) in join_all(parts).await {
        if !response.status().is_success() {
            // What others took stays taken: an answer that is sent again is acknowledged again.
            return response;
        }
        let Ok(body) = to_bytes(response.into_body(), MAX_OUTCOMES).await else {
            return super::owner_lost().into_response();
        };
        let Ok(part) = serde_json::from_slice::<Outcomes>(&body) else { return super::owner_lost().into_response() };
        for (at, outcome) in places.into_iter().zip(part.outcomes) {
            outcomes[at] = Some(outcome);
        }
    }
    axum::Json(Outcomes { outcomes: outcomes.into_iter().flatten().collect() }).into_response()
}
