//! Putting a run on another version: the owner relives its history on it, and if they agree, an event says so and the run
//! goes on there. Nothing else happens in between: what arrives waits in the mailbox.

use std::sync::Arc;

use relive_core::{
    Error, ErrorKind, Timestamp,
    cursor::{Cursor, RunContext},
    event::{Attributes, EventBody, ExecutionUnblocked, HistoryEvent, VersionChanged},
    guest::GuestFault,
    life::{Life, TurnError},
    ports::Status,
};

use super::{BoxedLife, Owner, draft::Draft, load::decoded_history, turns::Abandon};
use crate::{abort, context::Context, facade::record, message::MigrateTo};

impl Owner {
    /// Puts the change into the draft, and the new life in the place of the old one. An error tells why the run stays.
    pub(super) fn migrate(
        &mut self,
        context: &Arc<Context>,
        draft: &mut Draft,
        to: &MigrateTo,
    ) -> Result<Result<(), Error>, Abandon> {
        let from = draft.row.digest;
        if from == to.version.digest && draft.row.status != Status::Blocked {
            return Ok(Ok(()));
        }
        let (mut life, events) = match self.relived_on(context, draft, to) {
            Ok(relived) => relived,
            Err(error) => return Ok(Err(error)),
        };
        abort::point("migrating");
        let changed = VersionChanged {
            from,
            digest: to.version.digest,
            version: to.version.version,
            answers: life.guest().cursor().versions().clone(),
            author: to.author.clone(),
            reason: to.reason.clone(),
        };
        draft.push(EventBody::new(None, changed), Timestamp(0))?;
        draft.moves_to(to.version.digest);
        if draft.row.status == Status::Blocked {
            let reason = format!("goes on on version {}", to.version.version);
            draft.push(EventBody::new(None, ExecutionUnblocked { reason }), Timestamp(0))?;
            draft.row.status = Status::Running;
            draft.row.blocked = None;
            draft.survived();
            self.tries = 0;
        }
        let applied_through = draft.row.applied_through;
        self.unapplied =
            events.into_iter().filter(|e| e.event_id > applied_through && e.event_type().is_inbound()).collect();
        self.life = Some(life);
        // What was kept of the old code fits the new one no more.
        context.images.forget(self.run);
        self.riding_image = None;
        self.image_at = 0;
        Ok(Ok(()))
    }

    fn relived_on(
        &self,
        context: &Arc<Context>,
        draft: &Draft,
        to: &MigrateTo,
    ) -> Result<(BoxedLife, Vec<HistoryEvent>), Error> {
        let refused = |code: &'static str, what: String| self.error(ErrorKind::Replay, code, what);
        let Some(row) = &self.row else {
            return Err(refused("busy", "the run is only just beginning; try again".to_owned()));
        };
        let unreadable = |what: String| refused("unusable", format!("the history cannot be read: {what}"));
        let mut events = decoded_history(&*context.store, self.run)
            .map_err(|e| self.store_error(&e))?
            .map_err(|violation| unreadable(violation.to_string()))?;
        // What others appended since comes as the tail of the append's conflict.
        events.truncate(usize::try_from(row.last_event_id).unwrap_or(usize::MAX));
        if events.last().is_none_or(|last| last.hash != row.last_hash) {
            return Err(unreadable("its last hash is not the row's".to_owned()));
        }
        let Some(Attributes::ExecutionStarted(started)) = events.first().map(|e| &e.body.attributes) else {
            return Err(unreadable("it does not begin with ExecutionStarted".to_owned()));
        };
        if started.export != to.version.export {
            let what = format!(
                "the run began as {:?}, and version {} exports the workflow as {:?}",
                started.export, to.version.version, to.version.export
            );
            return Err(refused("other-export", what));
        }
        let start = &events[0];
        let run = RunContext::new(started, &start.body, start.timestamp, to.version.digest);
        let version = to.version.version;
        let traps = |what: String| refused("traps", format!("version {version} does not come through: {what}"));
        let guest = context.guests.instantiate(&to.version.digest, Cursor::new(Arc::new(run)));
        // The host's trouble says nothing of the code.
        let cannot = |what: &str| {
            self.error(ErrorKind::EventStore, "store-unavailable", format!("the host cannot try it now: {what}"))
        };
        let mut life = Life::new(guest.map_err(|fault| match fault {
            GuestFault::Host(what) | GuestFault::Unavailable(what) => cannot(&what),
            fault => traps(fault.to_string()),
        })?);
        match life.relive(&events, record(row), u64::MAX) {
            Ok(_) if life.outcome().is_some() => {
                Err(refused("diverges", format!("version {version} ends where the run goes on")))
            }
            Ok(_) => Ok((life, events)),
            Err(TurnError::Diverged(divergence)) => {
                Err(refused("diverges", format!("version {version} and the history part: {divergence}")))
            }
            Err(TurnError::Unusable(what)) => Err(unreadable(what)),
            Err(TurnError::Fault(GuestFault::Host(what) | GuestFault::Unavailable(what))) => Err(cannot(&what)),
            Err(error) => Err(traps(error.to_string())),
        }
        .inspect_err(|error| {
            tracing::info!(execution = %draft.row.execution, version, %error, "an execution stays on its version");
        })
    }
}
