//! Answers on their way to the host: what came in while one request was under way goes with the next one. An answer
//! is sent until the host has taken or refused it; the same answer twice is one answer.

use std::{collections::HashSet, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::{
    client::Client,
    failure::{Failure, WorkerError},
    wire::{Answer, Answers, Outcomes},
};

/// Answers that one request carries at most.
const BATCH: usize = 100;
/// Waits between tries, doubled from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// Tokens of attempts that a worker has.
pub(crate) type Held = Mutex<HashSet<String>>;

/// Sends answers until nobody makes any more.
pub(crate) async fn send_all(client: Client, mut answers: mpsc::UnboundedReceiver<Answer>, held: Arc<Held>) {
    let mut batch = Vec::new();
    let mut beyond = None;
    loop {
        let Some(first) = (match beyond.take() {
            Some(answer) => Some(answer),
            None => answers.recv().await,
        }) else {
            return;
        };
        let mut bytes = size(&first);
        batch.push(first);
        while batch.len() < BATCH {
            let Ok(next) = answers.try_recv() else { break };
            bytes += size(&next);
            if bytes > client.batch_bytes() {
                beyond = Some(next);
                break;
            }
            batch.push(next);
        }
        let tokens: Vec<String> = batch.iter().map(|answer| answer.token.clone()).collect();
        send(&client, &mut batch).await;
        batch.clear();
        let mut held = held.lock();
        for token in &tokens {
            held.remove(token);
        }
    }
}

fn size(answer: &Answer) -> usize {
    answer.result.as_ref().map_or(0, |r| r.get().len()) + 256
}

/// Sends a batch until each answer is taken or refused.
async fn send(client: &Client, batch: &mut Vec<Answer>) {
    let mut pause = FIRST_PAUSE;
    while !batch.is_empty() {
        let sent: Result<Outcomes, WorkerError> =
            client.post(&["tasks", "complete"], &Answers { answers: batch }, Duration::ZERO).await;
        match sent {
            Ok(outcomes) => {
                let mut outcomes = outcomes.outcomes.into_iter();
                batch.retain(|answer| match outcomes.next() {
                    Some(outcome) if outcome.accepted => false,
                    Some(outcome) if is_transient(&outcome.code) => true,
                    Some(outcome) => {
                        tracing::warn!(code = outcome.code, detail = outcome.detail, "an answer was not taken");
                        false
                    }
                    None => {
                        tracing::error!(token = answer.token, "the host did not say what became of an answer");
                        false
                    }
                });
            }
            Err(error) if error.may_pass() => tracing::warn!(%error, "answers wait for the host"),
            // A result that does not fit its way fails the attempt: it would not fit the next time either.
            Err(WorkerError::Refused { status: 413, code, detail })
                if batch.len() == 1 && batch[0].result.is_some() =>
            {
                tracing::warn!(detail, "a result is too large");
                batch[0].result = None;
                batch[0].failure = Some(Failure::new(code, detail).permanent());
                continue;
            }
            Err(error) => {
                tracing::error!(%error, answers = batch.len(), "answers are given up");
                batch.clear();
            }
        }
        if !batch.is_empty() {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }
}

fn is_transient(code: &str) -> bool {
    matches!(code, "store-unavailable" | "no-space" | "read-only" | "shutting-down" | "try-again" | "internal")
}
