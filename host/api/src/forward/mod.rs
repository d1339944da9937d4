//! Requests travel to the host that owns what they name (ADR 015). Any host takes any request: what another owns is
//! sent on over HTTP and its answer handed back, streams included. While an execution is on its way from one host to
//! another, the request waits here.
//!
//! `subject` reads what a request names, `peer` talks to other hosts, `batch` splits answers for many tasks, `exchange`
//! is the engine's way to tasks that other hosts have. Not in the
//! way at all where a host has its store to itself.

mod batch;
mod exchange;
mod peer;
mod subject;

use std::{convert::Infallible, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{FromRequestParts, Request, State},
    http::{Method, request::Parts},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use relive_core::{Error, ErrorKind};
use relive_engine::{Engine, Place};
use tokio::time::Instant;

pub use exchange::HttpPeers;

use self::{
    peer::{Peers, Sent},
    subject::{Named, Subject},
};
use crate::{extract::read_small, problem::Problem};

/// Marks what another host sent on: it is answered here or refused, and goes no further.
pub(crate) const FORWARDED_HEADER: &str = "x-relive-forwarded";
/// How long a request waits for an owner: a dead host's lease and what the others need to take over.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);
/// Refusals that mean: ask whoever owns it now.
const MOVED: [&str; 2] = ["not-owner", "fenced"];

/// Whether another host sent the request on: what it asks for is this host's alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forwarded {
    Yes,
    No,
}

impl<S: Sync> FromRequestParts<S> for Forwarded {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(if parts.headers.contains_key(FORWARDED_HEADER) { Self::Yes } else { Self::No })
    }
}

#[derive(Clone)]
pub(crate) struct Forward {
    engine: Engine,
    peers: Peers,
}

/// Adds the layer if the host is one of several.
pub(crate) fn layer(router: Router<Engine>, engine: &Engine) -> Router<Engine> {
    if !engine.is_clustered() {
        return router;
    }
    let state = Forward { engine: engine.clone(), peers: Peers::new() };
    router.layer(middleware::from_fn_with_state(state, forward))
}

async fn forward(State(state): State<Forward>, request: Request, next: Next) -> Response {
    let subject = Subject::of(request.method(), request.uri().path());
    if subject == Subject::Local || request.headers().contains_key(FORWARDED_HEADER) {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let body = match read_small(body).await {
        Ok(body) => body,
        Err(problem) => return problem.into_response(),
    };
    let asked = Asked { parts, body };
    match subject.named(&asked.parts.headers, &asked.body) {
        Named::Nothing => next.run(asked.again()).await,
        Named::Batch => batch::answer(&state, asked, &next).await,
        Named::One(name) => state.bring(&asked, &next, &|engine| name.place(engine)).await,
    }
}

/// A request that may have to be made more than once.
struct Asked {
    parts: Parts,
    body: Bytes,
}

impl Asked {
    fn again(&self) -> Request {
        Request::from_parts(self.parts.clone(), Body::from(self.body.clone()))
    }

    /// Reading changes nothing, so any host may do it if the owner cannot.
    fn only_reads(&self) -> bool {
        self.parts.method == Method::GET || self.parts.method == Method::HEAD
    }
}

impl Forward {
    /// Brings the request to its owner, wherever that is by then.
    async fn bring(&self, asked: &Asked, next: &Next, place: &(dyn Fn(&Engine) -> Place + Send + Sync)) -> Response {
        let until = Instant::now() + PATIENCE;
        loop {
            let answer = match place(&self.engine) {
                Place::Here => {
                    let response = next.clone().run(asked.again()).await;
                    let moved = response.extensions().get::<Problem>().is_some_and(|p| MOVED.contains(&p.told().0));
                    (!moved).then_some(response)
                }
                Place::At(address) => match self.peers.send(&address, asked).await {
                    Sent::Answer(response) => Some(response),
                    Sent::Moved => None,
                    // It may have been done.
                    Sent::Broken if !asked.only_reads() => Some(owner_lost().into_response()),
                    Sent::Broken => None,
                },
                Place::Nobody if asked.only_reads() => Some(next.clone().run(asked.again()).await),
                Place::Nobody => None,
            };
            match answer {
                Some(response) => return response,
                None if Instant::now() >= until => return nobody().into_response(),
                None => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}

fn owner_lost() -> Problem {
    let message = "the host that owns the execution was lost in the middle of this request, which may have been done; \
                   send it again: a start with its idempotency key, a signal with its message id";
    Error::new(ErrorKind::Concurrency, "owner-lost", message).into()
}

fn nobody() -> Problem {
    let message = "no live host owns the execution right now; try again in a few seconds, and see `relive hosts`";
    Error::new(ErrorKind::Concurrency, "not-owner", message).into()
}
