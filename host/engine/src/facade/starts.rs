//! Starting executions and sending messages.

use std::sync::Arc;

use relive_core::{
    Error, ErrorKind, ExecutionKey, Json, Namespace, Shard, WorkflowId,
    event::{Attributes, EventBody, ExecutionStarted, SignalReceived, StartKey},
    ids::check_id,
    ports::{ExecutionRow, NewExecution},
};
use tokio::sync::oneshot;

use super::lookup::store_error;
use crate::{
    engine::Engine,
    ids,
    message::{Incoming, Message},
    requests::{SignalRequest, StartRequest, Target},
    views::Started,
    workflows::Active,
};

impl Engine {
    /// Starts an execution. When it returns, the start is durable.
    pub async fn start_execution(&self, request: StartRequest) -> Result<Started, Error> {
        self.accepting()?;
        self.check_size(&request.input)?;
        if request.policy.looks_first() { self.start_looking(request).await } else { self.start_new(request).await }
    }

    /// Starts a run, whatever there was before; the store refuses a second open one of its workflow id.
    pub(super) async fn start_new(&self, request: StartRequest) -> Result<Started, Error> {
        // A shared store is asked over the network, for the active version now and then and for keys: not on a thread
        // that others' requests wait for.
        let (started, answer) = if self.is_clustered() {
            self.blocking(|engine| engine.begin(request)).await?
        } else {
            self.begin(request)?
        };
        self.answered(answer).await?;
        Ok(started)
    }

    /// Hands the start to its owner: what was started if the answer says so.
    fn begin(&self, request: StartRequest) -> Result<(Started, oneshot::Receiver<Result<(), Error>>), Error> {
        let context = &self.context;
        let now = context.clock.now();
        let workflow_id = match request.workflow_id {
            Some(id) => id,
            None => self.fresh_id(&request.namespace)?,
        };
        let active = self.active(&request.namespace, &request.workflow, &workflow_id)?;
        active.check(&request.input)?;
        let run_id = ids::run_id(now);
        let shard = Shard::of(&request.namespace, &workflow_id);
        self.owned(shard)?;
        let execution = ExecutionKey { namespace: request.namespace, workflow_id, run_id };
        let correlation_id: Option<Arc<str>> = request.correlation_id.as_deref().map(Arc::from);
        let workflow = active.row.workflow.clone();
        let key = request.policy.request_id.map(|id| StartKey::new(&id, run_id, &workflow, &request.input));
        let start = ExecutionStarted {
            execution: execution.clone(),
            workflow: workflow.clone(),
            export: active.row.export.clone(),
            digest: active.row.digest,
            input: request.input,
            seed: ids::seed(),
            limits: context.config.run_limits,
            continued_from: None,
            carried_messages: Vec::new(),
            carried_cancel: false,
            start_key: key.map(Arc::new),
        };
        let started = Started { workflow_id: execution.workflow_id.to_string(), run_id, existing: false };
        let new = NewExecution {
            execution,
            workflow,
            digest: active.row.digest,
            started_at: now,
            correlation_id: correlation_id.clone(),
        };
        let mut body = EventBody::new(None, start);
        body.correlation_id = correlation_id;
        body.trace_id = request.trace.map(|trace| trace.to_string().into());
        let run = context.store.allocate_run_key(shard).map_err(store_error)?;
        let (reply, answer) = oneshot::channel();
        context.registry.post(run, Message::Start { new: Box::new(new), start: Box::new(body), reply });
        Ok((started, answer))
    }

    /// The version that a new run of the workflow takes under this id.
    fn active(&self, namespace: &Namespace, workflow: &str, id: &WorkflowId) -> Result<Arc<Active>, Error> {
        let context = &self.context;
        let found = context.workflows.for_run(&context.catalog, namespace, workflow, id).map_err(store_error)?;
        if let Some(active) = found {
            return Ok(active);
        }
        let known = context.catalog.versions(namespace, Some(workflow)).map_err(store_error)?;
        if known.is_empty() {
            let message = format!(
                "there is no workflow {workflow:?} in namespace {namespace}; `relive workflows` shows those there are, `relive deploy` adds one"
            );
            return Err(Error::new(ErrorKind::Validation, "unknown-workflow", message));
        }
        let message =
            format!("no version of {workflow} is active; `relive activate {workflow} --to N` makes one of them so");
        Err(Error::new(ErrorKind::Validation, "no-active-version", message))
    }

    /// Sends a message; its id. When it returns, the message is durable. The same id again is the same message.
    /// Refused with `unknown-channel` if the workflow declares its channels and this is none of them.
    pub async fn signal(&self, request: SignalRequest) -> Result<String, Error> {
        self.accepting()?;
        self.check_size(&request.input)?;
        let invalid = |e: relive_core::ids::NameError| Error::new(ErrorKind::Validation, "invalid-name", e.to_string());
        check_id(&request.channel, "channel").map_err(invalid)?;
        let given = request.message_id.is_some();
        let message_id = request.message_id.unwrap_or_else(ids::random);
        check_id(&message_id, "message id").map_err(invalid)?;
        let target = request.target;
        let sent = (target.clone(), message_id.clone());
        let channel: Arc<str> = request.channel.into();
        let sent_to = channel.clone();
        let known = given.then(|| message_id.clone());
        let find = move |engine: &Self| match engine.find_reader(&target, &sent_to) {
            Err(error) if error.code == "closed" => match known {
                // The retry of a message whose answer was lost: the run took it and has ended since.
                Some(id) if engine.has_received(&target, &id)? => Ok(None),
                _ => Err(error),
            },
            found => found.map(Some),
        };
        let Some(row) = self.blocking(find).await? else { return Ok(message_id) };
        let signal = SignalReceived { channel, message_id: message_id.as_str().into(), payload: request.input };
        let (reply, answer) = oneshot::channel();
        let mut body = EventBody::new(None, signal);
        body.trace_id = request.trace.map(|trace| trace.to_string().into());
        let incoming = Incoming { reply: Some(reply), ..Incoming::new(body) };
        self.context.registry.post(row.key, Message::Inbound(Box::new(incoming)));
        match self.answered(answer).await {
            // It ended between the look and the owner's: by this very message, if it came before.
            Err(error) if error.code == "closed" && given => {
                let (target, id) = sent;
                let received = self.blocking(move |engine| engine.has_received(&target, &id)).await?;
                if received { Ok(message_id) } else { Err(error) }
            }
            answered => answered.map(|()| message_id),
        }
    }

    /// The open execution, if it may read the channel.
    fn find_reader(&self, target: &Target, channel: &str) -> Result<ExecutionRow, Error> {
        let row = self.find_open(target)?;
        let context = &self.context;
        if let Some(declared) = context.workflows.declared(&context.catalog, &row.digest).map_err(store_error)? {
            declared.check(&row.workflow, channel).map_err(|e| e.at(&row.execution))?;
        }
        Ok(row)
    }

    /// Whether a run's history holds the message.
    fn has_received(&self, target: &Target, message_id: &str) -> Result<bool, Error> {
        let events = self.decoded(&self.find(target)?)?;
        Ok(events
            .iter()
            .any(|e| matches!(&e.body.attributes, Attributes::SignalReceived(s) if &*s.message_id == message_id)))
    }

    pub(crate) fn check_size(&self, input: &Json) -> Result<(), Error> {
        let limit = self.context.config.run_limits.payload_bytes as usize;
        if input.len() > limit {
            let message = format!(
                "the JSON has {} bytes; at most {limit} are allowed: keep large data elsewhere and pass a reference",
                input.len()
            );
            return Err(Error::new(ErrorKind::Validation, "payload-too-large", message));
        }
        Ok(())
    }

    /// Waits for an owner's answer.
    pub(crate) async fn answered<T>(&self, answer: oneshot::Receiver<Result<T, Error>>) -> Result<T, Error> {
        answer.await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Concurrency, "shutting-down", "the host let go of the execution; try again"))
        })
    }
}
