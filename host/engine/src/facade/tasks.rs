//! Answers for attempts that workers have, by token.

use relive_core::{Error, ErrorKind, Json, Namespace};
use tokio::sync::oneshot;

use crate::{
    engine::Engine,
    message::Message,
    owner::{Beaten, Reported},
    remote::{Beat, Report, TaskToken},
};

impl Engine {
    /// The answer for an attempt. When it returns, what follows from it is durable. The same result again is the same
    /// answer; one for an attempt that is not awaited any more is `superseded`.
    pub async fn report(&self, namespace: &Namespace, token: &str, report: Report) -> Result<(), Error> {
        self.answering()?;
        let token = parse(token)?;
        if let Report::Completed(result) = &report {
            self.check_size(result)?;
        }
        let (reply, answer) = oneshot::channel();
        let reported = Reported { namespace: namespace.clone(), token, report, reply };
        self.context.registry.post(token.task.run, Message::Report(Box::new(reported)));
        self.answered(answer).await
    }

    /// The worker is at it still. `details` are kept for the next attempt, and durable when this returns. With
    /// `defer` the worker lets go of the attempt: whoever shows the token answers, whatever becomes of the worker.
    pub async fn beat(
        &self,
        namespace: &Namespace,
        token: &str,
        details: Option<Json>,
        defer: bool,
    ) -> Result<Beat, Error> {
        self.answering()?;
        let token = parse(token)?;
        if let Some(details) = &details {
            self.check_size(details)?;
        }
        let (reply, answer) = oneshot::channel();
        let beaten = Beaten { namespace: namespace.clone(), token, details, defer, reply };
        self.context.registry.post(token.task.run, Message::Beat(Box::new(beaten)));
        self.answered(answer).await
    }
}

fn parse(token: &str) -> Result<TaskToken, Error> {
    token.parse().map_err(|e: crate::remote::NoToken| Error::new(ErrorKind::Validation, "unknown-task", e.to_string()))
}
