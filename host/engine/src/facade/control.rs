//! What operators do to an execution.

use relive_core::{
    Error, ErrorKind,
    event::{Attributes, CancelRequested, EventBody},
    options::ActivityOptions,
    ports::VersionRow,
};
use tokio::sync::oneshot;

use super::lookup::store_error;
use crate::{
    engine::Engine,
    message::{Control, Incoming, Message, MigrateTo, Reply, TaskChange},
    owner::{Decided, Decision},
    requests::Target,
    versions::Signed,
};

impl Engine {
    /// Asks an execution to cancel; its code may clean up. A second request is the same request.
    pub async fn cancel(&self, target: Target, reason: String) -> Result<(), Error> {
        let message = |reply| {
            let incoming =
                Incoming { reply: Some(reply), ..Incoming::new(EventBody::new(None, CancelRequested { reason })) };
            Message::Inbound(Box::new(incoming))
        };
        self.tell(target, message).await
    }

    /// Ends an execution at once; its code is not asked.
    pub async fn terminate(&self, target: Target, reason: String) -> Result<(), Error> {
        self.tell(target, |reply| Message::Control(Control::Terminate { reason, reply })).await
    }

    /// Lets a blocked execution try again. One that is not blocked stays as it is.
    pub async fn unblock(&self, target: Target, reason: String) -> Result<(), Error> {
        self.tell(target, |reply| Message::Control(Control::Unblock { reason, reply })).await
    }

    /// Puts an open execution on another version of its workflow, if that one agrees with its history; a blocked one goes on
    /// with it. On that version already, it stays as it is. `diverges` or `traps` tell why it stays on its own.
    pub async fn migrate(&self, target: Target, version: u32, signed: Signed) -> Result<(), Error> {
        let wanted = target.clone();
        let version = self.blocking(move |engine| engine.version_of(&wanted, version)).await?;
        let reason = signed.reason.as_deref().unwrap_or_default().to_owned();
        let to = Box::new(MigrateTo { version, author: signed.author, reason });
        self.tell(target, |reply| Message::Control(Control::Migrate { to, reply })).await
    }

    fn version_of(&self, target: &Target, version: u32) -> Result<VersionRow, Error> {
        let row = self.find_open(target)?;
        let all = self.context.catalog.versions(&target.namespace, Some(&row.workflow)).map_err(store_error)?;
        let known: Vec<String> = all.iter().map(|v| v.version.to_string()).collect();
        all.into_iter().find(|v| v.version == version).ok_or_else(|| {
            let message = format!("workflow {} has no version {version}; it has {}", row.workflow, known.join(", "));
            Error::new(ErrorKind::Validation, "unknown-version", message).at(&row.execution)
        })
    }

    /// Changes an activity that is not resolved: the step `command_no`. `unknown-step` if there is none.
    pub async fn change_activity(
        &self,
        target: Target,
        command_no: u64,
        change: TaskChange,
        note: String,
    ) -> Result<(), Error> {
        self.tell(target, |reply| Message::Control(Control::Task { command_no, change, note, reply })).await
    }

    /// Has the attempts of an exhausted activity begin again from the first, under the same idempotency key.
    /// `not-exhausted` if its attempts go on, `unknown-step` if there is none such.
    pub async fn redrive(&self, target: Target, command_no: u64, note: String) -> Result<(), Error> {
        self.decide(target, command_no, Decided::Redrive, note).await
    }

    /// Resolves an exhausted activity with how its last attempt ended: the workflow goes on with that failure.
    pub async fn give_up(&self, target: Target, command_no: u64, note: String) -> Result<(), Error> {
        self.decide(target, command_no, Decided::GiveUp, note).await
    }

    async fn decide(&self, target: Target, command_no: u64, what: Decided, note: String) -> Result<(), Error> {
        self.tell(target, |reply| Message::Decided(Box::new(Decision { command_no, what, note, reply }))).await
    }

    /// The options in force of an activity that is not resolved.
    pub async fn activity_options(&self, target: Target, command_no: u64) -> Result<ActivityOptions, Error> {
        self.blocking(move |engine| {
            let row = engine.find_open(&target)?;
            let store = &engine.context.store;
            let tasks = store.open_work(row.key).map_err(store_error)?.0;
            let unknown = || {
                let message = format!("there is no activity {command_no} that is not resolved");
                Error::new(ErrorKind::ActivityExecution, "unknown-step", message).at(&row.execution)
            };
            let task = tasks.into_iter().find(|t| t.command_no == command_no).ok_or_else(unknown)?;
            if let Some(options) = task.options {
                return Ok(ActivityOptions::clone(&options));
            }
            let events = store.read_from(row.key, task.event_id, 1).map_err(store_error)?;
            match events.first().and_then(|e| e.decode().ok()).map(|e| e.body.attributes) {
                Some(Attributes::TaskScheduled(scheduled)) => Ok(ActivityOptions::clone(&scheduled.options)),
                _ => Err(unknown()),
            }
        })
        .await
    }

    async fn tell(&self, target: Target, message: impl FnOnce(Reply) -> Message) -> Result<(), Error> {
        self.accepting()?;
        let row = self.blocking(move |engine| engine.find_open(&target)).await?;
        let (reply, answer) = oneshot::channel();
        self.context.registry.post(row.key, message(reply));
        self.answered(answer).await
    }
}
